"""Refusals of authorised requests by an agent."""

from __future__ import annotations

from schemas.execution import RecordState
from schemas.execution_errors import ERRORS, ErrorCode


class Refusal(Exception):  # noqa: N818 - reads as what it is
    """Raised if the agent does not carry out an authorised request. The execution record gets `code`, `state` and
    `info`, which is the usual text of the code with the reason `why`."""

    def __init__(self, code: ErrorCode, why: str = "", state: RecordState = RecordState.ERROR) -> None:
        usual = ERRORS[code].info
        self.code = code
        self.info = f"{usual}: {why}" if why else usual
        self.state = state
        super().__init__(self.info)
