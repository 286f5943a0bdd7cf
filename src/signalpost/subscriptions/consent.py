"""The consent of endpoints: which change needs it, and asking for it before that is stored."""

from __future__ import annotations

from dataclasses import replace

from signalpost.domain.handshake import Consent
from signalpost.domain.subscription import Subscription
from signalpost.ports.consent import ConsentAsker


def consent_kept(
    former: Subscription, *, endpoint_uri: str, require_handshake: bool
) -> Consent | None:
    """Return the consent that holds on for what a subscription becomes, None if none does.

    It is that of one endpoint, and is forgotten with the wish to have it.
    """
    if require_handshake and endpoint_uri == former.endpoint_uri:
        return former.consent
    return None


class Handshake:
    """Obtains what consent is missing, for one call: no endpoint is asked twice in it."""

    def __init__(self, asker: ConsentAsker) -> None:
        self._asker = asker
        self._given: dict[str, Consent] = {}

    async def settle(self, subscription: Subscription) -> Subscription:
        """Return a subscription with the consent that it requires. Raises EndpointUnverified."""
        if not subscription.require_handshake or subscription.consent is not None:
            return subscription
        endpoint_uri = subscription.endpoint_uri
        consent = self._given.get(endpoint_uri)
        if consent is None:
            consent = self._given[endpoint_uri] = await self._asker.ask(subscription)
        return replace(subscription, consent=consent)
