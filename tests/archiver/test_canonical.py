"""The canonical byte form of records."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.format.canonical import HeaderBytes, ParsedHeaders, records_sha256
from schemas.record import Headers, Record
from tests.archiver.making import TOPIC, headers, record_lists


@given(headers)
def test_headers_are_read_back_from_their_canonical_bytes(given_headers: Headers) -> None:
    assert ParsedHeaders()[HeaderBytes()[given_headers]] == given_headers


@given(headers, st.data())
def test_cut_or_longer_bytes_are_not_headers(given_headers: Headers, data: st.DataObject) -> None:
    encoded = HeaderBytes()[given_headers]
    end = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:end], encoded + b"\0"):
        with pytest.raises(ValueError, match="headers"):
            _ = ParsedHeaders()[wrong]


def test_the_canonical_form_is_as_documented() -> None:
    record = Record(TOPIC, 0, 1, 2, None, (("né", b"ab"),), b"xyz")
    expected = (
        (1).to_bytes(8, "big")
        + (2).to_bytes(8, "big")
        + b"\xff\xff\xff\xff"
        + b"\0\0\0\1"
        + b"\0\0\0\3n\xc3\xa9"
        + b"\0\0\0\2ab"
        + b"\0\0\0\3xyz"
    )
    assert records_sha256([record]) == hashlib.sha256(expected).hexdigest()


@given(record_lists(), record_lists())
def test_different_records_have_different_hashes(one: list[Record], two: list[Record]) -> None:
    assert (records_sha256(one) == records_sha256(two)) == (one == two)


def test_no_key_is_not_an_empty_key() -> None:
    none, empty = (Record(TOPIC, 0, 0, 0, key, (), b"") for key in (None, b""))
    assert records_sha256([none]) != records_sha256([empty])
