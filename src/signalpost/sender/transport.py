"""An httpx transport of our own: what it must do is what the product exists for.

One request is written once, on a kept connection or a new one, and the head of its answer
comes back. No redirects, cookies, decoding, retries or proxies. How many requests are under
way is up to the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from typing import Final, NamedTuple

import httpx

from signalpost.domain.subscription import IpNetwork
from signalpost.sender.answer import Answer
from signalpost.sender.connection import Connection
from signalpost.sender.dialer import Dialer
from signalpost.sender.failure import internal, timed_out
from signalpost.sender.pool import MAX_IDLE, Pool
from signalpost.sender.trail import Trail

TRAIL: Final = "signalpost.trail"
"""Extension of a request: the `Trail` of its attempt."""

OWNER: Final = "signalpost.owner"
"""Extension of a request: its connections are shared only with requests of the same owner.

Without one, or with None, its connection is for this request only.
"""


class _Key(NamedTuple):
    """Whose connections may be used for a request: those of the same owner, to the same end."""

    owner: Hashable
    scheme: str
    host: str
    port: int
    ranges: tuple[IpNetwork, ...]


class Transport(httpx.AsyncBaseTransport):
    """Sends requests over connections that `dialer` makes, and keeps `max_idle` at most."""

    def __init__(self, dialer: Dialer, *, max_idle: int = MAX_IDLE) -> None:
        self._dialer = dialer
        self._pool = Pool(max_idle=max_idle)
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return an answer once its head is there; the caller closes it. Raises SendFailed.

        Its stream is an `AnswerBody`. Not later than at the deadline of the trail it has ended.
        """
        trail = request.extensions.get(TRAIL) or Trail()
        # What is there already need not be waited for.
        stream = request.stream
        body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else await request.aread()
        head = _head(request)
        url = request.url
        is_tls = url.scheme == "https"
        port = url.port or (443 if is_tls else 80)
        # Its A-labels: of what `host` makes of them, TLS would make other ones (IDNA 2003).
        host = url.raw_host.decode("ascii")
        key = _Key(request.extensions.get(OWNER), url.scheme, host, port, trail.allowed)
        connection = self._pool.take(key)
        if connection is None:
            connection = await self._connect(host, port, tls=is_tls, trail=trail)
        try:
            answer = await connection.exchange(head, body, trail=trail)
        except BaseException:
            connection.close()
            raise
        rest = AnswerBody(answer, connection=connection, transport=self, key=key)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=rest)

    async def _connect(self, host: str, port: int, *, tls: bool, trail: Trail) -> Connection:
        try:
            async with asyncio.timeout_at(trail.deadline):
                return await self._dialer.connect(host, port, tls=tls, trail=trail)
        except TimeoutError:
            raise timed_out(trail.phase) from None

    def take_back(self, key: _Key, connection: Connection) -> None:
        """Keep a connection whose exchange is over, if it can be used again."""
        if connection.exchanges == 1:
            self._dialer.learn(key.host, connection)
        if connection.release() and not self._closed and key.owner is not None:
            self._pool.put(key, connection)
        else:
            connection.close()

    def sweep(self) -> None:
        """Close the connections that cannot be used again."""
        self._pool.sweep()

    async def aclose(self) -> None:
        """Close all connections; those in use are closed after their answer."""
        self._closed = True
        self._pool.close()


class AnswerBody(httpx.AsyncByteStream):
    """The raw body of an answer: its first 4 KiB, once no more of it is read.

    `is_truncated` tells whether there was more, or may have been.
    """

    def __init__(
        self, answer: Answer, *, connection: Connection, transport: Transport, key: _Key
    ) -> None:
        self._answer = answer
        self._connection = connection
        self._transport = transport
        self._key = key
        self._closed = False

    @property
    def is_truncated(self) -> bool:
        """Tell whether what is here is not the whole body."""
        answer = self._answer
        return not answer.is_complete or answer.body_bytes > len(answer.body)

    async def read_on(self, *, seconds: float) -> bytes:
        """Read for so long at most, or 64 KiB, and return the beginning of the body."""
        if not self._answer.is_over:
            try:
                async with asyncio.timeout(seconds):
                    await self._connection.finish(self._answer)
            except TimeoutError:
                pass
        return bytes(self._answer.body)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the beginning of the body."""
        await self._connection.finish(self._answer)
        yield bytes(self._answer.body)

    async def aclose(self) -> None:
        """Let go of the connection: it is kept only if the answer was read to its end."""
        if not self._closed:
            self._closed = True
            self._transport.take_back(self._key, self._connection)


def _head(request: httpx.Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%s: %s" % header for header in request.headers.raw]
    head = b"\r\n".join([*lines, b"", b""])
    ends = len(lines) + 1
    if head.count(b"\r") != ends or head.count(b"\n") != ends:
        # What cannot be sent may be a secret: it is not repeated.
        raise internal()
    return head
