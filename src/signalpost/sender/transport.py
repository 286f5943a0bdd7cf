"""One endpoint's connections: an httpx transport over a pool of httpcore.

httpcore's pool takes time by the square of the requests in flight, hence one for each endpoint.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping

import httpcore
import httpx

from signalpost.sender.backend import Backend
from signalpost.sender.failure import closed_unanswered, internal, not_http
from signalpost.sender.trail import CURRENT, Phase, Trail

KEEPALIVE_SECONDS = 30.0
"""How long a connection waits for its next request."""

MAX_CONNECTIONS = 256
MAX_IDLE_CONNECTIONS = 32


class EndpointTransport(httpx.AsyncBaseTransport):
    """Sends requests to one endpoint.

    No redirects, cookies, decoding, retries or proxies: exactly one request is written.
    """

    def __init__(self, *, context: ssl.SSLContext, backend: Backend) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
            http1=True,
            http2=False,
            retries=0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return an answer once its head is there; the caller closes it. Raises SendFailed."""
        trail = CURRENT.get()
        try:
            answer = await self._pool.handle_async_request(_to_httpcore(request))
        except httpcore.RemoteProtocolError as error:
            raise (closed_unanswered() if trail.closed else not_http()) from error
        except httpcore.LocalProtocolError:
            # Its text repeats what is wrong in the request, which may be a secret.
            raise internal() from None
        if not isinstance(answer.stream, AsyncIterable):
            raise TypeError("an answer of another kind of pool")
        return httpx.Response(
            answer.status, headers=answer.headers, stream=AnswerBody(answer), request=request
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class AnswerBody(httpx.AsyncByteStream):
    """The raw body of an answer."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises SendFailed if it breaks off."""
        try:
            async for chunk in self._answer.aiter_stream():
                yield chunk
        except httpcore.RemoteProtocolError as error:
            raise not_http() from error

    async def aclose(self) -> None:
        """Let go of the connection: it is kept only if the body was read to its end."""
        await self._answer.aclose()


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
