"""Publishing events: all of a request, or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from signalpost.domain.catalogue import RESERVED, RESOURCE_TYPES
from signalpost.domain.errors import Reason, RequestInvalid, Violation
from signalpost.domain.event import MAX_BODY_BYTES, Event, EventDraft, complete
from signalpost.domain.ids import EventId, TenantId
from signalpost.ports import Accepted, Clock, EventStore, LaneNotices

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of an event; `webhook_body` is only told if nothing was stored."""

    event_id: EventId
    duplicate: bool
    delivery_count: int
    webhook_body: bytes = field(default=b"", repr=False)


class Publisher:
    """Accepts events and sees to it that their lanes are looked at."""

    def __init__(
        self,
        store: EventStore,
        *,
        lanes: LaneNotices,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._new_id = new_id

    async def publish(
        self,
        drafts: Sequence[EventDraft | None],
        *,
        found: Sequence[Violation] = (),
        validate_only: bool = False,
    ) -> Sequence[Published]:
        """Store the events of one request, all or none; return one result per event.

        A draft is None where `found` already says what is wrong with the event in that place,
        so that places are those of the request. Raises RequestInvalid with all violations,
        `found` first, or EventIdConflict; StorageUnavailable, StorageFull.
        """
        now = self._clock.now()
        completed = [self._complete(draft, now=now) for draft in drafts]
        violations = [*found, *_violations(drafts, completed)]
        if violations:
            raise RequestInvalid(violations)
        events = [event for event in completed if event is not None]
        if validate_only:
            previews = await self._store.preview(events)
            pairs = zip(previews, events, strict=True)
            return [_published(preview, event.body) for preview, event in pairs]
        accepted = await self._store.accept(events, now=now)
        self._lanes.notice({lane for one in accepted for lane in one.lanes}, due=now)
        _log(events, accepted)
        return [_published(one) for one in accepted]

    def _complete(self, draft: EventDraft | None, *, now: datetime) -> Event | None:
        if draft is None:
            return None
        return complete(draft, event_id=draft.event_id or EventId(self._new_id()), now=now)


def _published(accepted: Accepted, webhook_body: bytes = b"") -> Published:
    return Published(
        event_id=accepted.event_id,
        duplicate=accepted.duplicate,
        delivery_count=accepted.delivery_count,
        webhook_body=webhook_body,
    )


def _violations(
    drafts: Sequence[EventDraft | None], events: Sequence[Event | None]
) -> Iterator[Violation]:
    """Say what is wrong with events that are sound in shape."""
    first: dict[tuple[TenantId, EventId], tuple[int, Event]] = {}
    for place, (draft, event) in enumerate(zip(drafts, events, strict=True)):
        if draft is None or event is None:
            continue
        path = f"events[{place}]"
        yield from _type_violations(draft, path=path)
        yield from _size_violations(event, path=path)
        former, other = first.setdefault((event.tenant_id, event.event_id), (place, event))
        if other.digest != event.digest:
            description = f"is also the ID of events[{former}], whose content is another"
            yield Violation(f"{path}.event_id", Reason.FIELD_INVALID, description)


def _type_violations(draft: EventDraft, *, path: str) -> Iterator[Violation]:
    metadata = {"eventType": draft.event_type}
    if draft.event_type in RESERVED:
        member = draft.event_type.replace(".", "_", 1)
        description = "only this service publishes events of this type"
        yield Violation(f"{path}.{member}", Reason.EVENT_TYPE_RESERVED, description, metadata)
    elif draft.event_type not in RESOURCE_TYPES:
        description = f'no event type "{draft.event_type}" is registered'
        yield Violation(f"{path}.custom.name", Reason.EVENT_TYPE_UNKNOWN, description, metadata)


def _size_violations(event: Event, *, path: str) -> Iterator[Violation]:
    size = len(event.body)
    if size > MAX_BODY_BYTES:
        metadata = {"sizeBytes": str(size), "limitBytes": str(MAX_BODY_BYTES)}
        description = f"makes a webhook body of {size} bytes, {MAX_BODY_BYTES} at most"
        yield Violation(path, Reason.TOO_LARGE, description, metadata)


def _log(events: Sequence[Event], accepted: Sequence[Accepted]) -> None:
    """Write one line for a request; it names what all of its events share."""
    tenants = {event.tenant_id for event in events}
    traces = {event.traceparent[3:35] for event in events if event.traceparent}
    _logger.info(
        "events accepted",
        extra={
            "events": len(events),
            "duplicates": sum(one.duplicate for one in accepted),
            "deliveries": sum(one.delivery_count for one in accepted if not one.duplicate),
            "body_bytes": sum(len(event.body) for event in events),
            "first_event_id": events[0].event_id,
            "tenant_id": tenants.pop() if len(tenants) == 1 else f"{len(tenants)} tenants",
            "trace_id": traces.pop() if len(traces) == 1 else f"{len(traces)} traces",
        },
    )
