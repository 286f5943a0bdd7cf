"""Makes the one request of an attempt, and tells as a value how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from functools import lru_cache
from pathlib import Path

import httpx

from signalpost import failpoints
from signalpost.domain.address import EgressPolicy
from signalpost.domain.outcome import (
    MAX_RESPONSE_KEPT,
    MAX_RESPONSE_READ,
    RESPONSE_READ_LIMIT,
    AttemptResult,
    Outcome,
    outcome_of_status,
)
from signalpost.ports import WebhookRequest
from signalpost.sender.backend import Backend
from signalpost.sender.failure import SendFailed, internal, not_http, timed_out
from signalpost.sender.guard import Guard, Listener
from signalpost.sender.pools import Pools
from signalpost.sender.resolver import Resolver
from signalpost.sender.tls import client_context
from signalpost.sender.trail import CURRENT, Trail
from signalpost.sender.transport import EndpointTransport

logger = logging.getLogger("signalpost.sender")

SWEEP_SECONDS = 15.0
"""How often connections that nobody uses are looked for."""


class HttpSender:
    """Sends webhooks over HTTP/1.1: implements `ports.Sender`.

    `own_listeners` returns the addresses and ports this service listens on at the moment;
    they are never connected to. `ca_file` holds roots to trust besides the system's. The
    resolver is closed along with the sender.
    """

    def __init__(
        self,
        *,
        policy: EgressPolicy,
        own_listeners: Callable[[], Collection[Listener]],
        resolver: Resolver,
        ca_file: Path | None = None,
    ) -> None:
        context = client_context(ca_file)
        backend = Backend(resolver=resolver, guard=Guard(policy, own_listeners))
        self._resolver = resolver
        self._pools = Pools(lambda: EndpointTransport(context=context, backend=backend))

    async def send(self, request: WebhookRequest) -> AttemptResult:
        """Make one request, and only one, and tell how it ended."""
        trail = Trail(request.allowed_ip_ranges)
        token = CURRENT.set(trail)
        try:
            return await self._attempt(request, trail)
        except SendFailed as failed:
            return _failure(failed, trail)
        except Exception:
            logger.exception("attempt failed inside the sender")
            return _failure(internal(), trail)
        finally:
            CURRENT.reset(token)

    async def run(self) -> None:
        """Close connections that nobody uses, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.run_once()

    async def run_once(self) -> None:
        """Close connections that nobody uses."""
        await self._pools.sweep()

    async def aclose(self) -> None:
        """Close all connections and end all lookups."""
        await self._pools.aclose()
        await self._resolver.aclose()

    async def _attempt(self, request: WebhookRequest, trail: Trail) -> AttemptResult:
        url = _parsed(request.endpoint_uri)
        key = (request.lane_id, url.raw_scheme, url.netloc, request.allowed_ip_ranges)
        async with self._pools.lend(key) as transport:
            answer = await _answer(transport, _http_request(url, request), request, trail)
            latency = trail.elapsed()
            body, truncated = await _read_body(answer)
        return AttemptResult(
            outcome=outcome_of_status(answer.status_code),
            latency=latency,
            timings=trail.timings(),
            status_code=answer.status_code,
            response_body=body,
            response_truncated=truncated,
            retry_after=answer.headers.get("retry-after", ""),
            remote_address=trail.peer,
        )


async def _answer(
    transport: EndpointTransport, request: httpx.Request, attempt: WebhookRequest, trail: Trail
) -> httpx.Response:
    try:
        async with asyncio.timeout(attempt.timeout.total_seconds()):
            answer = await transport.handle_async_request(request)
    except TimeoutError:
        raise timed_out(trail.phase) from None
    if not 200 <= answer.status_code <= 599:
        await answer.aclose()
        raise not_http()
    return answer


async def _read_body(answer: httpx.Response) -> tuple[bytes, bool]:
    """Return the beginning of the body, raw, and whether there was more of it.

    However it ends, the outcome stands; what was not read to its end is closed.
    """
    body = bytearray()
    complete = False
    try:
        async with asyncio.timeout(RESPONSE_READ_LIMIT.total_seconds()):
            complete = await _fill(body, answer)
    except (TimeoutError, SendFailed):
        pass
    finally:
        await answer.aclose()
    return bytes(body[:MAX_RESPONSE_KEPT]), len(body) > MAX_RESPONSE_KEPT or not complete


async def _fill(body: bytearray, answer: httpx.Response) -> bool:
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) >= MAX_RESPONSE_READ:
            return False
    return True


@lru_cache(maxsize=4096)
def _parsed(uri: str) -> httpx.URL:
    return httpx.URL(uri)


def _http_request(url: httpx.URL, request: WebhookRequest) -> httpx.Request:
    headers = [
        ("host", url.netloc.decode("ascii")),
        *request.headers.items(),
        ("content-length", str(len(request.body))),
    ]
    stream = _Halting(request.body) if failpoints.is_armed("http.mid_body") else None
    content = None if stream else request.body
    return httpx.Request("POST", url, headers=headers, content=content, stream=stream)


class _Halting(httpx.AsyncByteStream):
    """A body in whose middle this process may be made to fail."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        middle = len(self._body) // 2
        yield self._body[:middle]
        failpoints.hit("http.mid_body")
        yield self._body[middle:]


def _failure(failed: SendFailed, trail: Trail) -> AttemptResult:
    if failed.outcome is Outcome.FORBIDDEN:
        # Nothing that would tell one forbidden target from another.
        return AttemptResult(outcome=failed.outcome, latency=trail.elapsed())
    trail.end()
    return AttemptResult(
        outcome=failed.outcome,
        latency=trail.elapsed(),
        timings=trail.timings(),
        error_code=failed.code,
        error_message=str(failed),
        remote_address=trail.peer,
    )
