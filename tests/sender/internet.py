"""Runs alone in a network namespace in which this machine answers for every address there is.

Reads a JSON object from standard input: `allowed` ranges, `zone` of a name server, `uris` to
send to. Writes one: the outcome for each URI, and the addresses that were connected to.
"""

import asyncio
import ipaddress
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from signalpost.domain.address import EgressPolicy
from signalpost.domain.ids import LaneId
from signalpost.ports import WebhookRequest
from signalpost.sender.resolver import Resolver
from signalpost.sender.sender import HttpSender
from tests.sender.names import NameServer

PORT = 443
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def noting(hits: list[str]) -> Handler:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append(writer.get_extra_info("sockname")[0])
        writer.transport.abort()

    return hang_up


async def send_all(sender: HttpSender, uris: list[str]) -> dict[str, str]:
    outcomes = {}
    for lane, uri in enumerate(uris, start=1):
        result = await sender.send(
            WebhookRequest(
                lane_id=LaneId(lane),
                endpoint_uri=uri,
                headers={},
                body=b"{}",
                timeout=timedelta(seconds=10),
            )
        )
        outcomes[uri] = result.outcome.name
    return outcomes


async def visit(task: dict[str, Any]) -> dict[str, Any]:
    hits: list[str] = []
    names = NameServer(task["zone"])
    names.start()
    servers = [
        await asyncio.start_server(noting(hits), host, PORT)
        for host in ("0.0.0.0", "::")  # noqa: S104
    ]
    allowed = tuple(ipaddress.ip_network(text) for text in task["allowed"])
    sender = HttpSender(
        policy=EgressPolicy(allowed=allowed),
        own_listeners=lambda: (),
        resolver=Resolver([names.address]),
    )
    outcomes = await send_all(sender, task["uris"])
    await sender.aclose()
    names.stop()
    for server in servers:
        server.close()
    return {"outcomes": outcomes, "hits": hits, "asked": sorted(names.asked)}


if __name__ == "__main__":
    json.dump(asyncio.run(visit(json.load(sys.stdin))), sys.stdout)
