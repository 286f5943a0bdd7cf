import ipaddress
import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalpost.domain import address as address_module
from signalpost.domain.address import EgressPolicy, IpAddress, is_public, unmapped, within
from signalpost.domain.subscription import IpNetwork

NOTHING_ALLOWED = EgressPolicy()
EVERYTHING_ALLOWED = EgressPolicy(allowed=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))

# Written down once more, from the registries, so that a slip in the table shows.
UNSPECIFIED = "0.0.0.0"  # noqa: S104
CLOSED_IPV4 = [
    (UNSPECIFIED, "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.31.196.0", "192.31.196.255"),
    ("192.52.193.0", "192.52.193.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("192.175.48.0", "192.175.48.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
]
OPEN_IPV4 = [
    "1.0.0.0",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.1.255",
    "192.0.3.0",
    "192.31.195.255",
    "192.31.197.0",
    "192.52.192.255",
    "192.52.194.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "192.175.47.255",
    "192.175.49.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
]
CLOSED_IPV6 = [
    "::",
    "::1",
    "::2",
    "::ffff:ffff",
    "64:ff9b::1",
    "64:ff9b:1::1",
    "100::1",
    "100:0:0:1::1",
    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001::",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::",
    "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2620:4f:8000::",
    "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
    "3ffe::",
    "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff::",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    "4000::",
    "5f00::1",
    "8000::1",
    "fc00::1",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
OPEN_IPV6 = [
    "2000::",
    "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:200::1",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2003::",
    "2606:4700:4700::1111",
    "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
    "2620:4f:8001::",
    "3ffd:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff:1000::",
]
METADATA = [
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.42.42",
    "192.0.0.192",
    "fd00:42::42",
    "fd00:ec2::254",
    "fd20:ce::254",
]
IPV4_TO_EMBED = ["10.0.0.1", "169.254.169.254", "8.8.8.8"]


def ip(text: str) -> IpAddress:
    return ipaddress.ip_address(text)


def net(text: str) -> IpNetwork:
    return ipaddress.ip_network(text)


def embeddings(text: str) -> list[IPv6Address]:
    value = int(IPv4Address(text))
    teredo = IPv6Address("2001:0:4136:e378::")
    return [
        IPv6Address(value),
        IPv6Address(int(IPv6Address("::ffff:0:0:0")) | value),
        IPv6Address(int(IPv6Address("64:ff9b::")) | value),
        IPv6Address(int(IPv6Address("64:ff9b:1::")) | value),
        IPv6Address(int(IPv6Address("2002::")) | value << 80),
        IPv6Address(int(teredo) | (value ^ 0xFFFFFFFF)),
        IPv6Address(int(teredo) & ~(0xFFFFFFFF << 64) | value << 64),
        IPv6Address(int(IPv6Address("2606:4700::5efe:0:0")) | value),
        IPv6Address(int(IPv6Address("2606:4700::200:5efe:0:0")) | value),
    ]


@pytest.mark.parametrize(("first", "last"), CLOSED_IPV4)
def test_a_special_ipv4_range_is_closed_from_end_to_end(first: str, last: str) -> None:
    assert not NOTHING_ALLOWED.permits(ip(first))
    assert not NOTHING_ALLOWED.permits(ip(last))
    middle = IPv4Address((int(ip(first)) + int(ip(last))) // 2)
    assert not NOTHING_ALLOWED.permits(middle)


@pytest.mark.parametrize("text", OPEN_IPV4 + OPEN_IPV6)
def test_public_addresses_next_to_special_ranges_are_open(text: str) -> None:
    assert NOTHING_ALLOWED.permits(ip(text))


@pytest.mark.parametrize("text", CLOSED_IPV6)
def test_special_ipv6_addresses_are_closed(text: str) -> None:
    assert not NOTHING_ALLOWED.permits(ip(text))


@settings(max_examples=2000)
@given(value=st.integers(0, 2**128 - 1))
def test_ipv6_outside_of_unicast_space_is_closed(value: int) -> None:
    address = IPv6Address(value)
    if address in IPv6Network("2000::/3"):
        address = IPv6Address(value ^ 1 << 127)
    if address.ipv4_mapped is None:
        assert not NOTHING_ALLOWED.permits(address)


def test_a_hundred_thousand_addresses_outside_of_unicast_space_are_closed() -> None:
    chance = random.Random(6)
    for _ in range(100_000):
        # Any three leading bits but 001.
        value = (chance.choice([0, 2, 3, 4, 5, 6, 7]) << 125) | chance.getrandbits(125)
        address = IPv6Address(value)
        assert address.ipv4_mapped is not None or not NOTHING_ALLOWED.permits(address)


@settings(max_examples=500)
@given(value=st.integers(0, 2**32 - 1))
def test_a_mapped_address_is_judged_as_its_ipv4(value: int) -> None:
    four = IPv4Address(value)
    mapped = IPv6Address(0xFFFF << 32 | value)
    assert unmapped(mapped) == four
    assert is_public(mapped) is is_public(four)
    policy = EgressPolicy(allowed=(net("10.1.0.0/16"),), loopback=True)
    assert policy.permits(mapped) is policy.permits(four)


@pytest.mark.parametrize("text", IPV4_TO_EMBED)
def test_an_embedded_ipv4_is_refused_whatever_the_operator_allows(text: str) -> None:
    for address in embeddings(text):
        assert not NOTHING_ALLOWED.permits(address), address
        assert not EVERYTHING_ALLOWED.permits(address), address
        assert not EgressPolicy(allowed=(IPv6Network(address),)).permits(address), address


def test_the_unspecified_addresses_are_refused_whatever_the_operator_allows() -> None:
    assert not EVERYTHING_ALLOWED.permits(ip(UNSPECIFIED))
    assert not EVERYTHING_ALLOWED.permits(ip("::"))


@pytest.mark.parametrize("text", METADATA)
def test_a_metadata_address_opens_only_by_its_own_name(text: str) -> None:
    address = ip(text)
    around = ipaddress.ip_network(f"{text}/{address.max_prefixlen - 1}", strict=False)
    assert not NOTHING_ALLOWED.permits(address)
    assert not EVERYTHING_ALLOWED.permits(address)
    assert not EgressPolicy(allowed=(around,)).permits(address)
    assert EgressPolicy(allowed=(net(text),)).permits(address)
    assert address in address_module.METADATA


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ("10.1.0.0/16", ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]),
        ("127.0.0.2/32", ["127.0.0.2"], ["127.0.0.1", "127.0.0.3", "::1"]),
        ("fd12::/16", ["fd12::", "fd12:ffff::"], ["fd11:ffff::", "fd13::", "10.1.0.0"]),
        ("::1/128", ["::1"], ["127.0.0.1"]),
    ],
)
def test_an_allowed_range_opens_exactly_itself(
    allowed: str, inside: list[str], outside: list[str]
) -> None:
    policy = EgressPolicy(allowed=(net(allowed),))
    assert all(policy.permits(ip(text)) and policy.opens(ip(text)) for text in inside)
    assert not any(policy.permits(ip(text)) or policy.opens(ip(text)) for text in outside)
    assert policy.permits(ip("8.8.8.8"))


