"""Runs the follower of the README as it stands, but for its port, over a kill of the service."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cli.processes import clean_environment
from tests.conftest import Require
from tests.e2e.service import Service, connected
from tests.e2e.test_grpcurl import BIN, Step, environment_of, shown, values, watch
from tests.e2e.test_readme import BLOCK, README, free_ports

FOLLOWER = re.compile(r"<!-- The follower: .*? -->(.*)<!-- The follower ends. -->", re.DOTALL)


def blocks(port: str) -> dict[str, str]:
    found = FOLLOWER.search(README.read_text("utf-8"))
    assert found
    return dict(BLOCK.findall(found[1].replace("50051", port)))


@asynccontextmanager
async def program(text: str, folder: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Run a program; yield what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", text),
        cwd=folder,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.terminate()
        await process.wait()


async def kept(folder: Path, *, after: str = "") -> str:
    """Return the cursor that a follower keeps, once it is another one."""
    file = folder / "cursor"
    while not file.exists() or file.read_text() == after:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return file.read_text()


async def test_the_follower_goes_on_behind_its_cursor_as_it_is_written(
    service: Service, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    service.listen = f"127.0.0.1:{port}"
    text = blocks(port)["python"]
    await service.start()
    await service.publish(connected("before"))
    async with asyncio.timeout(60):
        async with program(text, tmp_path) as printed:
            cursor = await kept(tmp_path)
            await service.publish(connected("e1"))
            assert await printed.readline() == b"e1 account.connected acc_1\n"
            cursor = await kept(tmp_path, after=cursor)
            await service.kill()
            await service.start()
            await service.publish(connected("e2"))
            assert await printed.readline() == b"e2 account.connected acc_1\n"
            await kept(tmp_path, after=cursor)
        await service.publish(connected("e3"))
        async with program(text, tmp_path) as printed:
            assert (await printed.readline()).startswith(b"e3 ")


async def test_grpcurl_follows_the_log_as_it_is_written(service: Service, require: Require) -> None:
    require((BIN / "grpcurl").exists(), "grpcurl is not installed")
    [port] = free_ports(1)
    service.listen = f"127.0.0.1:{port}"
    await service.start()
    await service.publish(connected("evt-1", resource="acc_42"))
    page = blocks(port)
    answer = json.loads(page["json"])
    answer["cursor"] = "..."
    await watch(Step(page["sh"], [answer]), environment_of(service))
    assert shown(values(page["json"]), [answer]) == [answer]
