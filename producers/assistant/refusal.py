"""Why an agent does not do what an authorised caller asked for."""

from __future__ import annotations

from schemas.execution import RecordState
from schemas.execution_errors import ERRORS, ErrorCode


class Refusal(Exception):  # noqa: N818 - reads as what it is
    """What the record gets: the code, its usual text with what is to be said of this case, and the state."""

    def __init__(self, code: ErrorCode, why: str = "", state: RecordState = RecordState.ERROR) -> None:
        usual = ERRORS[code].info
        self.code = code
        self.info = f"{usual}: {why}" if why else usual
        self.state = state
        super().__init__(self.info)
