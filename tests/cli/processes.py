"""The command `signalpost` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LIMIT_SECONDS = 90
"""A process that hangs is killed, so that the test fails instead of hanging, too."""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "SIGNALPOST" not in name}
    return kept | {"COLUMNS": "200", **(extra or {})}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "signalpost", *arguments]


def run(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return ended(command(*arguments), cwd, environment)


def ended(
    words: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run any program to its end."""
    return subprocess.run(
        words,
        cwd=folder,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


class Running:
    """A started command, read line by line."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors
        self.seen = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read on until what was printed since the last match matches."""
        assert self._process.stdout is not None
        text = ""
        for line in self._process.stdout:
            self.seen += line
            text += line
            if match := re.search(pattern, text, re.MULTILINE):
                return match
        raise AssertionError(f"no {pattern!r} in {self.seen!r}; {self.end()}")

    def wait_until_loaded(self, library: str) -> None:
        """Return when the process has loaded a library, which it must while it lives."""
        maps = Path(f"/proc/{self._process.pid}/maps")
        self._wait_until(lambda: library in maps.read_text(), f"without {library}")

    def wait_until_it_made(self, file: Path) -> None:
        """Return when the process has made a file, which it must while it lives."""
        self._wait_until(file.exists, f"without {file.name}")

    def wait_until_logged(self, text: str) -> None:
        """Return when this went to standard error."""
        log = Path(f"/proc/{os.getpid()}/fd/{self._errors.fileno()}")
        self._wait_until(lambda: text in log.read_text(), f"without {text!r}")

    def _wait_until(self, condition: Callable[[], bool], without: str) -> None:
        while not condition():
            assert self._process.poll() is None, f"it ended {without}"

    def file(self, number: int) -> str:
        """What an open file of the process is, by its number."""
        return str(Path(f"/proc/{self._process.pid}/fd/{number}").readlink())

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what went to standard error."""
        self._process.send_signal(number)
        output, _ = self._process.communicate()
        self.seen += output
        self._errors.seek(0)
        return self._process.returncode, self._errors.read()


@contextmanager
def running(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    with started(command(*arguments), cwd, clean_environment(environment)) as process:
        yield process


@contextmanager
def started(words: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Running]:
    """Start any program; it is killed at the end if it still runs."""
    with (
        tempfile.TemporaryFile("w+") as errors,  # a pipe nobody reads would stop the process
        subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        watchdog = threading.Timer(LIMIT_SECONDS, process.kill)
        watchdog.start()
        try:
            yield Running(process, errors)
        finally:
            watchdog.cancel()
            process.kill()
