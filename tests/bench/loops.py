"""The bare loops: clients that post the same bytes to the same receiver, 100 in flight.

No gRPC, no database: what a delivery costs at least.
"""

import asyncio
import itertools
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import aiohttp
import httpx

from signalpost.domain.address import EgressPolicy
from signalpost.domain.ids import LaneId
from signalpost.domain.outcome import Outcome
from signalpost.ports import WebhookRequest
from signalpost.sender.resolver import Resolver
from signalpost.sender.sender import HttpSender

IN_FLIGHT = 100
LANES = 10
BODY = (
    b'{"event_id":"01a20bc9-b091-7634-9dd4-f2f7dc4d922b","event_type":"account.connected",'
    b'"timestamp":"2026-05-06T12:00:00.000Z","resource":{"type":"account","id":"acc_42"},'
    b'"payload":{"integration":"gmail","user_id":"user_7","auth_scheme":"OAUTH2",'
    b'"scopes":["gmail.readonly","gmail.send"]}}'
)

Post = Callable[[], Awaitable[None]]


def headers() -> dict[str, str]:
    """Headers as a delivery has them."""
    return {
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "Signalpost/bench",
        "webhook-id": uuid4().hex,
        "webhook-timestamp": "1778068800",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


async def measure(post: Post, count: int) -> dict[str, float]:
    """Post `count` times, and return the rate and the CPU it took this process."""
    remaining = iter(range(count))

    async def work() -> None:
        for _ in remaining:
            await post()

    await asyncio.gather(*(post() for _ in range(IN_FLIGHT)))
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    elapsed, used = time.perf_counter() - began, time.process_time() - cpu
    return {"per_second": count / elapsed, "cpu_us": used / count * 1e6, "load": used / elapsed}


async def own_transport(uri: str, ca: Path, count: int) -> dict[str, float]:
    """Our sender: transport and pool, with the lanes that deliveries have."""
    lanes = itertools.cycle(LaneId(number) for number in range(1, LANES + 1))
    sender = HttpSender(
        policy=EgressPolicy(loopback=True),
        own_listeners=lambda: (),
        resolver=Resolver(),
        ca_file=ca,
    )

    async def post() -> None:
        result = await sender.send(
            WebhookRequest(
                lane_id=next(lanes),
                endpoint_uri=uri,
                headers=headers(),
                body=BODY,
                timeout=timedelta(seconds=15),
            )
        )
        assert result.outcome is Outcome.SUCCEEDED, result

    try:
        return await measure(post, count)
    finally:
        await sender.aclose()


async def raw_aiohttp(uri: str, ca: Path, count: int) -> dict[str, float]:
    """The same bytes by aiohttp."""
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=str(ca)))
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as s:

        async def post() -> None:
            async with s.post(uri, data=BODY, headers=headers()) as answer:
                assert answer.status == 200
                await answer.read()

        return await measure(post, count)


async def default_httpx(uri: str, ca: Path, count: int) -> dict[str, float]:
    """The same bytes by one `httpx.AsyncClient` on its default transport."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    context = ssl.create_default_context(cafile=str(ca))
    async with httpx.AsyncClient(verify=context, limits=limits, timeout=60) as client:

        async def post() -> None:
            answer = await client.post(uri, content=BODY, headers=headers())
            assert answer.status_code == 200

        return await measure(post, count)
