"""The query of a GET callback."""

import json
from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from sinks.callback.query import QUERY, query_url
from sinks.http.url import parse_url


def test_get_leaves_out_what_the_event_lacks_and_keeps_the_urls_own_query() -> None:
    event = b'{"id":"a","ver":2,"content":"{\\"x\\":1}","level":null}'
    found = query_url(parse_url("http://ops.test/hook?token=a%2Fb&id=1"), event)
    assert (
        str(found) == "http://ops.test/hook?token=a%2Fb&id=1&ver=2&id=a&level=null&content=%7B%22x%22%3A1%7D"
    )


@given(st.dictionaries(st.sampled_from(QUERY), st.text()))
def test_any_text_survives_the_query(fields: dict[str, str]) -> None:
    found = query_url(URL("http://ops.test/"), json.dumps(fields).encode())
    assert dict(parse_qsl(found.raw_query_string, keep_blank_values=True)) == fields
