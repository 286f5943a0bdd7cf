"""Publishing events: all of a request or none, or each on its own.

What was begun is finished: a caller that goes away may leave events stored, and then their
lanes are told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar

from signalpost.domain.catalogue import RESERVED
from signalpost.domain.errors import (
    EventIdConflict,
    RequestInvalid,
    SignalpostError,
    Violation,
)
from signalpost.domain.event import Event, EventDraft, UnsoundEvent
from signalpost.domain.ids import EventId
from signalpost.ports import Accepted, Clock, EventStore, LaneNotices, Told
from signalpost.publishing.catalogue import Catalogue
from signalpost.publishing.deprecation import DeprecationLog
from signalpost.publishing.judgement import Judge
from signalpost.telemetry.tracing import UNTRACED, Tracing

_logger: Final = logging.getLogger(__name__)

_Answer = TypeVar("_Answer", bound=Accepted | None)
_Answer_co = TypeVar("_Answer_co", bound=Accepted | None, covariant=True)

_ALONE: Final = "events[0]"
"""Where an event stands that is judged alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of an event; `webhook_body` is only told if nothing was stored."""

    event_id: EventId
    duplicate: bool
    delivery_count: int
    webhook_body: bytes = field(default=b"", repr=False)


class _Store(Protocol[_Answer_co]):
    """A verb of the store that takes events in."""

    async def __call__(
        self, events: Sequence[Event], *, now: datetime, told: Told | None = None
    ) -> Sequence[_Answer_co]:
        """Take them."""
        ...


class Publisher:
    """Accepts events and sees to it that their lanes are looked at."""

    def __init__(
        self,
        store: EventStore,
        *,
        catalogue: Catalogue,
        lanes: LaneNotices,
        clock: Clock,
        new_id: Callable[[], str],
        tracing: Tracing = UNTRACED,
    ) -> None:
        self._store = store
        self._judge = Judge(catalogue)
        self._deprecations = DeprecationLog(catalogue)
        self._lanes = lanes
        self._clock = clock
        self._new_id = new_id
        self._tracing = tracing

    async def publish(
        self,
        drafts: Sequence[EventDraft | UnsoundEvent],
        *,
        found: Sequence[Violation] = (),
        validate_only: bool = False,
    ) -> Sequence[Published]:
        """Store the events of one request, all or none; return one result per event.

        What is wrong with the shape of the request, and so of unsound events, is `found` already.
        Raises RequestInvalid with all violations, `found` first, or EventIdConflict;
        StorageUnavailable, StorageFull.
        """
        now = self._clock.now()
        wall = self._clock.wall()
        completed = [
            None if isinstance(draft, UnsoundEvent) else self._complete(draft, now=now, wall=wall)
            for draft in drafts
        ]
        violations = [*found, *self._judge.violations_of_all(drafts, completed)]
        if violations:
            raise RequestInvalid(violations)
        events = [event for event in completed if event is not None]
        if validate_only:
            previews = await self._store.preview(events)
            pairs = zip(previews, events, strict=True)
            return [_published(preview, event.body) for preview, event in pairs]
        answers = await self._stored(self._store.accept, events, now=now)
        return [_published(one) for one in answers]

    async def publish_each(
        self, drafts: Sequence[EventDraft | UnsoundEvent]
    ) -> Sequence[Published | SignalpostError]:
        """Store the events of one request, each on its own; return one result per event.

        What is refused is so with RequestInvalid, its paths relative to the event, or
        EventIdConflict. Calls begun one after the other are accepted in that order.
        Raises StorageUnavailable, StorageFull.
        """
        now = self._clock.now()
        judged = [self._judged(draft, now=now) for draft in drafts]
        events = [one for one in judged if isinstance(one, Event)]
        if events:
            answers = iter(await self._stored(self._store.accept_each, events, now=now))
        else:
            answers = iter(())
        return [_result(one, next(answers)) if isinstance(one, Event) else one for one in judged]

    def rehearse(self, draft: EventDraft | UnsoundEvent) -> Event:
        """Return an event as it would be stored. Raises RequestInvalid, its paths relative to it.

        One of a type that only this service publishes is taken, too: it may be our own.
        """
        judged = self._judged(draft, now=self._clock.now(), reserved=frozenset())
        if isinstance(judged, RequestInvalid):
            raise judged
        return judged

    def _judged(
        self,
        draft: EventDraft | UnsoundEvent,
        *,
        now: datetime,
        reserved: Collection[str] = RESERVED,
    ) -> Event | RequestInvalid:
        if isinstance(draft, UnsoundEvent):
            more = self._judge.unsound_violations(draft, path=_ALONE, reserved=reserved)
            return RequestInvalid([*draft.violations, *map(_alone, more)])
        event = self._complete(draft, now=now, wall=self._clock.wall())
        found = self._judge.violations(draft, event, path=_ALONE, reserved=reserved)
        violations = [_alone(one) for one in found]
        return RequestInvalid(violations) if violations else event

    async def _stored(
        self, store: _Store[_Answer], events: Sequence[Event], *, now: datetime
    ) -> Sequence[_Answer]:
        """Store events; then the lanes and the log are told, whether or not anyone waits."""

        def told(answers: Sequence[Accepted | None]) -> None:
            accepted = [one for one in answers if one is not None]
            if lanes := {lane for one in accepted for lane in one.lanes}:
                self._lanes.notice(lanes, due=now)
            _log(accepting.events, accepted)
            self._deprecations.note({event.event_type for event in events}, now=now)

        with self._tracing.accepting(events) as accepting:
            return await store(accepting.events, now=now, told=told)

    def _complete(self, draft: EventDraft, *, now: datetime, wall: datetime) -> Event:
        event_id = draft.event_id or EventId(self._new_id())
        return self._judge.complete(draft, event_id=event_id, now=now, wall=wall)


def _alone(violation: Violation) -> Violation:
    """Name a field as seen from the event."""
    return replace(violation, field=violation.field.removeprefix(_ALONE).removeprefix("."))


def _result(event: Event, accepted: Accepted | None) -> Published | EventIdConflict:
    return EventIdConflict(event.event_id) if accepted is None else _published(accepted)


def _published(accepted: Accepted, webhook_body: bytes = b"") -> Published:
    return Published(
        event_id=accepted.event_id,
        duplicate=accepted.duplicate,
        delivery_count=accepted.delivery_count,
        webhook_body=webhook_body,
    )


def _log(events: Sequence[Event], accepted: Sequence[Accepted]) -> None:
    """Write one line for a request; it names what all of its events share."""
    if not _logger.isEnabledFor(logging.DEBUG):
        return
    tenants: set[str] = {event.tenant_id for event in events}
    traces = {event.traceparent[3:35] for event in events if event.traceparent}
    _logger.debug(
        "events accepted",
        extra={
            "events": len(accepted),
            "duplicates": sum(one.duplicate for one in accepted),
            "deliveries": sum(one.delivery_count for one in accepted if not one.duplicate),
            "body_bytes": sum(len(event.body) for event in events),
            "first_event_id": events[0].event_id,
            "tenant_id": _only(tenants, "tenants"),
            "trace_id": _only(traces, "traces"),
        },
    )


def _only(values: set[str], noun: str) -> str:
    """Return the one value there is; of several how many."""
    return f"{len(values)} {noun}" if len(values) > 1 else "".join(values)
