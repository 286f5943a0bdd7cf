"""Servers for the sender to meet: real sockets, answers as raw as a test wants them."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Request:
    """A request as it came; `connection` counts from 1."""

    head: str
    body: bytes
    connection: int

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


@dataclass
class Receiver:
    """What a server saw."""

    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    closed: asyncio.Queue[int] = field(default_factory=asyncio.Queue)


@dataclass
class Conversation:
    """One connection, seen from the server."""

    receiver: Receiver
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def read(self) -> Request | None:
        """Read and note a request; None at the end of the connection."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("ascii")
            request = Request(head.removesuffix("\r\n\r\n"), b"", self.number)
            length = int(request.headers["content-length"])
            request.body = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self.receiver.requests.append(request)
        return request

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        connected: socket.socket = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Conversation], Awaitable[None]]


def answering(*answers: bytes) -> Behaviour:
    """Answer the requests of each connection in turn, the last answer for ever."""

    async def behave(conversation: Conversation) -> None:
        count = 0
        while await conversation.read():
            await conversation.say(answers[min(count, len(answers) - 1)])
            count += 1

    return behave


def saying(first: bytes, *, then_repeat: bytes = b"", reset: bool = False) -> Behaviour:
    """Read one request, say something, perhaps something else for ever, and hang up."""

    async def behave(conversation: Conversation) -> None:
        await conversation.read()
        await conversation.say(first)
        while then_repeat:
            await conversation.say(then_repeat)
        if reset:
            conversation.reset()

    return behave


async def silent(conversation: Conversation) -> None:
    """Read a request and whatever follows, and never answer."""
    await conversation.read()
    await conversation.reader.read()


async def deaf(_: Conversation) -> None:
    """Accept, and never read more than fits into the buffers."""
    await asyncio.get_running_loop().create_future()


class Receivers:
    """Starts servers on loopback and stops them all."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()

    async def start(
        self, behave: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> Receiver:
        receiver = Receiver()
        if tls is not None:
            tls.sni_callback = lambda _object, name, _context: receiver.server_names.append(name)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            receiver.connections += 1
            number = receiver.connections
            task = asyncio.current_task()
            assert task
            self._handlers.add(task)
            try:
                await behave(Conversation(receiver, reader, writer, number))
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()
                receiver.closed.put_nowait(number)
                self._handlers.discard(task)

        server = await asyncio.start_server(handle, host, 0, ssl=tls)
        self._servers.append(server)
        receiver.port = server.sockets[0].getsockname()[1]
        return receiver

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


def free_port() -> int:
    """Return a port of loopback on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port
