"""Signals that come while a command still starts: Python alone takes a second for that."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli.processes import running

FREE = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
IMPORTING = "_rust"
"""A library that is loaded in the midst of the imports, by any command: that of cryptography."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="/proc tells how far a process is"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("serve", *FREE), 0), (("listen",), 0), (("demo",), 0), (("demo", "--once"), 1)],
)
def test_ended_at_once_it_exits_as_it_does_later(
    tmp_path: Path, arguments: tuple[str, ...], expected: int, number: int
) -> None:
    with running(*arguments, cwd=tmp_path) as started:
        started.wait_until_loaded(IMPORTING)
        code, errors = started.end(number)
    assert (code, errors) == (expected, "")
    assert not list(tmp_path.iterdir()), "it went on to make its files"


def test_asked_to_reload_at_once_it_starts_nevertheless_and_reloads(tmp_path: Path) -> None:
    with running("serve", *FREE, cwd=tmp_path) as started:
        started.wait_until_loaded(IMPORTING)
        started.send(signal.SIGHUP)
        started.wait_for(r"gRPC +(\S+)$")
        started.wait_until_logged("read the egress settings anew")
        code, errors = started.end()
    assert code == 0, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_while_it_is_built_it_exits_cleanly(tmp_path: Path, number: int) -> None:
    with running("serve", *FREE, cwd=tmp_path) as started:
        started.wait_until_it_made(tmp_path / "signalpost.db")
        code, errors = started.end(number)
    assert code == 0, errors
    assert "Traceback" not in errors
