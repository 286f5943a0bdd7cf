"""Runs the tour of the README as it stands: only ports differ, so that tests run in parallel."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Running, clean_environment, started
from tests.conftest import Require

README = Path(__file__).parents[2] / "README.md"
TOUR = re.compile(r"<!-- The tour: .*? -->(.*)<!-- The tour ends. -->", re.DOTALL)
REPAIR = re.compile(r"<!-- The repair: .*? -->(.*)<!-- The repair ends. -->", re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORTS = ("8443", "8444", "50051")
BIN = Path(sys.executable).parent
VARYING_KEYS = re.compile(r"_time$|^(key_id|delivery_id|latency|etag)$")
"""What differs from run to run. Secrets do, too, unless the caller chose them."""

DELIVERY_ID = re.compile(r'"delivery_id": "(\w+)"')
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")
CHOSEN_SECRET = "whsec_c2lnbmFscG9zdCB0b3VyOiBub3QgYSBzZWNyZXQh"
VARYING_TEXT = re.compile(r"\d\d:\d\d:\d\d\.\d{3}Z")


@dataclass
class Step:
    """A command, what it answers, and what the receiver shows then."""

    command: str
    answer: Any = None
    shown: list[str] = field(default_factory=list)

    @property
    def stays(self) -> bool:
        return self.command.startswith("signalpost ")


def steps_of(part: re.Pattern[str], text: str) -> Iterator[Step]:
    """Read the steps of a part of the README."""
    found = part.search(text)
    assert found
    step = None
    for language, block in BLOCK.findall(found[1]):
        if language == "sh":
            if step:
                yield step
            step = Step(block)
        elif step and language == "json":
            step.answer = json.loads(block)
        else:
            assert step
            assert language == "text"
            step.shown += block.splitlines()
    assert step
    yield step


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [str(found.getsockname()[1]) for found in sockets]


def shortened(answer: Any, shown: Any, key: str = "") -> Any:
    """Leave out of an answer what the README does not show, and what differs by nature."""
    match answer, shown:
        case dict(), dict():
            return {name: shortened(answer.get(name), item, name) for name, item in shown.items()}
        case list(), list() if len(answer) == len(shown):
            return [shortened(*pair, key) for pair in zip(answer, shown, strict=True)]
        case str(), str() if VARYING_KEYS.search(key) or both_made_secrets(answer, shown):
            return shown
    return answer


def both_made_secrets(answer: str, shown: str) -> bool:
    return CHOSEN_SECRET not in (answer, shown) and all(
        SECRET.fullmatch(text) for text in (answer, shown)
    )


@dataclass
class Tour:
    """Runs steps; what stays is ended at the end."""

    folder: Path
    environment: dict[str, str]
    stack: ExitStack
    receiver: Running | None = None

    def run(self, step: Step) -> None:
        if step.stays:
            self._start(step)
            return
        answer = self._call(step)
        # What has just been attempted may not be on record yet: read until it is.
        while "ListDeliveries" in step.command and not self._is_told(answer):
            answer = self._call(step)
        assert shortened(answer, step.answer) == step.answer
        if found := DELIVERY_ID.search(json.dumps(answer)):
            self.environment["DELIVERY_ID"] = found[1]
        self._watch(step.shown)

    def _is_told(self, answer: Any) -> bool:
        return bool(answer) and '"PENDING"' not in json.dumps(answer)

    def _start(self, step: Step) -> None:
        process = self.stack.enter_context(
            started(["/bin/sh", "-c", f"exec {step.command}"], self.folder, self.environment)
        )
        for line in step.shown:
            process.wait_for("^" + re.escape(line) + "$")
        if self.receiver is None:
            process.wait_for(r"^Ctrl-C ends it\.$")
            self.receiver = process

    def _call(self, step: Step) -> Any:
        ended = subprocess.run(
            ["/bin/sh", "-c", step.command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return json.loads(ended.stdout)

    def _watch(self, lines: Sequence[str]) -> None:
        assert self.receiver
        for line in lines:
            pattern = VARYING_TEXT.pattern.join(map(re.escape, VARYING_TEXT.split(line)))
            self.receiver.wait_for(f"^{pattern}$")


@pytest.fixture
def text() -> str:
    text = README.read_text("utf-8")
    for port, other in zip(PORTS, free_ports(len(PORTS)), strict=True):
        text = text.replace(port, other)
    return text


def run_steps(steps: Sequence[Step], folder: Path) -> None:
    environment = clean_environment({"SIGNALPOST_HTTP": "127.0.0.1:0"})
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    with ExitStack() as stack:
        running = Tour(folder, environment, stack)
        for step in steps:
            running.run(step)


def test_the_tour_works_as_it_is_written(text: str, tmp_path: Path, require: Require) -> None:
    require((BIN / "grpcurl").exists(), "grpcurl is not installed beside Python")
    steps = list(steps_of(TOUR, text))
    assert [step.stays for step in steps].count(False) == 5
    run_steps(steps, tmp_path)


def test_the_repair_works_as_it_is_written(text: str, tmp_path: Path, require: Require) -> None:
    require((BIN / "grpcurl").exists(), "grpcurl is not installed beside Python")
    steps = list(steps_of(REPAIR, text))
    assert len(steps) == 8
    started_before = [step for step in steps_of(TOUR, text) if step.stays]
    run_steps([*started_before, *steps], tmp_path)


def test_every_guarantee_names_tests_that_exist() -> None:
    section = README.read_text("utf-8").partition("## What is guaranteed")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| **")]
    there = {
        name
        for path in README.parent.joinpath("tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert len(rows) > 5
    for guarantee, tests in rows:
        named = re.findall(r"`(test_\w+)`", tests)
        assert named, guarantee
        assert set(named) <= there, guarantee


def test_settings_named_in_the_readme_are_those_of_the_command(tmp_path: Path) -> None:
    settings = README.read_text("utf-8").partition("## Settings")[2]
    documented = set(re.findall(r"^\| `(--[a-z-]+)`", settings, re.MULTILINE))
    help_text = subprocess.run(
        [sys.executable, "-m", "signalpost", "serve", "--help"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    offered = set(re.findall(r"^  (--[a-z-]+)", help_text, re.MULTILINE))
    assert documented == offered
