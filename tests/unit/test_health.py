"""The small server for probes: what it asks of others."""

import asyncio
import socket

import httpx
import pytest

from signalpost.health import HealthServer
from signalpost.settings import Address


async def nothing_wrong() -> None:
    return None


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - the test is about it
async def test_no_name_server_is_asked_for_the_name_of_the_machine(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, find_name = list[str](), socket.getfqdn

    def find_name_noted(name: str = "") -> str:
        asked.append(name)
        return find_name(name)

    monkeypatch.setattr(socket, "getfqdn", find_name_noted)
    health = HealthServer(Address(host, 0), ready=nothing_wrong)
    health.start()
    url = f"http://127.0.0.1:{health.address.port}/healthz"
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        assert (await client.get(url)).text == "ok\n"
    await asyncio.to_thread(health.stop)
    assert not asked
