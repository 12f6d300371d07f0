"""The addresses that an outgoing connection may reach. Does no look-ups and no I/O.

The ranges are those of the IANA registries of special-purpose IPv4 and IPv6 addresses (RFC 6890 and its successors);
the metadata services of the clouds lie in them and have a name of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_RANGES = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.100.100.200/32", "metadata"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "metadata"),
    ("169.254.169.254/32", "metadata"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fd00:ec2::254/128", "metadata"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
)
_REFUSED: tuple[tuple[Network, str], ...] = tuple((ip_network(network), kind) for network, kind in _RANGES)
_PUBLIC_IPV6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

_LABEL = "(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def refusal(address: Address, allowed: Sequence[Network]) -> str | None:
    """Returns the kind of range because of which `address` is refused, or None if it may be reached.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged as IPv4, since that is where packets go.
    """
    if any(address in network for network in allowed):
        return None
    if isinstance(address, IPv6Address):
        inner = _embedded_ipv4(address)
        if inner is not None:
            return refusal(inner, allowed)
    for network, kind in _REFUSED:
        if address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _PUBLIC_IPV6:
        return "reserved"
    return None


def parse_address(host: str) -> Address | None:
    """Returns the address if a URL's host is one, or None for a name.

    Raises ValueError for a host that is neither, and for an address in a form that programs read differently: one
    number, octal, hexadecimal, parts left out, or with a zone.
    """
    if ":" in host:
        if "%" in host:
            raise ValueError(f"{host!r} has a zone; write the address without it")
        return IPv6Address(host)
    host = host.lower()
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        try:
            return IPv4Address(host)
        except AddressValueError:
            raise ValueError(f"{host!r} is not an address of four decimal numbers, as in 192.0.2.7") from None
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host name")
    return None


def explain(host: str, address: Address, kind: str) -> str:
    """Returns the reason why an address is refused, with the setting that would permit it."""
    found = f"{host} is" if host == str(address) else f"{host} resolves to {address},"
    return f"{found} a {kind} address; [delivery] allow_networks must name its network to permit it"


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
