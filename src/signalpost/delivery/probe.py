"""One request to an endpoint for its owner to see: nothing is stored, nothing repeated."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from signalpost.delivery.request import build_request
from signalpost.delivery.turns import Turns
from signalpost.domain.delivery import Attempt, Trigger
from signalpost.domain.event import Event
from signalpost.domain.lane import host_of
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.subscription import Subscription
from signalpost.ports import Clock, Sender, WebhookRequest
from signalpost.telemetry import tracing
from signalpost.telemetry.tracing import UNTRACED, Tracing

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How a test went, and what was sent: all `headers`, with the customer's values."""

    attempt: Attempt
    headers: Mapping[str, str] = field(repr=False)
    body: bytes


class Prober:
    """Sends events to endpoints outside of all lanes."""

    def __init__(
        self,
        sender: Sender,
        *,
        clock: Clock,
        user_agent: str,
        turns: Turns,
        tracing: Tracing = UNTRACED,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._user_agent = user_agent
        self._turns = turns
        self._tracing = tracing

    async def probe(self, subscription: Subscription, event: Event) -> Probe:
        """Send an event, whatever the state and the filter of the subscription.

        Now, or once it is its turn: calls together make few requests to a host at once.
        """
        async with self._turns.turn(host_of(subscription.endpoint_uri)) as turn:
            probe = await self._probe(subscription, event)
            turn.worked = probe.attempt.result.outcome is Outcome.SUCCEEDED
        return probe

    async def _probe(self, subscription: Subscription, event: Event) -> Probe:
        start = self._clock.now()
        with self._tracing.test(event) as span:
            tracing.aimed(span, subscription)
            request = build_request(
                subscription,
                event_id=event.event_id,
                body=event.body,
                traceparent=tracing.carried(span, event.traceparent),
                now=start,
                wall=self._clock.wall(),
                user_agent=self._user_agent,
            )
            result = await self._sender.send(request)
            tracing.attempted(span, result)
        _log(subscription, event, result)
        attempt = Attempt(number=1, trigger=Trigger.MANUAL, start_time=start, result=result)
        return Probe(attempt=attempt, headers=_headers(request), body=request.body)


def _headers(request: WebhookRequest) -> dict[str, str]:
    """Return them with the two that are only added on the way out."""
    return {
        "host": urlsplit(request.endpoint_uri).netloc,
        **request.headers,
        "content-length": str(len(request.body)),
    }


def _log(subscription: Subscription, event: Event, result: AttemptResult) -> None:
    _logger.info(
        "subscription tested",
        extra={
            "tenant_id": subscription.tenant_id,
            "subscription_id": subscription.subscription_id,
            "event_id": event.event_id,
            "event_type": event.event_type,
            "outcome": result.outcome.name,
            "status_code": result.status_code,
            "error_code": result.error_code,
            "latency_ms": round(result.latency.total_seconds() * 1000, 1),
            "traceparent": event.traceparent,
        },
    )
