"""Makes connections: resolve, judge, dial what was judged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

import httpcore

from signalpost.domain.address import IpAddress
from signalpost.sender.failure import SendFailed, connect_failed
from signalpost.sender.guard import Guard
from signalpost.sender.resolver import Resolver
from signalpost.sender.stream import Stream
from signalpost.sender.trail import CURRENT, Phase, Trail

CONNECT_SECONDS = 10.0
"""How long all addresses of a host may take to accept a connection."""

MAX_ADDRESSES = 8
"""Most addresses of a host that are tried."""

SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


class Backend(httpcore.AsyncNetworkBackend):
    """Connects to hosts, if `guard` lets it."""

    def __init__(self, *, resolver: Resolver, guard: Guard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a name or an address. Raises SendFailed; Forbidden before any dial."""
        trail = CURRENT.get()
        found = await self._addresses(host, trail)
        addresses = self._guard.judge(host, found, port=port, ranges=trail.allowed)
        trail.begin(Phase.CONNECT)
        stream = await _dial_any(addresses[:MAX_ADDRESSES], port, trail)
        trail.end()
        return stream

    async def _addresses(self, host: str, trail: Trail) -> Sequence[IpAddress]:
        try:
            return [ip_address(host)]
        except ValueError:
            trail.begin(Phase.DNS)
        addresses = await self._resolver.resolve(host)
        trail.end()
        return addresses


async def _dial_any(addresses: Sequence[IpAddress], port: int, trail: Trail) -> Stream:
    """Dial one address after the other; what is left of the time is shared among the rest.

    Raises the failure of the first: the preferred address says most about the endpoint.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_SECONDS
    failures: list[SendFailed] = []
    for position, address in enumerate(addresses):
        trail.peer = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        share = (deadline - loop.time()) / (len(addresses) - position)
        try:
            async with asyncio.timeout(share):
                return await _dial(address, port)
        except OSError as error:
            failures.append(connect_failed(error))
    raise failures[0]


async def _dial(address: IpAddress, port: int) -> Stream:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    dialled = socket.socket(family, socket.SOCK_STREAM)
    try:
        dialled.setblocking(False)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(dialled, (str(address), port))
    except BaseException:
        dialled.close()
        raise
    return Stream(dialled, address, port)
