"""Asking endpoints for their consent: what `subscriptions` asks for, and what `delivery` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from signalpost.domain.handshake import Consent
from signalpost.domain.outcome import AttemptResult
from signalpost.domain.subscription import Subscription
from signalpost.ports.sending import WebhookRequest


class ConsentAsker(Protocol):
    """Asks endpoints whether they agree to receive events."""

    async def ask(self, subscription: Subscription) -> Consent:
        """Return the consent of the endpoint of a subscription, which need not be stored.

        One request is made, within its `timeout`. Raises EndpointUnverified.
        """
        ...


@dataclass(frozen=True, slots=True)
class OptionsAnswer:
    """How an OPTIONS request ended, with the headers of the answer, if there was one."""

    result: AttemptResult
    headers: Sequence[tuple[str, str]]


class OptionsSender(Protocol):
    """Makes OPTIONS requests, in the way of webhooks."""

    async def options(self, request: WebhookRequest) -> OptionsAnswer:
        """Make one request, and only one, on a connection of its own; `lane_id` is not heeded.

        Whatever the network or the receiver does is a result, never an exception.
        """
        ...
