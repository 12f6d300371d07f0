"""The query of a GET callback: the event's fields under their own names, since the vendor documents no others."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import msgspec
from yarl import URL

QUERY = ("ver", "id", "product", "resourceId", "level", "name", "userId", "eventTime", "regionId", "content")
"""Fields of the event that GET sends, in this order; a field that the event lacks is left out."""
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def query_url(url: URL, event: bytes) -> URL:
    """Returns the URL with the event's fields as query parameters: strings unquoted, `content` and all others as JSON.

    Raises ValueError if the event is not a JSON object.
    """
    try:
        fields = _fields_decoder.decode(event)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    query = urlencode([(name, _text(fields[name])) for name in QUERY if name in fields], quote_via=quote)
    joined = f"{url.raw_query_string}&{query}" if url.raw_query_string else query
    return URL(f"{url.with_query(None)}?{joined}", encoded=True)


def _text(raw: msgspec.Raw) -> str:
    text = bytes(raw)
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()
