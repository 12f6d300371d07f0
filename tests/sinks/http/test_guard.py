"""Addresses that may be reached."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.http.guard import explain, parse_address, refusal

REFUSED = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.1.2.3", "private"),
    ("100.64.0.1", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("100.100.100.200", "metadata"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "metadata"),
    ("169.254.169.254", "metadata"),
    ("169.254.0.1", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.170", "reserved"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "benchmarking"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.9", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::127.0.0.1", "reserved"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:7f00:1", "loopback"),
    ("::ffff:169.254.169.254", "metadata"),
    ("::ffff:0:127.0.0.1", "reserved"),
    ("64:ff9b::10.0.0.1", "private"),
    ("64:ff9b::a9fe:a9fe", "metadata"),
    ("64:ff9b:1::8.8.8.8", "reserved"),
    ("100::1", "reserved"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2001:20::1", "reserved"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "loopback"),
    ("2002:0a00:0001::1", "private"),
    ("3fff::1", "documentation"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "metadata"),
    ("fdff:ffff::1", "private"),
    ("fe80::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("4000::1", "reserved"),
]
PERMITTED = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2400:3200::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:0808:0808::1",
]


@pytest.mark.parametrize(("address", "kind"), REFUSED)
def test_a_special_address_is_refused(address: str, kind: str) -> None:
    assert refusal(ip_address(address), ()) == kind


@pytest.mark.parametrize("address", PERMITTED)
def test_a_public_address_is_permitted(address: str) -> None:
    assert refusal(ip_address(address), ()) is None


@pytest.mark.parametrize(
    ("address", "network", "permitted"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "127.0.0.2/32", False),
        ("::1", "127.0.0.0/8", False),
        ("::1", "::1/128", True),
        ("::ffff:127.0.0.1", "127.0.0.0/8", True),
        ("::ffff:127.0.0.1", "::ffff:0:0/96", True),
        ("::ffff:10.0.0.1", "127.0.0.0/8", False),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8", True),
        ("2002:0a00:0001::1", "10.0.0.0/8", True),
        ("fd12::1", "fc00::/7", True),
        ("100.100.100.200", "100.64.0.0/10", True),
    ],
)
def test_a_network_in_allow_networks_may_be_reached(address: str, network: str, permitted: bool) -> None:
    assert (refusal(ip_address(address), [ip_network(network)]) is None) is permitted


@given(st.ip_addresses(v=4).map(lambda found: IPv4Address(str(found))))
def test_an_embedded_ipv4_address_is_judged_as_ipv4(address: IPv4Address) -> None:
    number = int(address)
    wrapped = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address(0x2002 << 112 | number << 80),
    ]
    assert {refusal(one, ()) for one in wrapped} == {refusal(address, ())}
    named = [IPv4Network((number, 32))]
    assert {refusal(one, named) for one in wrapped} == {None}


@given(st.ip_addresses())
def test_permitted_addresses_are_global_in_the_standard_library_too(
    address: IPv4Address | IPv6Address,
) -> None:
    if refusal(address, ()) is None and address not in ip_network("2002::/16") and address.version == 4:
        assert address.is_global
        assert not address.is_multicast


ODD = [
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    "127.0.0.256",
    "1.2.3.4.5",
    "example.0x7f",
    "example.1",
    "0",
    "0x",
    "fe80::1%eth0",
    "fe80::1%25eth0",
    "::1%0",
    "::g",
    "1::2::3",
    "127.0.0.1:80",
]


@pytest.mark.parametrize("host", ODD)
def test_an_ambiguously_written_address_is_refused(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library's words for some
        parse_address(host)


@pytest.mark.parametrize(
    "host",
    ["", ".", "a..b", "-a.example", "a b", "exa\nmple", "x" * 64 + ".com", "a." * 130 + "com", "пример.рф"],
)
def test_invalid_hosts_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        parse_address(host)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "ops.example.com",
        "OPS.example.com.",
        "a_b.c-d.e1",
        "1.example",
        "xn--e1afmkfd.xn--p1ai",
        "7f.example",
        "0xg",
    ],
)
def test_host_names_are_not_addresses(host: str) -> None:
    assert parse_address(host) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "8.8.8.8", "::1", "::ffff:127.0.0.1", "2001:DB8::1"])
def test_addresses_are_parsed(host: str) -> None:
    assert parse_address(host) == ip_address(host)


@given(st.ip_addresses())
def test_every_plain_address_is_read_as_itself(address: IPv4Address | IPv6Address) -> None:
    assert parse_address(str(address)) == address


@given(st.text(max_size=30))
def test_any_text_is_an_address_a_name_or_refused(host: str) -> None:
    try:
        found = parse_address(host)
    except ValueError as error:
        problem = str(error)
        assert "\n" not in problem
    else:
        assert found is None or str(found)


def test_the_refusal_names_the_setting() -> None:
    assert explain("127.0.0.1", ip_address("127.0.0.1"), "loopback") == (
        "127.0.0.1 is a loopback address; [delivery] allow_networks must name its network to permit it"
    )
    assert "ops.example resolves to 10.0.0.1, a private address" in explain(
        "ops.example", ip_address("10.0.0.1"), "private"
    )
