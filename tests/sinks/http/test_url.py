"""URLs of receivers."""

import pytest

from sinks.http.url import parse_url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ops.test/hook",
        "ftp://ops.test/",
        "file:///etc/passwd",
        "http://",
        "http:///hook",
        "http://user@ops.test/",
        "http://user:hunter2@ops.test/",
        "http://:hunter2@ops.test/",
        "http://ops.test:0/",
        "http://ops.test:99999/",
        "http://ops.test:x/",
        "http://ops.test/a b",
        "http://ops.test/\nX: 1",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "http://-ops.test/",
    ],
)
def test_a_url_that_cannot_be_called_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words differ
        parse_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("https://ops.test", "https://ops.test/"),
        ("HTTP://OPS.test:8080/a?b=c#d", "http://ops.test:8080/a?b=c"),
        ("http://[2606:4700::1111]:81/%2F", "http://[2606:4700::1111]:81/%2F"),
        ("http://пример.рф/", "http://xn--e1afmkfd.xn--p1ai/"),
        (
            "http://ops.test/%7Ea/é?sig=a%2Fb+c%3D&d={é}",
            "http://ops.test/%7Ea/%C3%A9?sig=a%2Fb+c%3D&d=%7B%C3%A9%7D",
        ),
    ],
)
def test_a_valid_url_is_accepted(url: str, called: str) -> None:
    assert str(parse_url(url)) == called
