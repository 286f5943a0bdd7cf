"""A connection to an endpoint, as httpcore wants to read and write it."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from typing import Any

import httpcore

from signalpost.domain.address import IpAddress
from signalpost.sender.failure import connection_lost, timed_out
from signalpost.sender.tls import tls_failed
from signalpost.sender.trail import CURRENT, Phase

HANDSHAKE_SECONDS = 10.0
"""Longest TLS handshake."""

MAX_AGE_SECONDS = 60.0
"""Oldest connection that gets another request."""

_READ_BYTES = 16 * 1024


class Inbox(asyncio.StreamReader):
    """A reader that knows whether something lies in it."""

    def __init__(self) -> None:
        super().__init__(limit=_READ_BYTES)
        self.waiting = 0

    def feed_data(self, data: Any) -> None:
        """Take in what arrived."""
        self.waiting += len(data)
        super().feed_data(data)

    async def read(self, n: int = -1) -> bytes:
        """Return what lies there, at most `n` bytes; wait if there is nothing."""
        data = await super().read(n)
        self.waiting -= len(data)
        return data


class Stream(httpcore.AsyncNetworkStream):
    """A connected socket; it speaks TLS from `start_tls` on, plainly from the first `write` on."""

    def __init__(self, connected: socket.socket, address: IpAddress, port: int) -> None:
        self._socket = connected
        self._peer = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        self._reusable_until = time.monotonic() + MAX_AGE_SECONDS
        self._inbox = Inbox()
        self._writer: asyncio.StreamWriter | None = None

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Shake hands. Raises SendFailed, and the connection is closed."""
        trail = CURRENT.get()
        trail.begin(Phase.TLS)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._open(ssl_context, server_hostname)
        except TimeoutError:
            raise timed_out(Phase.TLS) from None
        except (OSError, ValueError) as error:
            raise tls_failed(error) from error
        trail.end()
        return self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return some bytes, none at the end. Raises SendFailed."""
        try:
            data = await self._inbox.read(min(max_bytes, _READ_BYTES))
        except OSError as error:
            raise connection_lost(error) from error
        if not data:
            CURRENT.get().closed = True
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Return when the system has taken all bytes.

        Raises httpcore.WriteError, after which httpcore looks for an early answer.
        """
        CURRENT.get().peer = self._peer
        try:
            writer = self._writer or await self._open(None, None)
            writer.write(buffer)
            await writer.drain()
        except OSError as error:
            raise httpcore.WriteError from error

    async def aclose(self) -> None:
        """Close at once: a farewell would have to be waited for, and nothing is under way."""
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """Answer what httpcore asks: "ssl_object", and "is_readable" of a kept connection."""
        if info == "is_readable":
            return not self._is_reusable()
        return self._writer.get_extra_info(info) if self._writer is not None else None

    def _is_reusable(self) -> bool:
        """Tell whether nothing arrived, the end neither, since the last answer was read."""
        return (
            self._writer is not None
            and not self._writer.is_closing()
            and not self._inbox.waiting
            and not self._inbox.at_eof()
            and not _is_readable(self._socket)
            and time.monotonic() < self._reusable_until
        )

    async def _open(
        self, context: ssl.SSLContext | None, server_hostname: str | None
    ) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(self._inbox, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=self._socket, ssl=context, server_hostname=server_hostname
        )
        # What is written is with the system when drain returns. (At 0, TLS never resumes.)
        transport.set_write_buffer_limits(high=1)
        self._writer = asyncio.StreamWriter(transport, protocol, self._inbox, loop)
        return self._writer


def _is_readable(connected: socket.socket) -> bool:
    """Tell whether something arrived that the event loop did not come to read yet."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))
