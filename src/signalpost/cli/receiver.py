"""An HTTPS server that takes webhooks: HTTP/1.1 by h11, over asyncio's streams.

What a request may cost is bounded: 64 KiB of headers, 512 KiB of body, two minutes. Beyond
that, and on anything that is no HTTP, the client is told what was wrong and let go. Whoever
asks for consent (`domain.handshake`) gets it, without limits.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11

from signalpost.domain.handshake import ALLOWED_ORIGIN, ALLOWED_RATE, REQUEST_ORIGIN

MAX_BODY_BYTES = 512 * 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_DISCARDED_BYTES = 8 * 1024 * 1024
"""How much of a body that is too large is read, so that the client gets to see the answer."""

READ_LIMIT_SECONDS = 120
"""How long a client may take for its next request, a kept connection's idle time included."""

_BACKLOG = 256
_BODILESS = (204, 304)
_READ_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A POST: its headers by lower-case name, and the raw bytes of its body."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client is told. `text` becomes the body; `headers` come besides the usual ones."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Answer]]


@asynccontextmanager
async def receiving(
    handler: Handler, *, host: str, port: int, tls: ssl.SSLContext
) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port, chosen by the system if `port` is 0.

    Connections still open at the end are cut. Raises OSError if the port cannot be had.
    """
    tasks: set[asyncio.Task[None]] = set()
    ended = False

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if ended:  # its handshake was still under way when the others were cut
            writer.close()
            return
        task = asyncio.create_task(_Connection(reader, writer, handler).serve())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, host, port, ssl=tls, backlog=_BACKLOG)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended = True
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Refused(Exception):
    """The client asked for something this server does not do."""

    def __init__(self, status: int, text: str) -> None:
        self.answer = Answer(status, text + "\n")
        super().__init__(text)


class _Asked(Exception):
    """The client asked for consent."""

    answer = Answer(200, headers={ALLOWED_ORIGIN: "*", ALLOWED_RATE: "*", "allow": "POST"})


class _Connection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)

    async def serve(self) -> None:
        """Answer requests until the client or the rules of HTTP end the connection."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except (OSError, TimeoutError):  # the client went away, and nobody is left to tell
            pass
        finally:
            self._writer.close()

    async def _serve_one(self) -> bool:
        try:
            async with asyncio.timeout(READ_LIMIT_SECONDS):
                request = await self._read_request()
        except (_Refused, _Asked) as other:
            await self._send(other.answer, close=True)
            return False
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
            return False
        if request is None:
            return False
        await self._send(await self._handler(request), close=False)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = Answer(error.error_status_hint, f"This is not valid HTTP: {error}\n")
            await self._send(answer, close=True)

    async def _read_request(self) -> Request | None:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        body = await self._read_body()
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if head.method == b"OPTIONS" and REQUEST_ORIGIN in headers:
            raise _Asked
        if head.method != b"POST":
            raise _Refused(405, f"Send webhooks with POST, not {head.method.decode('ascii')}.")
        return Request(headers, body)

    async def _read_body(self) -> bytes:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._http.send(go_on))
        chunks: list[bytes] = []
        size = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size += len(event.data)
            if size <= MAX_BODY_BYTES:
                chunks.append(bytes(event.data))
            if size > MAX_DISCARDED_BYTES:
                break
        if size > MAX_BODY_BYTES:
            raise _Refused(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
        return b"".join(chunks)

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ_SIZE))
        return event

    async def _send(self, answer: Answer, *, close: bool) -> None:
        body = answer.text.encode()
        headers = [("content-type", "text/plain; charset=utf-8")]
        if answer.status not in _BODILESS:
            headers.append(("content-length", str(len(body))))
        headers += answer.headers.items()
        if answer.status == 405:
            headers.append(("allow", "POST"))
        if close:
            headers.append(("connection", "close"))
        head = h11.Response(status_code=answer.status, headers=headers)
        parts = (self._http.send(part) for part in (head, h11.Data(data=body), h11.EndOfMessage()))
        await self._write(b"".join(part for part in parts if part))

    async def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()
