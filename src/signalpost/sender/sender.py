"""Makes the one request of an attempt, and tells as a value how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

import httpx

from signalpost.domain.address import EgressPolicy
from signalpost.domain.outcome import (
    RESPONSE_READ_LIMIT,
    AttemptResult,
    Outcome,
    outcome_of_status,
)
from signalpost.ports import WebhookRequest
from signalpost.ports.consent import OptionsAnswer
from signalpost.sender.dialer import Dialer
from signalpost.sender.failure import SendFailed, internal
from signalpost.sender.guard import Guard, Listener
from signalpost.sender.pool import MAX_IDLE
from signalpost.sender.resolver import Resolver
from signalpost.sender.tls import ClientContext, client_context
from signalpost.sender.trail import Trail
from signalpost.sender.transport import OWNER, TRAIL, AnswerBody, Transport

logger = logging.getLogger("signalpost.sender")

SWEEP_SECONDS = 15.0
"""How often connections that cannot be used again are looked for."""

_NO_HEADERS: Final = httpx.Headers()


class HttpSender:
    """Sends webhooks over HTTP/1.1: implements `ports.Sender` and `ports.consent.OptionsSender`.

    `own_listeners` returns the addresses and ports this service listens on at the moment;
    they are never connected to. `ca_file` holds roots to trust besides the system's. At most
    `max_idle` connections are kept, and as many sessions of TLS. The resolver is closed along
    with the sender.
    """

    def __init__(
        self,
        *,
        policy: EgressPolicy,
        own_listeners: Callable[[], Collection[Listener]],
        resolver: Resolver,
        ca_file: Path | None = None,
        max_idle: int = MAX_IDLE,
    ) -> None:
        self._resolver = resolver
        self._max_idle = max_idle
        self._own_listeners = own_listeners
        context = client_context(ca_file, max_sessions=max_idle)
        self._transport = self._new_transport(policy, context)

    async def adopt(self, policy: EgressPolicy, *, ca_file: Path | None) -> None:
        """Judge and verify every connection from now on by other rules.

        Connections that wait are closed, those in use after their answer, so that none that
        was made by the former rules gets another request. Raises OSError, and changes nothing,
        if the file cannot be used.
        """
        context = await asyncio.to_thread(client_context, ca_file, max_sessions=self._max_idle)
        former, self._transport = self._transport, self._new_transport(policy, context)
        await former.aclose()

    async def send(self, request: WebhookRequest) -> AttemptResult:
        """Make one request, and only one, and tell how it ended."""
        result, _ = await self._exchange(request, "POST", owner=request.lane_id)
        return result

    async def options(self, request: WebhookRequest) -> OptionsAnswer:
        """Make one OPTIONS request, on a connection that is used for nothing else."""
        result, headers = await self._exchange(request, "OPTIONS", owner=None)
        return OptionsAnswer(result, headers.multi_items())

    async def run(self) -> None:
        """Close connections that cannot be used again, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.run_once()

    def run_once(self) -> None:
        """Close connections that cannot be used again."""
        self._transport.sweep()

    async def aclose(self) -> None:
        """Close all connections and end all lookups."""
        await self._transport.aclose()
        await self._resolver.aclose()

    def _new_transport(self, policy: EgressPolicy, context: ClientContext) -> Transport:
        guard = Guard(policy, self._own_listeners)
        dialer = Dialer(resolver=self._resolver, guard=guard, context=context)
        return Transport(dialer, max_idle=self._max_idle)

    async def _exchange(
        self, request: WebhookRequest, method: str, *, owner: Hashable
    ) -> tuple[AttemptResult, httpx.Headers]:
        deadline = asyncio.get_running_loop().time() + request.timeout.total_seconds()
        trail = Trail(request.allowed_ip_ranges, deadline=deadline)
        extensions = {TRAIL: trail, OWNER: owner}
        try:
            return await self._attempt(request, method, extensions, trail)
        except SendFailed as failed:
            return _failure(failed, trail), _NO_HEADERS
        except Exception:
            logger.exception("attempt failed inside the sender")
            return _failure(internal(), trail), _NO_HEADERS

    async def _attempt(
        self, request: WebhookRequest, method: str, extensions: dict[str, Any], trail: Trail
    ) -> tuple[AttemptResult, httpx.Headers]:
        answer = await self._transport.handle_async_request(_http(request, method, extensions))
        latency = trail.elapsed()
        stream = cast("AnswerBody", answer.stream)
        try:
            body = await stream.read_on(seconds=RESPONSE_READ_LIMIT.total_seconds())
        finally:
            await stream.aclose()
        outcome = outcome_of_status(answer.status_code)
        is_refused = outcome is Outcome.REJECTED
        result = AttemptResult(
            outcome=outcome,
            latency=latency,
            timings=trail.timings(),
            status_code=answer.status_code,
            response_body=body,
            response_truncated=stream.is_truncated,
            retry_after=answer.headers.get("retry-after", "") if is_refused else "",
            remote_address=trail.peer,
        )
        return result, answer.headers


@lru_cache(maxsize=4096)
def _parsed(uri: str) -> tuple[httpx.URL, bytes]:
    """Parse an endpoint once: its URL and its `host` header."""
    url = httpx.URL(uri)
    return url, url.netloc


def _http(request: WebhookRequest, method: str, extensions: dict[str, Any]) -> httpx.Request:
    url, host = _parsed(request.endpoint_uri)
    headers = [
        (b"host", host),
        *((name.encode(), value.encode()) for name, value in request.headers.items()),
        (b"content-length", b"%d" % len(request.body)),
    ]
    return httpx.Request(
        method,
        url,
        headers=headers,
        stream=httpx.ByteStream(request.body),
        extensions=extensions,
    )


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
