"""Where the whole service connects, in a namespace with an internet of its own."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Require
from tests.namespaces import with_own_network
from tests.sender.test_internet import EMBEDDING, FORBIDDEN, NO_HOST, PUBLIC

pytestmark = pytest.mark.needs_root

ROOT = Path(__file__).parents[2]
SETUP = (
    "ip link set lo up"
    " && ip route add local 0.0.0.0/0 dev lo"
    " && { ip -6 route add local ::/0 dev lo || exit 77; }"
    " && echo nameserver 127.0.0.1 >names && mount --bind names /etc/resolv.conf"
    ' && cd "$1" && exec "$0" -m tests.e2e.internet'
)

Zone = dict[str, list[str] | None]


def visit(require: Require, folder: Path, zone: Zone, *options: str) -> dict[str, Any]:
    task = {"zone": zone, "options": options}
    seen = with_own_network(require, SETUP, "--mount", folder=folder, task=task)
    assert seen["code"] == 0
    return seen


def named(addresses: list[str]) -> Zone:
    """Give each address a name of its own."""
    return {"a" + text.translate({46: "d", 58: "c"}): [text] for text in addresses}


def test_subscriptions_reach_public_addresses_and_no_others(
    require: Require, tmp_path: Path
) -> None:
    closed = named([*FORBIDDEN, *EMBEDDING, *NO_HOST]) | {"mixed": ["8.8.4.4", "10.0.0.5"]}
    seen = visit(require, tmp_path, closed | named(PUBLIC))
    assert {name for name, outcome in seen["outcomes"].items() if outcome == "FORBIDDEN"} == set(
        closed
    )
    assert seen["hits"] == sorted(PUBLIC)


def test_an_allowed_range_opens_exactly_itself(require: Require, tmp_path: Path) -> None:
    inside, outside = ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]
    seen = visit(require, tmp_path, named([*inside, *outside]), "--egress-allow", "10.1.0.0/16")
    assert seen["hits"] == inside


def test_names_that_never_resolve_do_not_delay_another(require: Require, tmp_path: Path) -> None:
    silent: Zone = {f"silent{number}": None for number in range(10)}
    seen = visit(require, tmp_path, silent | named(["8.8.8.8"]))
    assert seen["hits"] == ["8.8.8.8"]
    # It was reached before a single look-up of the others had ended.
    assert list(seen["outcomes"]) == list(named(["8.8.8.8"]))
