"""Writing sent files."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from producers.assistant import files
from producers.assistant.accounts import Account
from producers.assistant.files import write_file
from producers.assistant.refusal import Refusal
from producers.assistant.requests import File
from schemas.execution import ContentType, RecordState
from schemas.execution_errors import ErrorCode

MARK = "agent/f-1/1"


def file(folder: Path, **fields: Any) -> File:
    values: dict[str, Any] = {"name": "a.txt", "content": "hello\n", "target_dir": str(folder), **fields}
    return File(**values)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def refused(sent: File) -> Refusal:
    with pytest.raises(Refusal) as found:
        write_file(sent, MARK)
    assert found.value.state is RecordState.FAILED
    return found.value


def test_a_file_is_written_with_its_mode_into_a_new_directory(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    write_file(file(folder, mode="0750"), MARK)
    assert (folder / "a.txt").read_text() == "hello\n"
    assert (folder / "a.txt").stat().st_mode & 0o7777 == 0o750
    assert names(folder) == ["a.txt"]


def test_base64_content_is_decoded(tmp_path: Path) -> None:
    data = bytes(range(256))
    write_file(file(tmp_path, content=b64encode(data).decode(), content_type=ContentType.BASE64), MARK)
    assert (tmp_path / "a.txt").read_bytes() == data


def test_an_existing_file_is_replaced_only_if_overwriting_is_allowed(tmp_path: Path) -> None:
    write_file(file(tmp_path), MARK)
    error = refused(file(tmp_path, content="other"))
    assert (error.code, error.info) == (ErrorCode.FILE_ALREADY_EXISTS, "File already exists: a.txt")
    assert (tmp_path / "a.txt").read_text() == "hello\n"
    write_file(file(tmp_path, content="other", overwrite=True), MARK)
    assert (tmp_path / "a.txt").read_text() == "other"
    assert names(tmp_path) == ["a.txt"]


def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "a.txt").symlink_to(tmp_path / "precious")
    assert refused(file(tmp_path)).code is ErrorCode.FILE_ALREADY_EXISTS
    write_file(file(tmp_path, overwrite=True), MARK)
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_target_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    assert refused(file(tmp_path / "x")).code is ErrorCode.FILE_PATH_INVALID


def test_a_file_cannot_replace_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    assert refused(file(tmp_path, overwrite=True)).code is ErrorCode.FILE_CREATE_FAIL
    assert names(tmp_path) == ["a.txt"]


def test_an_unknown_owner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"exists: no-such-user$") as found:
        write_file(file(tmp_path, owner="no-such-user"), MARK)
    assert found.value.code is ErrorCode.ACCOUNT_NOT_EXISTS
    assert names(tmp_path) == []


def test_an_owner_that_the_agent_may_not_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_descriptor: int, _uid: int, _gid: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", fails)
    assert refused(file(tmp_path, owner="root")).code is ErrorCode.FILE_AUTHORITY_INVALID
    assert names(tmp_path) == []


def test_a_file_without_a_directory_is_written_to_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def me(_name: str) -> Account:
        return Account(name="me", uid=1, gid=1, home=tmp_path, other=False)

    monkeypatch.setattr(files, "find_account", me)
    write_file(File(name="a.txt", content="x"), MARK)
    assert (tmp_path / "a.txt").exists()
