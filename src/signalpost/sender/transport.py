"""One endpoint's connections: an httpx transport over connections of httpcore.

Its pool is not used: that takes time by the square of the requests in flight, and lets several
requests run after the same free connection, so that some of them wait for seconds.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping

import httpcore
import httpx

from signalpost.sender.backend import Backend
from signalpost.sender.failure import closed_unanswered, internal, not_http
from signalpost.sender.trail import CURRENT, Phase, Trail

KEEPALIVE_SECONDS = 30.0
"""How long a connection waits for its next request."""

MAX_IDLE_CONNECTIONS = 32


class EndpointTransport(httpx.AsyncBaseTransport):
    """Sends requests to one endpoint, on a free connection or a new one.

    No redirects, cookies, decoding, retries or proxies: exactly one request is written.
    How many are in flight is up to the caller.
    """

    def __init__(self, *, context: ssl.SSLContext, backend: Backend) -> None:
        self._context = context
        self._backend = backend
        self._idle: deque[httpcore.AsyncHTTPConnection] = deque()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return an answer once its head is there; the caller closes it. Raises SendFailed."""
        trail = CURRENT.get()
        raw = _to_httpcore(request)
        connection = await self._free_connection() or self._new_connection(raw.url.origin)
        try:
            answer = await connection.handle_async_request(raw)
        except httpcore.RemoteProtocolError as error:
            raise (closed_unanswered() if trail.closed else not_http()) from error
        except httpcore.LocalProtocolError:
            # Its text repeats what is wrong in the request, which may be a secret.
            raise internal() from None
        finally:
            if not trail.answered:
                await connection.aclose()
        body = AnswerBody(answer, connection=connection, transport=self)
        return httpx.Response(answer.status, headers=answer.headers, stream=body, request=request)

    async def take_back(self, connection: httpcore.AsyncHTTPConnection) -> None:
        """Keep a connection whose answer was closed, if it can be used again."""
        if self._closed or not connection.is_idle():
            await connection.aclose()
            return
        self._idle.append(connection)
        while len(self._idle) > MAX_IDLE_CONNECTIONS or self._idle[0].has_expired():
            await self._idle.popleft().aclose()
            if not self._idle:
                return

    async def aclose(self) -> None:
        """Close all connections; those in use are closed after their answer."""
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()

    async def _free_connection(self) -> httpcore.AsyncHTTPConnection | None:
        """Return the connection that was used last, if it still can be."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _new_connection(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            origin,
            ssl_context=self._context,
            keepalive_expiry=KEEPALIVE_SECONDS,
            retries=0,
            network_backend=self._backend,
        )


class AnswerBody(httpx.AsyncByteStream):
    """The raw body of an answer."""

    def __init__(
        self,
        answer: httpcore.Response,
        *,
        connection: httpcore.AsyncHTTPConnection,
        transport: EndpointTransport,
    ) -> None:
        self._answer = answer
        self._connection = connection
        self._transport = transport
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises SendFailed if it breaks off."""
        try:
            async for chunk in self._answer.aiter_stream():
                yield chunk
        except httpcore.RemoteProtocolError as error:
            raise not_http() from error

    async def aclose(self) -> None:
        """Let go of the connection: it is kept only if the body was read to its end."""
        if not self._closed:
            self._closed = True
            await self._answer.aclose()
            await self._transport.take_back(self._connection)


def _to_httpcore(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method.encode("ascii"),
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions={"trace": _note},
    )


async def _note(event: str, _: Mapping[str, object]) -> None:
    """Follow the request: httpcore tells where it is."""
    trail: Trail = CURRENT.get()
    match event:
        case "http11.send_request_headers.started":
            trail.begin(Phase.WRITE)
        case "http11.receive_response_headers.started":
            trail.begin(Phase.WAIT)
        case "http11.receive_response_headers.complete":
            trail.end()
            trail.answered = True
