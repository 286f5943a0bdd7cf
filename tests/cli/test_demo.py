from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from signalpost.api.examples import examples
from signalpost.clock import SystemClock
from signalpost.domain.catalogue import RESERVED, RESOURCE_TYPES
from tests.cli.processes import clean_environment, command, ended, run, running
from tests.conftest import Require

HASTY = """
from signalpost import __main__
from signalpost.cli import demo

demo.LIMIT_SECONDS = 12
__main__.main()
"""
"""The command, but it does not wait for half a minute for deliveries that cannot succeed."""


def test_there_is_one_example_of_each_type_that_publishers_send() -> None:
    fields = [event.WhichOneof("payload") for event in examples(SystemClock().now())]
    names = [str(field).replace("_", ".", 1) for field in fields]
    assert len(names) == 12
    assert set(names) == set(RESOURCE_TYPES) - RESERVED


def test_once_shows_every_event_verified_and_one_retry(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "SIGNALPOST_LISTEN": "nonsense"}
    for _ in range(2):  # nothing is left that would disturb a second run
        shown = run("demo", "--once", cwd=tmp_path, environment=environment)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        for name in set(RESOURCE_TYPES) - RESERVED:
            assert re.search(rf"^{name} .* delivered +verified ", shown.stdout, re.MULTILINE)
        assert "12 of 12 events delivered and verified in " in shown.stdout
        assert (
            "\nusage.quota_alert, refused once on purpose: REJECTED 503, then SUCCEEDED 200\n"
            in shown.stdout
        )
        assert shown.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert not list(temporary.iterdir())


def test_once_fails_and_says_what_failed(tmp_path: Path) -> None:
    hasty = ended([sys.executable, "-c", HASTY, "demo", "--once", "--answer", "500"], tmp_path)
    assert hasty.returncode == 1
    assert "\nThis took longer than 12 s." in hasty.stdout
    assert "0 of 12 events delivered and verified in " in hasty.stdout
    for name in set(RESOURCE_TYPES) - RESERVED:
        # After the first ten of all, only single attempts try whether it works again.
        assert f"\n{name}: REJECTED 500" in hasty.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_commands_it_prints_work_and_a_signal_ends_it_with_zero(
    tmp_path: Path, require: Require, number: int
) -> None:
    with running("demo", cwd=tmp_path) as shown:
        commands = [shown.wait_for(r"^(\S*grpcurl -plaintext .+)$")[1] for _ in range(3)]
        shown.wait_for(r"^What arrives is shown here")
        program = Path(shlex.split(commands[0])[0])
        require(program.is_absolute(), "grpcurl is not installed beside Python")
        answers = [ended(["/bin/sh", "-c", line], tmp_path) for line in commands]
        assert [answer.returncode for answer in answers] == [0, 0, 0], answers
        shown.wait_for(r"account\.connected .* account acc_43 .* verified  answered 200$")
        code, errors = shown.end(number)
    assert (code, errors) == (0, "")
    assert '"outcome": "ACCEPTED"' in answers[0].stdout
    assert answers[1].stdout.count('"delivery_id"') + answers[1].stdout.count('"deliveryId"') == 3
    assert '"demo"' in answers[2].stdout
    assert "whsec_" not in "".join(answer.stdout for answer in answers)


def test_on_a_terminal_it_is_a_table(tmp_path: Path) -> None:
    reader, terminal = pty.openpty()
    environment = clean_environment({"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"})
    with subprocess.Popen(
        command("demo", "--once"), cwd=tmp_path, env=environment, stdout=terminal
    ) as process:
        os.close(terminal)
        shown = b"".join(iter(lambda: read_terminal(reader), b"")).decode()
    os.close(reader)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
    last = plain[plain.rindex("event id") :].splitlines()
    rows = [line for line in last if "delivered verified" in line]
    assert len(rows) == 12
    assert max(map(len, rows)) <= 80
    assert [line.split()[2] for line in rows if line.startswith("usage.quota_alert ")] == ["2"]


def read_terminal(reader: int) -> bytes:
    """Read on; nothing, once the program has closed its side."""
    try:
        return os.read(reader, 4096)
    except OSError:
        return b""


def test_it_works_while_the_default_ports_are_taken(tmp_path: Path) -> None:
    taken = []
    for port in (50051, 9464, 8443):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                taken.append(socket.create_server(("127.0.0.1", port)))
    try:
        assert run("demo", "--once", cwd=tmp_path).returncode == 0
    finally:
        for listener in taken:
            listener.close()
