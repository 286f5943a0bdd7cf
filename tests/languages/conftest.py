import asyncio
import fcntl
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conftest import Require
from tests.e2e.service import Service

ROOT = Path(__file__).parents[2]
LANGUAGES = Path(__file__).parent
PROGRAM_SECONDS = 60


def make(target: str) -> subprocess.CompletedProcess[str]:
    """Run a target as a person would, not as a part of the `make` that runs the tests."""
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    return subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


async def said_by(*command: str | Path, folder: Path) -> tuple[str, str]:
    """Run a program in a folder to its good end; return its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROGRAM_SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (output + errors).decode()
    return output.decode(), errors.decode()


@dataclass(frozen=True)
class Program:
    """A compiled program of another language."""

    command: tuple[str, ...]

    async def run(self, address: str, *, event_id: str = "evt-1", others: int = 1) -> Any:
        """Publish an event, and others that are refused; return what it reads of both."""
        output, _ = await said_by(*self.command, address, event_id, str(others), folder=ROOT)
        return json.loads(output)


def build_once(folder: Path) -> None:
    """Build the programs, unless another process with this folder did."""
    with (folder / "programs-are-built").open("a") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        if os.fstat(mark.fileno()).st_size == 0:
            made = make("clients")
            assert made.returncode == 0, made.stdout
            mark.write("yes\n")


@pytest.fixture(scope="session")
def programs(require: Require, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    """The program of each language, built once however many processes run the tests."""
    toolchains = make("check-toolchains")
    require(toolchains.returncode == 0, toolchains.stdout.strip())
    own = tmp_path_factory.getbasetemp()
    build_once(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)
    java = LANGUAGES / "java/target"
    classes = f"{java / 'classes'}{os.pathsep}{(java / 'classpath').read_text()}"
    typescript = LANGUAGES / "typescript/build/tests/languages/typescript/publish.js"
    return {
        "go": Program((str(LANGUAGES / "go/build/publish"),)),
        "typescript": Program(("node", str(typescript))),
        "java": Program(("java", "-cp", classes, "Publish")),
    }


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A running service."""
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    service = Service(tmp_path, authority)
    try:
        yield await service.start()
    finally:
        if service.process is not None and service.process.returncode is None:
            await service.kill()
