"""What is connected to when every address answers: an internet in a network namespace.

Nothing leaves the machine: the namespace has a loopback interface only, to which all addresses
are routed.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Require
from tests.namespaces import with_own_network

pytestmark = pytest.mark.needs_root

ROOT = Path(__file__).parents[2]
SETUP = (
    "ip link set lo up"
    " && ip route add local 0.0.0.0/0 dev lo"
    " && { ip -6 route add local ::/0 dev lo || exit 77; }"
    ' && exec "$0" -m tests.sender.internet'
)

FORBIDDEN = [
    "0.0.0.1",
    "10.0.0.5",
    "100.64.0.1",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.1.1",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.1.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "::1",
    "100::1",
    "100:0:0:1::1",
    "2001:db8::1",
    "2620:4f:8000::1",
    "3ffe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fec0::1",
    # Metadata services.
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
]
EMBEDDING = [
    "::a00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "2001::1",
    "2002:808:808::1",
    "2606:4700::5efe:808:808",
]
NO_HOST = ["224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1", "fe80::1", "0.0.0.0", "::"]  # noqa: S104
PUBLIC = ["8.8.8.8", "100.63.255.255", "172.32.0.0", "2606:4700:4700::1111", "2001:200::1"]

Answers = dict[str, Any]


def visit(
    require: Require,
    addresses: list[str],
    *,
    allowed: tuple[str, ...] = (),
    zone: dict[str, list[str]] | None = None,
) -> Answers:
    hosts = [f"[{text}]" if ":" in text else text for text in addresses]
    task = {
        "allowed": allowed,
        "zone": zone or {},
        "uris": [f"https://{host}/" for host in [*hosts, *(zone or {})]],
    }
    return with_own_network(require, SETUP, folder=ROOT, task=task)


def outcomes_of(answers: Answers, addresses: list[str]) -> set[str]:
    hosts = [f"[{text}]" if ":" in text else text for text in addresses]
    return {answers["outcomes"][f"https://{host}/"] for host in hosts}


def test_forbidden_addresses_get_no_connection_and_public_ones_do(require: Require) -> None:
    answers = visit(require, FORBIDDEN + EMBEDDING + NO_HOST + PUBLIC)
    assert outcomes_of(answers, FORBIDDEN + EMBEDDING + NO_HOST) == {"FORBIDDEN"}
    assert outcomes_of(answers, PUBLIC) == {"TLS_FAILED"}
    assert answers["hits"] == PUBLIC


def test_the_namespace_answers_for_what_is_forbidden(require: Require) -> None:
    """Without this, no connection might mean no network."""
    allowed = ("0.0.0.0/0", "::/0", *FORBIDDEN)
    answers = visit(require, FORBIDDEN + EMBEDDING, allowed=allowed)
    assert outcomes_of(answers, FORBIDDEN) == {"TLS_FAILED"}
    assert outcomes_of(answers, EMBEDDING) == {"FORBIDDEN"}
    assert answers["hits"] == FORBIDDEN


def test_names_are_judged_by_where_they_lead(require: Require) -> None:
    bad = {
        "private.example": ["10.0.0.5"],
        "metadata.example": ["169.254.169.254"],
        "wireserver.example": ["168.63.129.16"],
        "loopback.example": ["::1"],
        "unique-local.example": ["fd00:ec2::254"],
        "mapped.example": ["::ffff:a00:5"],
        "mixed.example": ["8.8.4.4", "10.0.0.5"],
        "mixed-families.example": ["8.8.4.4", "fd00::1"],
        "alias.example": ["cname:metadata.google.internal", "169.254.169.254"],
    }
    good = {
        "public.example": ["8.8.8.8"],
        "mapped-public.example": ["::ffff:909:909"],
        "public6.example": ["2606:4700::1"],
    }
    answers = visit(require, [], zone=bad | good)
    assert outcomes_of(answers, list(bad)) == {"FORBIDDEN"}
    assert outcomes_of(answers, list(good)) == {"TLS_FAILED"}
    assert answers["hits"] == ["8.8.8.8", "9.9.9.9", "2606:4700::1"]
    assert set(answers["asked"]) == {*bad, *good}


def test_an_allowed_range_opens_exactly_itself(require: Require) -> None:
    inside = ["10.1.0.0", "10.1.2.3", "10.1.255.255", "169.254.1.1"]
    outside = ["10.0.255.255", "10.2.0.0", "192.168.0.1", "169.254.169.254", "169.254.170.2"]
    answers = visit(require, inside + outside, allowed=("10.1.0.0/16", "169.254.0.0/16"))
    assert outcomes_of(answers, inside) == {"TLS_FAILED"}
    assert outcomes_of(answers, outside) == {"FORBIDDEN"}
    assert answers["hits"] == inside


def test_a_metadata_address_opens_by_its_own_name(require: Require) -> None:
    answers = visit(require, ["169.254.169.254", "169.254.1.1"], allowed=("169.254.169.254/32",))
    assert answers["hits"] == ["169.254.169.254"]
