"""A receiver of webhooks that keeps what came in, byte for byte.

It knows no Signalpost code: HTTP is read by hand, signatures are judged by standardwebhooks.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

from standardwebhooks import Webhook


@dataclass
class Request:
    """One request as it arrived; `answered` says that the whole answer was handed to the system.

    `arrived` and `ended` are times on a clock that moves with each request and each answer.
    """

    number: int
    path: str
    headers: dict[str, str]
    body: bytes
    arrived: int
    answered: int = 0
    ended: int = 0
    method: str = "POST"

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def verify(self, *secrets: str) -> None:
        """Raise unless the signature of every secret is there."""
        for secret in secrets:
            Webhook(secret).verify(self.body, self.headers)


Answer = Callable[[Request], Awaitable[int]]


async def ok(_: Request) -> int:
    return 200


@dataclass
class Receiver:
    """An HTTPS server on loopback. `answer` decides the status of each request.

    `connections` were made to it, `closed` of them are over.
    `consent` are headers of its answers to OPTIONS.
    """

    context: ssl.SSLContext
    answer: Answer = ok
    consent: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    _clock: Iterator[int] = field(default_factory=lambda: count(1))
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self.context, backlog=1000
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def url(self, path: str = "/") -> str:
        return f"https://localhost:{self.port}{path}"

    async def until(self, condition: Callable[[], object], *, seconds: float = 60) -> None:
        """Return when the condition holds; it is looked at on each request, answer and close."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(condition)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._take(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()
            self.closed += 1
            await self._tell()

    async def _take(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first, *lines = head.decode("ascii").rstrip("\r\n").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        method, path, _ = first.split(" ")
        request = Request(len(self.requests), path, headers, body, arrived=next(self._clock))
        request.method = method
        self.requests.append(request)
        await self._tell()
        status = await self.answer(request)
        consent = self.consent if method == "OPTIONS" else {}
        more = "".join(f"{name}: {value}\r\n" for name, value in consent.items())
        writer.write(f"HTTP/1.1 {status} Answer\r\n{more}Content-Length: 2\r\n\r\nok".encode())
        await writer.drain()
        request.answered, request.ended = status, next(self._clock)
        await self._tell()

    async def _tell(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()
