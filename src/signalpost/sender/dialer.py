"""Makes connections: resolve, judge, dial what was judged, shake hands."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from signalpost.domain.address import IpAddress
from signalpost.sender.connection import Connection
from signalpost.sender.failure import SendFailed, connect_failed, timed_out
from signalpost.sender.guard import Guard
from signalpost.sender.resolver import Resolver
from signalpost.sender.tls import ClientContext, tls_failed
from signalpost.sender.trail import Phase, Trail

CONNECT_SECONDS: Final = 10.0
"""How long it may take, over all addresses of a host, until one has a connection, with TLS."""

MAX_ADDRESSES: Final = 8
"""Most addresses of a host that are tried."""


class Dialer:
    """Connects to hosts, if `guard` lets it."""

    def __init__(self, *, resolver: Resolver, guard: Guard, context: ClientContext) -> None:
        self._resolver = resolver
        self._guard = guard
        self._context = context

    async def connect(self, host: str, port: int, *, tls: bool, trail: Trail) -> Connection:
        """Connect to a name or an address. Raises SendFailed; Forbidden before any dial."""
        found = await self._addresses(host, trail)
        addresses = self._guard.judge(host, found, port=port, ranges=trail.allowed)
        trail.begin(Phase.CONNECT)
        deadline = asyncio.get_running_loop().time() + CONNECT_SECONDS
        if trail.deadline is not None:
            # Or the first of two addresses might have all the time there is.
            deadline = min(deadline, trail.deadline)
        dialled = await _dial_any(addresses[:MAX_ADDRESSES], port, trail, deadline=deadline)
        trail.end()
        connection = Connection(trail.peer)
        try:
            async with asyncio.timeout_at(deadline):
                await self._open(connection, dialled, host=host if tls else None, trail=trail)
        except BaseException as error:
            connection.close()
            _let_go(dialled)
            if isinstance(error, TimeoutError):
                raise timed_out(trail.phase) from None
            raise
        return connection

    def learn(self, host: str, connection: Connection) -> None:
        """Make the next connection to a host faster by what this one agreed upon."""
        self._context.remember(host, connection.tls)

    async def _addresses(self, host: str, trail: Trail) -> Sequence[IpAddress]:
        try:
            return [ip_address(host)]
        except ValueError:
            trail.begin(Phase.DNS)
        addresses = await self._resolver.resolve(host)
        trail.end()
        return addresses

    async def _open(
        self, connection: Connection, dialled: socket.socket, *, host: str | None, trail: Trail
    ) -> None:
        loop = asyncio.get_running_loop()
        if host is None:
            await loop.create_connection(lambda: connection, sock=dialled)
            return
        trail.begin(Phase.TLS)
        try:
            await loop.create_connection(
                lambda: connection, sock=dialled, ssl=self._context, server_hostname=host
            )
        except (OSError, ValueError) as error:
            raise tls_failed(error) from error
        trail.end()


def _let_go(dialled: socket.socket) -> None:
    """Close a socket, unless a transport took it over and closes it by itself.

    That of uvloop closes the descriptor, and if the endpoint broke off as soon as the handshake
    began, nobody tells this object: it would close the number once more when it is collected,
    which by then may be that of another customer's connection, or of the database.
    """
    dialled.close()
    if dialled.fileno() != -1:
        dialled.detach()


async def _dial_any(
    addresses: Sequence[IpAddress], port: int, trail: Trail, *, deadline: float
) -> socket.socket:
    """Dial one address after the other; what is left of the time is shared among the rest.

    Raises the failure of the first: the preferred address says most about the endpoint.
    """
    loop = asyncio.get_running_loop()
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


async def _dial(address: IpAddress, port: int) -> socket.socket:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    dialled = socket.socket(family, socket.SOCK_STREAM)
    try:
        dialled.setblocking(False)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(dialled, (str(address), port))
    except BaseException:
        dialled.close()
        raise
    return dialled
