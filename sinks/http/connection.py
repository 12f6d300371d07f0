"""One connection: writes a request, reads one response. Bytes that arrive without a request close the connection."""

from __future__ import annotations

import asyncio
from typing import cast

from schemas.delivery import Reason, ReasonCode
from sinks.http.failures import describe_failure
from sinks.http.lines import one_line
from sinks.http.request import BODY_KEPT
from sinks.http.response import Response, ResponseReader


class Connection(asyncio.Protocol):
    """Carries one exchange at a time, for as long as it is `open`.

    `address`: the other end; `timeout`: seconds that a request may take, named in the reason when it times out.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self.open = True
        self._address = address
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader()
        self._waiting: asyncio.Future[Response | Reason] | None = None

    async def exchange(
        self, request: bytes, deadline: float, body_kept: int = BODY_KEPT
    ) -> Response | Reason:
        """Sends an encoded request; returns the response, or the reason why there is none.

        Once a status has arrived the result is a response, also if its body breaks off or times out. `deadline`: by the
        loop's clock; `body_kept`: as in `Request`.
        """
        if self._transport is None or not self.open:
            return self._reason(ReasonCode.UNREACHABLE, "the connection was closed before the request")
        self._reader.begin(body_kept)
        waiting: asyncio.Future[Response | Reason] = self._loop.create_future()
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
        """Closes the connection at once; bytes that the receiver has not read are lost."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport. asyncio calls this once connected, with TLS after the handshake."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Passes received bytes to the reader of the response."""
        if self._waiting is None:
            self.close()
        elif self._reader.feed(data):
            self._end(ReasonCode.RECEIVER_FAILED, f"the answer is not HTTP: {self._reader.problem}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the exchange: with its response if the close ends the body, otherwise with a failure."""
        self.open = False
        if exc is None:
            self._end(ReasonCode.UNREACHABLE, "the connection was closed without an answer")
        else:
            reason = describe_failure(exc, self._address, self._timeout)
            self._end(reason.code, reason.detail)

    def _time_out(self) -> None:
        self._end(ReasonCode.TIMED_OUT, f"no answer within {self._timeout:g} s")

    def _end(self, code: ReasonCode, detail: str) -> None:
        """Ends the exchange, if there is one: with the response, or with the reason given if no status has arrived."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            has_status = self._reader.status
            waiting.set_result(
                self._reader.response(self._address) if has_status else self._reason(code, detail)
            )
        if self.open and not (self._reader.reusable and self._all_sent()):
            self.close()

    def _all_sent(self) -> bool:
        """True if the whole request was sent: an unsent rest would be read as the beginning of the next request."""
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def _reason(self, code: ReasonCode, detail: str) -> Reason:
        return Reason(code, one_line(detail.encode()), address=self._address)
