"""Which IP addresses the service may connect to.

The tables are our own: what the standard library calls global includes addresses that lead to
private ones (NAT64, 6to4), multicast, and the metadata services of clouds. Sources: the special
purpose address registries of IANA, RFC 6890, RFC 4291, RFC 6052, RFC 5214.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from signalpost.domain.egress_ports import DEFAULT_PORTS, Ports
from signalpost.domain.subscription import IpNetwork

IpAddress = IPv4Address | IPv6Address

NOT_PUBLIC_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""IPv4 that is private, local, shared, reserved, for documentation or for groups."""

UNICAST_IPV6 = IPv6Network("2000::/3")
"""The only IPv6 space that is given to hosts of the Internet."""

NOT_PUBLIC_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3ffe::/16",
        "3fff::/20",
    )
)
"""What is special within that space: protocol assignments, documentation, former test beds."""

EMBEDDING_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
    )
)
"""IPv6 that a gateway turns into an IPv4 address which nobody here would have judged."""

ISATAP_INTERFACES = frozenset({0x00005EFE, 0x02005EFE})
"""Third quarter of an IPv6 address whose last one is an IPv4 address, under any prefix."""

METADATA = frozenset(
    ip_address(text)
    for text in (
        "100.100.100.200",
        "168.63.129.16",
        "169.254.0.23",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.42.42",
        "192.0.0.192",
        "fd00:42::42",
        "fd00:ec2::23",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)
"""Where clouds hand out credentials and settings of the machine that asks."""

_JUDGED_AS_ONE: tuple[IpNetwork, ...] = (
    *NOT_PUBLIC_IPV4,
    UNICAST_IPV6,
    *NOT_PUBLIC_IPV6,
    *EMBEDDING_IPV6,
    *(ip_network(text) for text in ("0.0.0.0/32", "127.0.0.0/8", "::/128", "::1/128")),
    *map(ip_network, METADATA),
)


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Where the operator lets the service connect: to public addresses, and to `allowed` ranges.

    `loopback` opens the loopback addresses as well, for development. Wherever it goes, only
    `ports` are connected to.
    """

    allowed: tuple[IpNetwork, ...] = ()
    loopback: bool = False
    ports: Ports = DEFAULT_PORTS

    def permits(self, address: IpAddress) -> bool:
        """Tell whether the service may connect to an address.

        An IPv4-mapped address is judged as its IPv4. A metadata address must be named as a
        single address (/32, /128): a range around it does not open it. Addresses that embed
        an IPv4 address in another way, and the unspecified ones, are refused whatever is allowed.
        """
        address = unmapped(address)
        if address.is_unspecified or _embeds_ipv4(address):
            return False
        if address in METADATA:
            return any(_is_exactly(network, address) for network in self.allowed)
        return is_public(address) or (self.loopback and address.is_loopback) or self.opens(address)

    def reaches(self, ranges: Collection[IpNetwork]) -> bool:
        """Tell whether one of the ranges has an address that the service may connect to."""
        edges = sorted(set(self._edges()), key=_place)
        return any(map(self._permits_one, _starts(ranges, edges)))

    def _permits_one(self, start: IpAddress) -> bool:
        # An IPv4-mapped address is in no range: what is dialled instead is IPv4.
        return unmapped(start) == start and self.permits(start)

    def _edges(self) -> Iterator[IpAddress]:
        """Yield the first address of whatever is judged as one, and the first one behind it."""
        for network in (*_JUDGED_AS_ONE, *self.allowed):
            yield network[0]
            with suppress(ValueError):  # nothing is behind the last of all
                yield network[-1] + 1

    def permits_port(self, port: int) -> bool:
        """Tell whether the service may connect to a port."""
        return any(port in ports for ports in self.ports)

    def opens(self, address: IpAddress) -> bool:
        """Tell whether the operator allowed a range that holds this address."""
        address = unmapped(address)
        return any(address in network for network in self.allowed)


def is_public(address: IpAddress) -> bool:
    """Tell whether an address belongs to a host that anyone on the Internet can reach."""
    address = unmapped(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_IPV4)
    return (
        address in UNICAST_IPV6
        and not any(address in network for network in NOT_PUBLIC_IPV6)
        and not _embeds_ipv4(address)
    )


def within(address: IpAddress, ranges: Collection[IpNetwork]) -> bool:
    """Tell whether an address lies in one of the ranges; true if there are none."""
    address = unmapped(address)
    return not ranges or any(address in network for network in ranges)


def unmapped(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv4-mapped one (`::ffff:a.b.c.d`) stands for.

    The system connects to that one; any other address is returned as it is.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _embeds_ipv4(address: IpAddress) -> bool:
    if isinstance(address, IPv4Address) or address.is_loopback:
        return False
    return (int(address) >> 32) & 0xFFFFFFFF in ISATAP_INTERFACES or any(
        address in network for network in EMBEDDING_IPV6
    )


def _starts(ranges: Collection[IpNetwork], edges: Sequence[IpAddress]) -> Iterator[IpAddress]:
    """Yield where something permitted can begin in ranges: where they do, or at an edge."""
    for network in ranges:
        first = bisect_left(edges, _place(network[0]), key=_place)
        last = bisect_right(edges, _place(network[-1]), key=_place)
        for start in (network[0], *edges[first:last]):
            yield start
            behind = _behind_96(start)
            if behind in network:
                yield behind


def _place(address: IpAddress) -> tuple[int, int]:
    return address.version, int(address)


def _behind_96(address: IpAddress) -> IpAddress:
    """Return the first address behind the /96 of an IPv6 address: all of that may be ISATAP."""
    if isinstance(address, IPv4Address):
        return address
    return IPv6Address(min((int(address) >> 32) + 1, 2**96 - 1) << 32)


def _is_exactly(network: IpNetwork, address: IpAddress) -> bool:
    return network.prefixlen == network.max_prefixlen and address in network
