"""References to secrets."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from schemas.errors import InputError
from schemas.secrets import Secret


class Settings(BaseModel):
    token: Secret


def test_a_reference_is_read_at_each_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  one\n")
    in_file, in_environment = Secret(f"file:{path}"), Secret("env:HELIO_TOKEN")
    monkeypatch.setenv("HELIO_TOKEN", "two")
    assert (in_file.reveal(), in_environment.reveal()) == ("one", "two")
    path.write_text("three")
    monkeypatch.setenv("HELIO_TOKEN", "four")
    assert (in_file.reveal(), in_environment.reveal()) == ("three", "four")


def test_a_text_without_env_or_file_is_the_value_itself() -> None:
    assert Secret("Bearer env:x").reveal() == "Bearer env:x"


def test_references_are_shown_and_values_are_masked() -> None:
    assert repr(Secret("hunter2")) == "Secret('***')"
    assert f"{Secret('env:A')} {Secret('file:/b')} {Secret('hunter2')}" == "env:A file:/b ***"
    settings = Settings.model_validate({"token": "hunter2"})
    assert settings.token.reveal() == "hunter2"
    assert "hunter2" not in repr(settings) + settings.model_dump_json() + str(settings.model_dump())


def test_the_error_names_the_unreadable_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELIO_TOKEN", raising=False)
    with pytest.raises(InputError, match="env:HELIO_TOKEN: the environment has no variable HELIO_TOKEN"):
        Secret("env:HELIO_TOKEN").reveal()
    with pytest.raises(InputError, match=f"file:{tmp_path}/no: No such file"):
        Secret(f"file:{tmp_path}/no").reveal()
    with pytest.raises(InputError, match="Is a directory"):
        Secret(f"file:{tmp_path}").reveal()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not text in UTF-8"):
        Secret(f"file:{tmp_path}/binary").reveal()


@pytest.mark.parametrize("value", ["", 5, None, ["env:A"]])
def test_only_text_that_is_not_empty_is_read_as_a_secret(value: object) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"token": value})
