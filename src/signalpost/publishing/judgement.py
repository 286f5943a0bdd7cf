"""What the catalogue and the size limit have against events that are sound in shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from signalpost.domain.catalogue import RESERVED
from signalpost.domain.errors import Reason, Violation
from signalpost.domain.event import (
    MAX_BODY_BYTES,
    Event,
    EventDraft,
    Resource,
    UnsoundEvent,
    complete,
)
from signalpost.domain.ids import EventId, TenantId
from signalpost.publishing.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Judge:
    """Completes events by the catalogue, and says what is wrong with them."""

    catalogue: Catalogue

    def complete(
        self, draft: EventDraft, *, event_id: EventId, now: datetime, wall: datetime
    ) -> Event:
        """Make the event that is stored, the `resource.type` of its type filled in."""
        if not draft.resource.type and (known := self.catalogue.find(draft.event_type)):
            resource = Resource(known.resource_type, draft.resource.id)
            draft = replace(draft, resource=resource)
        return complete(draft, event_id=event_id, now=now, wall=wall)

    def violations(
        self,
        draft: EventDraft,
        event: Event,
        *,
        path: str,
        reserved: Collection[str] = RESERVED,
    ) -> Iterator[Violation]:
        """Say what is wrong with the event at `path` that was made of a draft."""
        too_large = list(_size_violations(event, path=path))
        yield from self._type_violations(draft, event, path=path, reserved=reserved)
        # What cannot be delivered anyhow is not worth the work.
        if not too_large:
            yield from self._payload_violations(draft, path=path)
        yield from too_large

    def violations_of_all(
        self, drafts: Sequence[EventDraft | UnsoundEvent], events: Sequence[Event | None]
    ) -> Iterator[Violation]:
        """Say what is wrong with the events of one request; there are none of unsound drafts."""
        first: dict[tuple[TenantId, EventId], tuple[int, Event]] = {}
        for place, (draft, event) in enumerate(zip(drafts, events, strict=True)):
            path = f"events[{place}]"
            if isinstance(draft, UnsoundEvent):
                yield from self.unsound_violations(draft, path=path)
            elif event is not None:
                yield from self.violations(draft, event, path=path)
                former, other = first.setdefault((event.tenant_id, event.event_id), (place, event))
                if other.digest != event.digest:
                    description = f"is also the ID of events[{former}], whose content is another"
                    yield Violation(f"{path}.event_id", Reason.FIELD_INVALID, description)

    def unsound_violations(
        self, draft: UnsoundEvent, *, path: str, reserved: Collection[str] = RESERVED
    ) -> Iterator[Violation]:
        """Say what is wrong with an event besides its shape, as far as that can be told."""
        if draft.event_type:
            wrong = self._type_violation(draft.event_type, path=path, reserved=reserved)
            if wrong is not None:
                yield wrong

    def _type_violations(
        self, draft: EventDraft, event: Event, *, path: str, reserved: Collection[str]
    ) -> Iterator[Violation]:
        wrong = self._type_violation(draft.event_type, path=path, reserved=reserved)
        if wrong is not None:
            yield wrong
        elif not event.resource.type:
            description = "is required, for the event type has none"
            yield Violation(f"{path}.resource.type", Reason.FIELD_INVALID, description)

    def _type_violation(
        self, event_type: str, *, path: str, reserved: Collection[str]
    ) -> Violation | None:
        metadata = {"eventType": event_type}
        if event_type in reserved:
            member = event_type.replace(".", "_", 1)
            description = "only this service publishes events of this type"
            return Violation(f"{path}.{member}", Reason.EVENT_TYPE_RESERVED, description, metadata)
        if event_type not in self.catalogue:
            description = f'no event type "{event_type}" is registered'
            field = f"{path}.custom.name"
            return Violation(field, Reason.EVENT_TYPE_UNKNOWN, description, metadata)
        return None

    def _payload_violations(self, draft: EventDraft, *, path: str) -> Iterator[Violation]:
        for problem in self.catalogue.problems(draft.event_type, draft.payload):
            yield Violation(
                f"{path}.custom.data{problem.path}",
                Reason.PAYLOAD_INVALID,
                problem.description,
                {"eventType": draft.event_type},
            )


def _size_violations(event: Event, *, path: str) -> Iterator[Violation]:
    size = len(event.body)
    if size > MAX_BODY_BYTES:
        metadata = {"sizeBytes": str(size), "limitBytes": str(MAX_BODY_BYTES)}
        description = f"makes a webhook body of {size} bytes, {MAX_BODY_BYTES} at most"
        yield Violation(path, Reason.TOO_LARGE, description, metadata)
