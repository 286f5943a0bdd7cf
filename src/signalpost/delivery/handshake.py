"""Asks an endpoint, once, whether it agrees to receive events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from signalpost.delivery.turns import Turns
from signalpost.domain.errors import EndpointUnverified
from signalpost.domain.handshake import Consent, Refusal, judge, question
from signalpost.domain.lane import host_of
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.subscription import Subscription
from signalpost.ports import WebhookRequest
from signalpost.ports.consent import OptionsSender
from signalpost.telemetry import tracing
from signalpost.telemetry.tracing import UNTRACED, Tracing

_logger: Final = logging.getLogger(__name__)


class Handshaker:
    """Asks in the name of `origin`, outside of all lanes. Implements `consent.ConsentAsker`."""

    def __init__(
        self,
        sender: OptionsSender,
        *,
        origin: str,
        user_agent: str,
        turns: Turns,
        tracing: Tracing = UNTRACED,
    ) -> None:
        self._sender = sender
        self._origin = origin
        self._user_agent = user_agent
        self._turns = turns
        self._tracing = tracing

    async def ask(self, subscription: Subscription) -> Consent:
        """Make one request within the subscription's `timeout`, once it is its turn.

        Raises EndpointUnverified.
        """
        host = host_of(subscription.endpoint_uri)
        async with self._turns.turn(host) as turn:
            with self._tracing.handshake() as span:
                tracing.aimed(span, subscription)
                answer = await self._sender.options(self._request(subscription))
                tracing.attempted(span, answer.result)
            judgement = self._judged(answer.result, answer.headers)
            turn.worked = isinstance(judgement, Consent)
        _log(subscription, answer.result, judgement)
        if isinstance(judgement, Refusal):
            status_code = answer.result.status_code or None
            raise EndpointUnverified(host, judgement.problem, status_code=status_code)
        return judgement

    def _request(self, subscription: Subscription) -> WebhookRequest:
        own = {
            "accept-encoding": "identity",
            "connection": "close",
            "user-agent": self._user_agent,
            **question(self._origin, max_attempts_per_second=subscription.max_attempts_per_second),
        }
        return WebhookRequest(
            lane_id=subscription.lane_id,
            endpoint_uri=subscription.endpoint_uri,
            headers=subscription.headers | own,
            body=b"",
            timeout=subscription.timeout,
            allowed_ip_ranges=subscription.allowed_ip_ranges,
        )

    def _judged(
        self, result: AttemptResult, headers: Sequence[tuple[str, str]]
    ) -> Consent | Refusal:
        if result.status_code:
            return judge(result.status_code, headers, origin=self._origin)
        if result.outcome is Outcome.FORBIDDEN:
            return Refusal("it is where this service does not connect to")
        return Refusal(f"no answer to OPTIONS ({result.error_code}): {result.error_message}")


def _log(subscription: Subscription, result: AttemptResult, judgement: Consent | Refusal) -> None:
    refused = isinstance(judgement, Refusal)
    _logger.info(
        "endpoint refused the handshake" if refused else "endpoint agreed in the handshake",
        extra={
            "tenant_id": subscription.tenant_id,
            "subscription_id": subscription.subscription_id,
            "outcome": result.outcome.name,
            "status_code": result.status_code,
            "error_code": result.error_code,
            "problem": judgement.problem if isinstance(judgement, Refusal) else "",
            "latency_ms": round(result.latency.total_seconds() * 1000, 1),
        },
    )
