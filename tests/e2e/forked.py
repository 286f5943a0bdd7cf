"""Starts processes of the command `signalpost` that have loaded it already."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

from tests.e2e.forker import Task

ROOT = Path(__file__).parents[2]


class Process(Protocol):
    """What tests use of a process: `asyncio.subprocess.Process` is one."""

    pid: int
    stdin: asyncio.StreamWriter | None
    stderr: asyncio.StreamReader | None

    @property
    def returncode(self) -> int | None: ...

    def send_signal(self, signal: int, /) -> None: ...

    async def wait(self) -> int: ...


class Forked:
    """A process that another one forked for us, and whose exit code that one tells."""

    def __init__(
        self, pid: int, stderr: asyncio.StreamReader, exit_code: asyncio.StreamReader
    ) -> None:
        self.pid = pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stderr: asyncio.StreamReader | None = stderr
        self.returncode: int | None = None
        self._watching = asyncio.create_task(self._watch(exit_code))

    def send_signal(self, signal: int, /) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal)

    async def wait(self) -> int:
        await asyncio.shield(self._watching)
        assert self.returncode is not None
        return self.returncode

    async def _watch(self, exit_code: asyncio.StreamReader) -> None:
        self.returncode = int(await exit_code.read())


async def fork(*arguments: str, environment: Mapping[str, str]) -> Forked:
    """Start `signalpost` with these arguments, in this environment and no other."""
    (stderr, errors), (exit_code, pipe) = os.pipe(), os.pipe()
    try:
        task: Task = {"arguments": list(arguments), "environment": dict(environment)}
        forker = _forker()
        socket.send_fds(forker, [json.dumps(task).encode() + b"\n"], [errors, pipe])
        answer = forker.recv(64)
        assert answer, "the process that forks has ended"
    finally:
        os.close(errors)
        os.close(pipe)
    return Forked(int(answer), await _reader(stderr), await _reader(exit_code))


async def _reader(pipe: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb")
    )
    return reader


@cache
def _forker() -> socket.socket:
    """Start the process that forks, once for this one."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forker"],
            cwd=ROOT,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours
