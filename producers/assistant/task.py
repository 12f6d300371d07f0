"""Executes one run on this host, from the request to the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from producers.assistant.accounts import Account, find_account
from producers.assistant.files import write_file
from producers.assistant.output import Output
from producers.assistant.parameters import fill_placeholders, secret_names
from producers.assistant.process import Ended, Exited, Launch, Process, Stopped, TimedOut
from producers.assistant.refusal import Refusal
from producers.assistant.reporting import Error, Progress
from producers.assistant.requests import Invocation, Run, SendFile
from producers.assistant.scripts import interpreter, script_file
from schemas.errors import InputError
from schemas.execution import RecordState
from schemas.execution_errors import ERRORS, ErrorCode
from schemas.secrets import Secret


@dataclass(frozen=True, slots=True)
class Host:
    """Properties that all runs of an agent share. `secrets`: values of `{{secret:NAME}}`; `mark`: distinguishes the
    processes and folders of this agent from those of others; `clock`: milliseconds since the epoch."""

    secrets: Mapping[str, Secret]
    mark: str
    clock: Callable[[], int]

    @property
    def folder_prefix(self) -> str:
        """Prefix of the folders of running scripts."""
        return f"heliograph-{self.mark}-"

    def run_mark(self, invoke_id: str, repeats: int) -> str:
        """Returns the mark of the processes of one run."""
        return f"{self.mark}/{invoke_id}/{repeats}"


class Task:
    """One run, in a thread of its own. `execute` blocks; any thread may call `progress`, `stop` and `abandon`."""

    def __init__(self, invocation: Invocation, repeats: int, host: Host) -> None:
        self.invocation = invocation
        self.repeats = repeats
        self._host = host
        self._started = host.clock()
        self._stopped: int | None = None
        self._output = Output()
        self._process = Process()

    def execute(self) -> Progress:
        """Runs the command or writes the file; returns the result."""
        try:
            match self.invocation:
                case Run():
                    return self._run(self.invocation)
                case SendFile():
                    write_file(
                        self.invocation.file, self._host.run_mark(self.invocation.invoke_id, self.repeats)
                    )
                    return self._progress(RecordState.SUCCESS)
        except Refusal as refused:
            return self._progress(refused.state, Error(refused.code, refused.info))

    def progress(self) -> Progress:
        """Returns the state of a run that has not ended."""
        state = RecordState.RUNNING if self._stopped is None else RecordState.STOPPING
        return self._progress(state)

    def stop(self, at: int) -> None:
        """Ends the run because of a request to stop it, which was sent at the time `at`."""
        self._stopped = at
        self._process.stop()

    def abandon(self) -> None:
        """Ends the run because the agent is closing."""
        self._process.stop()

    def _run(self, run: Run) -> Progress:
        secrets = self._reveal(run)
        self._output = Output(secrets.values())
        account = find_account(run.username)
        folder = _folder(run, account)
        command_line = interpreter(run.command.type, run.command.content)
        script = fill_placeholders(run.command.content, run.parameters, secrets)
        try:
            with script_file(run.command.type, script, account, self._host.folder_prefix) as path:
                mark = self._host.run_mark(run.invoke_id, self.repeats)
                launch = Launch(
                    arguments=[*command_line, str(path)],
                    folder=folder,
                    account=account,
                    timeout=run.command.timeout,
                    mark=mark,
                )
                return self._ended(self._process.run(launch, self._output))
        except OSError as error:
            raise Refusal(ErrorCode.EXECUTION_EXCEPTION, str(error)) from None

    def _reveal(self, run: Run) -> dict[str, str]:
        """Returns the secrets that the command uses, by name."""
        revealed: dict[str, str] = {}
        for name in secret_names(run.command.content):
            if name not in self._host.secrets:
                raise Refusal(
                    ErrorCode.EXECUTION_EXCEPTION,
                    f"the agent has no secret {name}; start it with --secret {name}=env:… or file:…",
                )
            try:
                revealed[name] = self._host.secrets[name].reveal()
            except InputError as error:
                raise Refusal(ErrorCode.EXECUTION_EXCEPTION, f"secret {name}: {error}") from None
        return revealed

    def _ended(self, ended: Ended) -> Progress:
        match ended:
            case Exited(0):
                return self._progress(RecordState.SUCCESS, exit_code=0)
            case Exited(code):
                return self._progress(RecordState.FAILED, _usual(ErrorCode.EXIT_CODE_NONZERO), code)
            case TimedOut():
                return self._progress(RecordState.TIMEOUT, _usual(ErrorCode.EXECUTION_TIMEOUT))
            case Stopped() if self._stopped is not None:
                return self._progress(RecordState.TERMINATED)
            case Stopped():
                return self._progress(RecordState.ERROR, _usual(ErrorCode.EXECUTION_INTERRUPTED))

    def _progress(
        self, state: RecordState, error: Error | None = None, exit_code: int | None = None
    ) -> Progress:
        return Progress(
            state=state,
            updated=self._host.clock(),
            output=self._output.tail(),
            error=error,
            exit_code=exit_code,
            started=self._started,
            stopped=self._stopped,
        )


def interrupted(invocation: Invocation, started: int, now: int) -> Progress:
    """Returns the result of a run whose agent was killed while it ran."""
    is_file = isinstance(invocation, SendFile)
    code = ErrorCode.FILE_CREATE_FAIL if is_file else ErrorCode.EXECUTION_INTERRUPTED
    why = "; the agent ended during the run, and an unknown part of the run was done"
    return Progress(RecordState.ERROR, now, error=Error(code, ERRORS[code].info + why), started=started)


def _usual(code: ErrorCode) -> Error:
    return Error(code, ERRORS[code].info)


def _folder(run: Run, account: Account) -> Path:
    """Returns the working directory: the command's own, or else the user's home, or else the root directory."""
    named = run.command.working_dir
    try:
        if not named:
            return account.home if account.home.is_dir() else Path("/")
        if Path(named).is_dir():
            return Path(named)
    except OSError as error:
        raise Refusal(ErrorCode.DIRECTORY_NOT_EXISTS, f"{named or account.home}: {error.strerror}") from None
    raise Refusal(ErrorCode.DIRECTORY_NOT_EXISTS, named)
