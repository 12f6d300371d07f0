"""Signatures of requests, and keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.assistant.requests import Stop, encode
from producers.assistant.signing import SIGNATURE, WINDOW, Keys, make_key, open_keys
from schemas.errors import InputError
from schemas.record import NewRecord, Record
from schemas.secrets import Secret
from tests.producers.assistant.fleet import KEY, NOW

STOP = Stop(id="r-1", time=NOW, region="cn-hangzhou", caller=7, invoke_id="t-1")
KEYS = Keys((KEY,), "log-1")


def appended(new: NewRecord, timestamp: int = NOW) -> Record:
    return Record("commands", 0, 0, timestamp, new.key, new.headers, new.value)


def test_verifying_a_signed_request_returns_it() -> None:
    assert KEYS.verify(appended(KEYS.sign(STOP))) == STOP


def test_a_key_that_is_being_replaced_still_verifies() -> None:
    both = Keys((b"n" * 32, KEY), "log-1")
    assert both.verify(appended(KEYS.sign(STOP))) == STOP
    with pytest.raises(InputError, match="not signed with a key of this deployment"):
        KEYS.verify(appended(both.sign(STOP)))


def test_a_request_signed_for_another_bus_is_refused() -> None:
    with pytest.raises(InputError, match="not signed with a key"):
        Keys((KEY,), "log-2").verify(appended(KEYS.sign(STOP)))


def test_a_request_without_a_signature_is_refused() -> None:
    with pytest.raises(InputError, match="is not signed"):
        KEYS.verify(appended(NewRecord("commands", encode(STOP))))


@given(st.integers(0, len(encode(STOP)) * 8 - 1))
def test_a_request_with_one_changed_bit_is_refused(bit: int) -> None:
    signed = KEYS.sign(STOP)
    value = bytearray(signed.value)
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InputError, match="or was changed"):
        KEYS.verify(appended(NewRecord("commands", bytes(value), None, signed.headers)))


@given(st.binary())
def test_a_request_with_another_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(InputError, match="or was changed"):
        KEYS.verify(appended(NewRecord("commands", encode(STOP), None, ((SIGNATURE, signature),))))


@pytest.mark.parametrize("late", [-WINDOW, 0, WINDOW])
def test_a_request_appended_within_the_window_is_accepted(late: int) -> None:
    assert KEYS.verify(appended(KEYS.sign(STOP), NOW + late)) == STOP


@pytest.mark.parametrize("late", [-WINDOW - 1, WINDOW + 1])
def test_a_request_appended_outside_the_window_is_refused(late: int) -> None:
    with pytest.raises(InputError, match="it is a copy, or the caller's clock is wrong"):
        KEYS.verify(appended(KEYS.sign(STOP), NOW + late))


def test_a_key_file_is_created_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "assistant.key"
    assert make_key(path)
    written = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not make_key(path)
    assert path.read_text() == written
    assert open_keys([Secret(f"file:{path}")], "log-1").values == (written.strip().encode(),)


def test_the_error_names_the_short_or_missing_key(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("x" * 31)
    with pytest.raises(InputError, match=r"assistant.keys: file:.*short has fewer than 32"):
        open_keys([Secret(f"file:{tmp_path}/short")], "log-1")
    with pytest.raises(InputError, match="No such file"):
        open_keys([Secret(f"file:{tmp_path}/none")], "log-1")


def test_the_repr_of_keys_hides_their_values() -> None:
    assert "kkk" not in repr(KEYS)
