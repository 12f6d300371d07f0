"""Look-ups of host names."""

import asyncio
from ipaddress import ip_address, ip_network

import pytest

from sinks.http.names import Forbidden, Resolver, look_up, select_permitted, with_port
from tests.sinks.http.asking import finds

PUBLIC, PRIVATE = ip_address("1.1.1.1"), ip_address("10.0.0.1")


def test_localhost_is_looked_up() -> None:
    assert ip_address("127.0.0.1") in look_up("localhost")


def test_an_address_is_written_with_its_port() -> None:
    assert with_port(ip_address("192.0.2.7"), 443) == "192.0.2.7:443"
    assert with_port(ip_address("2001:db8::1"), 443) == "[2001:db8::1]:443"


def test_permitted_addresses_keep_their_order() -> None:
    found = [PRIVATE, PUBLIC, ip_address("::1"), ip_address("8.8.8.8")]
    assert select_permitted("ops.test", found, ()) == [PUBLIC, ip_address("8.8.8.8")]
    assert select_permitted("ops.test", found, [ip_network("10.0.0.0/8")])[0] == PRIVATE


def test_the_first_refused_address_is_named() -> None:
    with pytest.raises(Forbidden, match=r"ops\.test resolves to 10\.0\.0\.1, a private address"):
        select_permitted("ops.test", [PRIVATE, ip_address("::1")], ())


def test_a_host_without_addresses_is_not_a_refusal() -> None:
    with pytest.raises(OSError, match=r"no address found for ops\.test"):
        select_permitted("ops.test", [], ())


def test_an_address_is_not_looked_up() -> None:
    resolver = Resolver("127.0.0.1", [ip_network("127.0.0.0/8")], finds("8.8.8.8"))
    assert asyncio.run(resolver.find_addresses()) == [ip_address("127.0.0.1")]
