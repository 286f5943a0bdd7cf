"""One request to an endpoint for its owner to see: nothing is stored, nothing repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from signalpost.delivery.request import build_request
from signalpost.domain.delivery import Attempt, Trigger
from signalpost.domain.event import Event
from signalpost.domain.subscription import Subscription
from signalpost.ports import Clock, Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How a test went, and what was sent; `headers` hold the customer's values."""

    attempt: Attempt
    headers: Mapping[str, str] = field(repr=False)
    body: bytes


class Prober:
    """Sends events to endpoints outside of all lanes."""

    def __init__(self, sender: Sender, *, clock: Clock, user_agent: str) -> None:
        self._sender = sender
        self._clock = clock
        self._user_agent = user_agent

    async def probe(self, subscription: Subscription, event: Event) -> Probe:
        """Send an event now, whatever the state and the filter of the subscription."""
        start = self._clock.now()
        request = build_request(
            subscription,
            event_id=event.event_id,
            body=event.body,
            traceparent=event.traceparent,
            now=start,
            user_agent=self._user_agent,
        )
        result = await self._sender.send(request)
        attempt = Attempt(number=1, trigger=Trigger.MANUAL, start_time=start, result=result)
        return Probe(attempt=attempt, headers=request.headers, body=request.body)
