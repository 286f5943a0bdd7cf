"""Accepts events, and shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, bindparam, func, select

from signalpost import failpoints
from signalpost.domain.delivery import DeliveryState, FailureReason, Trigger
from signalpost.domain.errors import EventIdConflict, NotFound
from signalpost.domain.event import Event, Resource
from signalpost.domain.ids import EventId, LaneId, TenantId
from signalpost.ports import Accepted, EventQuery, Page, PageRequest
from signalpost.store.admission import Admission, EventKey, Known, admit, all_admitted
from signalpost.store.matching import Matching
from signalpost.store.news import note_accepted
from signalpost.store.order import Places, line_of
from signalpost.store.paging import SCAN_LIMIT, collect
from signalpost.store.row_numbers import RowNumbers, floor
from signalpost.store.statements import AnyRow, DrivenInsert, Keyed, Values
from signalpost.store.tables import Phase, deliveries, events, queue
from signalpost.store.tally import tally_of
from signalpost.store.units import from_time, to_time

_INSERT_EVENT = DrivenInsert(events)
_INSERT_DELIVERY = DrivenInsert(deliveries)
_ENQUEUE = DrivenInsert(queue)

_KNOWN = Keyed(
    lambda keys: select(events.c.event_id, events.c.digest, events.c.delivery_count).where(
        events.c.tenant_id == bindparam("tenant_id"), events.c.event_id.in_(keys)
    ),
    "tenant_id",
)

_EVENT_OVERHEAD_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptCall:
    """One call of `accept` or, if each event is accepted on its own, of `accept_each`."""

    events: Sequence[Event]
    now: datetime
    each: bool = False


def accept(
    conn: Connection, calls: Sequence[AcceptCall], *, matching: Matching, numbers: RowNumbers
) -> list[Sequence[Accepted | None] | EventIdConflict]:
    """Store the events of all calls; one that conflicts stores nothing and hinders no other."""
    known = _known(conn, (event for call in calls for event in call.events))
    recipients = partial(matching.recipients, conn)
    answers: list[Sequence[Accepted | None] | EventIdConflict] = []
    rows = _Rows([], [], [], Places(conn))
    for call in calls:
        admission = admit(call.events, known=known, recipients=recipients)
        answer = _answer(call, admission)
        if not isinstance(answer, EventIdConflict):
            for key, (event, chosen) in admission.fresh.items():
                known[key] = Known(event.digest, len(chosen))
            behind = rows.add(admission, now=call.now, numbers=numbers)
            answer = _without(behind, answer)
        answers.append(answer)
    rows.insert(conn)
    if rows.events:
        note_accepted(conn)
    return answers


def _answer(call: AcceptCall, admission: Admission) -> Sequence[Accepted | None] | EventIdConflict:
    if call.each:
        return admission.answers
    try:
        return all_admitted(call.events, admission)
    except EventIdConflict as conflict:
        return conflict


def _without(
    behind: Mapping[EventId, set[LaneId]], answers: Sequence[Accepted | None]
) -> Sequence[Accepted | None]:
    """Leave out the lanes in which nothing new may go."""
    if not behind:
        return answers
    return [
        answer
        and replace(
            answer,
            lanes=tuple(
                lane for lane in answer.lanes if lane.lane_id not in behind.get(answer.event_id, ())
            ),
        )
        for answer in answers
    ]


def preview(conn: Connection, drafts: Sequence[Event]) -> Sequence[Accepted]:
    """Tell what `accept` would answer. Raises EventIdConflict."""
    admission = admit(
        drafts, known=_known(conn, drafts), recipients=partial(Matching().recipients, conn)
    )
    return [replace(answer, lanes=()) for answer in all_admitted(drafts, admission)]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a transaction inserts."""

    events: list[Values]
    deliveries: list[Values]
    queue: list[Values]
    places: Places

    def add(
        self, admission: Admission, *, now: datetime, numbers: RowNumbers
    ) -> Mapping[EventId, set[LaneId]]:
        """Add what was admitted; return the lanes in which it waits behind something else."""
        created = from_time(now)
        behind: dict[EventId, set[LaneId]] = {}
        for event, chosen in admission.fresh.values():
            # Not before its publish time, so that a search by that may end early.
            drawn = iter(numbers.draw(1 + len(chosen), at=max(now, event.publish_time)))
            row = next(drawn)
            self.events.append(_event_values(row, event, len(chosen)))
            for recipient, key in zip(chosen, drawn, strict=True):
                lane_id = recipient.lane.lane_id
                self.deliveries.append(
                    (key, row, lane_id, event.tenant_id, *_NEW_DELIVERY, created, None)
                )
                phase, resource = _WAITING, None
                if recipient.ordered:
                    line = line_of(lane_id, event.resource)
                    phase, resource = int(self.places.take(line)), line.resource
                    if phase == Phase.BEHIND:
                        behind.setdefault(event.event_id, set()).add(lane_id)
                self.queue.append((key, lane_id, row, phase, created, *_NEW_IN_QUEUE, resource))
        return behind

    def insert(self, conn: Connection) -> None:
        _INSERT_EVENT.many(conn, self.events)
        half = len(self.deliveries) // 2
        _INSERT_DELIVERY.many(conn, self.deliveries[:half])
        failpoints.hit("fanout.mid")
        _INSERT_DELIVERY.many(conn, self.deliveries[half:])
        _ENQUEUE.many(conn, self.queue)
        tally = tally_of(conn)
        tally.accepted(len(self.events))
        for _, lane_id, *_ in self.queue:
            tally.queued(lane_id)


