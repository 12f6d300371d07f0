"""One connection: a request is written, one answer is read. What comes unasked costs the connection."""

from __future__ import annotations

import asyncio
from typing import cast

from schemas.delivery import Reason, ReasonCode
from sinks.http.failures import failed
from sinks.http.outcomes import Answer, one_line
from sinks.http.reader import AnswerReader


class Connection(asyncio.Protocol):
    """Carries one exchange at a time, for as long as it is `open`.

    `address`: what it is connected to; `timeout`: seconds that a call has, for what is said of one that took longer.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self.open = True
        self._address = address
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._waiting: asyncio.Future[Answer | Reason] | None = None

    async def exchange(self, request: bytes, deadline: float) -> Answer | Reason:
        """Send a whole request; the answer, or why there is none. Once a status has come that is the answer, whatever
        its body does. `deadline`: by the loop's clock."""
        if self._transport is None or not self.open:
            return self._reason(ReasonCode.UNREACHABLE, "the connection was closed before the request")
        self._reader.begin()
        waiting: asyncio.Future[Answer | Reason] = self._loop.create_future()
        self._waiting = waiting
        timer = self._loop.call_at(deadline, self._time_out)
        self._transport.write(request)
        try:
            return await waiting
        except asyncio.CancelledError:
            self._waiting = None
            self.close()
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Let go of it at once, without waiting for the receiver to read what was sent."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, and TLS agreed on."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on in the answer."""
        if self._waiting is None:
            self.close()
        elif self._reader.feed(data):
            self._end(ReasonCode.RECEIVER_FAILED, f"the answer is not HTTP: {self._reader.problem}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: of a body without a length, or of an exchange that has no answer."""
        self.open = False
        if exc is None:
            self._end(ReasonCode.UNREACHABLE, "the connection was closed without an answer")
        else:
            reason = failed(exc, self._address, self._timeout)
            self._end(reason.code, reason.detail)

    def _time_out(self) -> None:
        self._end(ReasonCode.TIMED_OUT, f"no answer within {self._timeout:g} s")

    def _end(self, code: ReasonCode, detail: str) -> None:
        """End the exchange, if there is one: with the answer, or if no status has come with what is said instead."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            answered = self._reader.status
            waiting.set_result(self._reader.answer(self._address) if answered else self._reason(code, detail))
        if self.open and not (self._reader.reusable and self._all_sent()):
            self.close()

    def _all_sent(self) -> bool:
        """Whether the answer did not come before all of the request was sent, the rest of which would spoil the next."""
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def _reason(self, code: ReasonCode, detail: str) -> Reason:
        return Reason(code, one_line(detail.encode()), address=self._address)
