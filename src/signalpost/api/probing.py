"""What `TestSubscription` sends, and how that went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from signalpost.api.convert_deliveries import attempt_message
from signalpost.api.convert_events import event_draft
from signalpost.api.examples import example
from signalpost.api.rendering import struct_from
from signalpost.delivery.probe import Prober
from signalpost.domain.catalogue import RESERVED
from signalpost.domain.errors import Reason, RequestInvalid, Violation
from signalpost.domain.event import Event
from signalpost.domain.event_type import EventType
from signalpost.domain.subscription import Subscription
from signalpost.ports import Clock
from signalpost.publishing.catalogue import Catalogue
from signalpost.publishing.publish import Publisher
from signalpost.v1.event_pb2 import Event as EventMessage
from signalpost.v1.event_pb2 import Resource
from signalpost.v1.payloads_pb2 import Custom, WebhookTest
from signalpost.v1.subscription_service_pb2 import (
    TestSubscriptionRequest,
    TestSubscriptionResponse,
)


class Rehearsal:
    """Sends one event to an endpoint for its owner to see."""

    def __init__(
        self, publisher: Publisher, *, catalogue: Catalogue, prober: Prober, clock: Clock
    ) -> None:
        self._publisher = publisher
        self._catalogue = catalogue
        self._prober = prober
        self._clock = clock

    async def run(
        self, request: TestSubscriptionRequest, subscription: Subscription, *, traceparent: str
    ) -> TestSubscriptionResponse:
        """Send what a checked request asks for. Raises RequestInvalid.

        `traceparent` holds for an event that has none.
        """
        event = self._event(request, subscription, traceparent=traceparent)
        probe = await self._prober.probe(subscription, event)
        own = {name.lower() for name in subscription.headers}
        return TestSubscriptionResponse(
            attempt=attempt_message(probe.attempt),
            request_headers={
                name: "" if name.lower() in own else value for name, value in probe.headers.items()
            },
            request_body=probe.body.decode(),
        )

    def _event(
        self, request: TestSubscriptionRequest, subscription: Subscription, *, traceparent: str
    ) -> Event:
        found: list[Violation] = []
        match request.WhichOneof("test"):
            case "event":
                message = request.event
                found += _foreign(message, subscription)
            case "event_type_name":
                message = self._example(request.event_type_name)
            case _:
                message = _greeting(subscription)
        try:
            event = self._publisher.rehearse(event_draft(message, traceparent=traceparent))
        except RequestInvalid as refusal:
            own = request.HasField("event")
            raise RequestInvalid([*found, *_seen_from(refusal, own_event=own)]) from None
        if found:
            raise RequestInvalid(found)
        return event

    def _example(self, event_type: str) -> EventMessage:
        found = example(event_type, now=self._clock.wall())
        if found is not None:
            return found
        registered = self._catalogue.find(event_type)
        if registered is None:
            description = f'no event type "{event_type}" is registered'
            metadata = {"eventType": event_type}
            raise RequestInvalid(
                [Violation("event_type_name", Reason.EVENT_TYPE_UNKNOWN, description, metadata)]
            )
        return _example_of(registered)


def _foreign(message: EventMessage, subscription: Subscription) -> Iterator[Violation]:
    """Say why a caller's event is none that a publisher could send to a subscription."""
    member = message.WhichOneof("payload") or ""
    event_type = member.replace("_", ".", 1)
    if event_type in RESERVED:
        description = "only this service publishes events of this type"
        metadata = {"eventType": event_type}
        yield Violation(f"event.{member}", Reason.EVENT_TYPE_RESERVED, description, metadata)
    if message.tenant_id not in {"", subscription.tenant_id}:
        description = "must be empty or that of the subscription"
        yield Violation("event.tenant_id", Reason.FIELD_INVALID, description)


def _greeting(subscription: Subscription) -> EventMessage:
    subscription_id = subscription.subscription_id
    return EventMessage(
        resource=Resource(id=subscription_id),
        webhook_test=WebhookTest(
            subscription_id=subscription_id,
            message="This is a test. Nothing happened, and nothing is stored.",
        ),
    )


def _example_of(event_type: EventType) -> EventMessage:
    """Make an event of a registered type; without an example its payload is empty."""
    resource = Resource(type=event_type.resource_type or "example", id="example")
    data = None if event_type.example is None else struct_from(event_type.example)
    return EventMessage(resource=resource, custom=Custom(name=event_type.name, data=data))


def _seen_from(refusal: RequestInvalid, *, own_event: bool) -> Iterator[Violation]:
    """Name what the caller sent: an event, or only the type whose example is at fault."""
    for violation in refusal.violations:
        field = f"event.{violation.field}" if own_event else "event_type_name"
        yield replace(violation, field=field.removesuffix("."))