_WAITING = int(Phase.WAITING)
# state, failure_reason, attempts
_NEW_DELIVERY = (int(DeliveryState.PENDING), int(FailureReason.NONE), 0)
# token, attempts, tries, set_start, cause, claim_time, lease_until, band, cancel_time
_NEW_IN_QUEUE = (0, 0, 0, None, int(Trigger.SCHEDULED), None, None, 0, None)


def _event_values(row: int, event: Event, delivery_count: int) -> Values:
    return (
        row,
        event.tenant_id,
        event.event_id,
        event.event_type,
        event.resource.type,
        event.resource.id,
        from_time(event.publish_time),
        delivery_count,
        event.traceparent,
        event.digest,
        event.body,
    )


def _known(conn: Connection, wanted: Iterable[Event]) -> dict[EventKey, Known]:
    by_tenant: dict[TenantId, list[EventId]] = {}
    for event in wanted:
        by_tenant.setdefault(event.tenant_id, []).append(event.event_id)
    return {
        (tenant_id, row.event_id): Known(row.digest, row.delivery_count)
        for tenant_id, event_ids in by_tenant.items()
        for row in _KNOWN.fetch(conn, event_ids, values=(tenant_id,))
    }


def get_event(conn: Connection, tenant_id: TenantId, event_id: EventId) -> Event:
    """Return a stored event. Raises NotFound."""
    statement = select(events).where(events.c.tenant_id == tenant_id, events.c.event_id == event_id)
    row = conn.execute(statement).one_or_none()
    if row is None:
        raise NotFound("event", event_id)
    return event_of(row, row.body)


def list_events(conn: Connection, query: EventQuery, page: PageRequest) -> Page[Event]:
    """Return events, the newest first."""
    c = events.c
    light = [column for column in events.columns if column.name != "body"]
    statement = select(*light, func.length(c.body).label("body_bytes")).order_by(c.id.desc())
    if query.tenant_id is not None:
        statement = statement.where(c.tenant_id == query.tenant_id)
    statement = statement.where(c.id >= (0 if query.start is None else floor(query.start)))
    if page.after is not None:
        statement = statement.where(c.id < int(page.after))
    found = collect(
        conn.execute(statement.limit(SCAN_LIMIT + 1).execution_options(yield_per=200)),
        page=page,
        keeps=partial(_chosen, query),
        weigh=lambda row: row.body_bytes + _EVENT_OVERHEAD_BYTES,
        position=lambda row: str(row.id),
    )
    bodies = _bodies(conn, [row.id for row in found.items])
    return Page([event_of(row, bodies[row.id]) for row in found.items], found.next_after)


_BODIES = Keyed(lambda keys: select(events.c.id, events.c.body).where(events.c.id.in_(keys)))


def _bodies(conn: Connection, rows: Sequence[int]) -> Mapping[int, bytes]:
    return {row.id: row.body for row in _BODIES.fetch(conn, rows)}


def _chosen(query: EventQuery, row: AnyRow) -> bool:
    return (
        (query.start is None or from_time(query.start) <= row.publish_time)
        and (query.end is None or row.publish_time < from_time(query.end))
        and query.filter.matches(row.event_type, Resource(row.resource_type, row.resource_id))
    )


def event_of(row: AnyRow, body: bytes) -> Event:
    """Return the event of a row, which may lack the body."""
    return Event(
        event_id=EventId(row.event_id),
        tenant_id=TenantId(row.tenant_id),
        event_type=row.event_type,
        resource=Resource(row.resource_type, row.resource_id),
        body=body,
        digest=row.digest,
        traceparent=row.traceparent,
        publish_time=to_time(row.publish_time),
    )