def test_loopback_opens_with_the_switch_for_development_only() -> None:
    policy = EgressPolicy(loopback=True)
    for text in ("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"):
        assert policy.permits(ip(text))
        assert not NOTHING_ALLOWED.permits(ip(text))
    for text in ("10.0.0.1", "169.254.169.254", "::", UNSPECIFIED, "fe80::1"):
        assert not policy.permits(ip(text))


def test_ranges_of_a_subscription_narrow() -> None:
    ranges = (net("8.8.8.0/24"), net("2606:4700::/32"))
    assert within(ip("8.8.8.8"), ranges)
    assert within(ip("::ffff:8.8.8.8"), ranges)
    assert within(ip("2606:4700::1"), ranges)
    assert not within(ip("8.8.9.0"), ranges)
    assert not within(ip("2606:4701::1"), ranges)
    assert within(ip("8.8.9.0"), ())


POLICIES = [
    NOTHING_ALLOWED,
    EVERYTHING_ALLOWED,
    EgressPolicy(loopback=True),
    EgressPolicy(
        allowed=tuple(
            map(net, ("10.1.128.0/17", "169.254.169.254/32", "fd00:ec2::/120", "::ffff:0:0/96"))
        )
    ),
]
CURIOUS = [ip(text) for text in OPEN_IPV4 + OPEN_IPV6 + CLOSED_IPV6 + METADATA]
CURIOUS += [ip(text) for pair in CLOSED_IPV4 for text in pair]
CURIOUS += [one for text in IPV4_TO_EMBED for one in embeddings(text)]
CURIOUS += [ip("10.1.127.255"), ip("10.1.128.0"), ip("fd00:ec2::23"), ip("fd00:ec2::ff")]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [0, 1, 4, 7])
def test_a_small_range_is_reached_exactly_if_one_of_its_addresses_is(
    policy: EgressPolicy, size: int
) -> None:
    for address in CURIOUS:
        around = ipaddress.ip_network(f"{address}/{address.max_prefixlen - size}", strict=False)
        each = [one for one in around if unmapped(one) == one]
        assert policy.reaches([around]) is any(map(policy.permits, each)), around


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("10.0.0.0/8", False),
        ("8.0.0.0/6", True),  # its middle is private
        ("127.0.0.0/8", False),
        ("172.0.0.0/11", True),
        ("172.16.0.0/12", False),
        ("192.0.0.0/22", True),  # 192.0.1.0/24 and 192.0.3.0/24 alone
        ("224.0.0.0/3", False),
        ("fc00::/7", False),
        ("::/3", False),
        ("2000::/3", True),
        ("2001::/22", True),
        ("2001::/23", False),
        ("::ffff:8.8.8.0/120", False),  # as addresses, these are IPv4
        ("2606:4700:0:0:0:5efe::/96", False),
        ("2606:4700:0:0:0:5efe::/95", True),
        ("2606:4700:0:0:200:5efe::/96", False),
    ],
)
def test_a_range_is_reached_if_anything_in_it_is_public(text: str, *, reached: bool) -> None:
    assert NOTHING_ALLOWED.reaches([net(text)]) is reached


@settings(max_examples=500)
@given(data=st.data())
def test_any_range_around_an_address_that_is_permitted_is_reached(data: st.DataObject) -> None:
    policy = data.draw(st.sampled_from(POLICIES))
    address = data.draw(st.sampled_from(CURIOUS))
    length = data.draw(st.integers(0, address.max_prefixlen))
    around = ipaddress.ip_network(f"{address}/{length}", strict=False)
    if policy.permits(address) and unmapped(address) == address:
        assert policy.reaches([around])
