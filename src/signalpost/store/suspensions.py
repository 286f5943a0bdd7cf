"""Suspends subscriptions: the attempt, the state and the event in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, update

from signalpost.domain.errors import EventIdConflict
from signalpost.domain.event import Event
from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.subscription import State
from signalpost.domain.suspension import Suspension
from signalpost.ports import AttemptRecord
from signalpost.ports.suspension import Announce, Suspended
from signalpost.store.events import AcceptCall, accept
from signalpost.store.lanes import FORGET
from signalpost.store.matching import Matching
from signalpost.store.outcomes import RecordCall, record
from signalpost.store.row_numbers import RowNumbers
from signalpost.store.statements import AnyRow
from signalpost.store.tables import subscriptions
from signalpost.store.tally import tally_of
from signalpost.store.units import from_time
from signalpost.store.writer import Writer, one_by_one

_ROW_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendCall:
    """One call of `suspend`."""

    record: AttemptRecord
    suspension: Suspension
    announce: Announce
    now: datetime


class Suspensions:
    """Implements `SuspensionStore` with the thread of a store."""

    def __init__(self, writer: Writer, *, matching: Matching, numbers: RowNumbers) -> None:
        self._writer = writer
        self._matching = matching
        self._numbers = numbers
        self._suspend = one_by_one(
            self._run,
            before_commit="suspend.before_commit",
            after_commit="suspend.after_commit",
        )

    async def suspend(
        self, record: AttemptRecord, suspension: Suspension, *, announce: Announce, now: datetime
    ) -> Suspended:
        """Store an attempt, suspend its subscription and tell of it."""
        call = SuspendCall(record=record, suspension=suspension, announce=announce, now=now)
        content_bytes = len(record.attempt.result.response_body) + _ROW_BYTES
        return await self._writer.submit(self._suspend, call, content_bytes=content_bytes)

    def _run(self, conn: Connection, call: SuspendCall) -> Suspended:
        [recorded] = record(conn, [RecordCall(record=call.record, now=call.now)])
        row = None if recorded is None else _mark(conn, call)
        if row is None:
            return Suspended(recorded)
        lane_id, subscription_id = call.record.lease.lane_id, SubscriptionId(row.subscription_id)
        FORGET.many(conn, [(lane_id,)])
        self._matching.forget(TenantId(row.tenant_id))
        event = call.announce(subscription_id, tally_of(conn).pending_in(lane_id))
        return Suspended(recorded, subscription_id, self._accept(conn, event, now=call.now))

    def _accept(self, conn: Connection, event: Event, *, now: datetime) -> tuple[Lane, ...]:
        call = AcceptCall(events=[event], now=now)
        [answer] = accept(conn, [call], matching=self._matching, numbers=self._numbers)
        if isinstance(answer, EventIdConflict):
            raise answer
        return tuple(lane for accepted in answer if accepted for lane in accepted.lanes)


def _mark(conn: Connection, call: SuspendCall) -> AnyRow | None:
    """Suspend the subscription as it was when the attempt was begun."""
    c, lease = subscriptions.c, call.record.lease
    now = from_time(call.now)
    return conn.execute(
        update(subscriptions)
        .where(
            c.lane_id == lease.lane_id,
            c.version == lease.subscription_version,
            c.state == int(State.ACTIVE),
            c.delete_time.is_(None),
        )
        .values(
            state=int(State.SUSPENDED),
            suspension_reason=int(call.suspension.reason),
            suspension_message=call.suspension.message,
            stop_time=now,
            update_time=now,
            version=c.version + 1,
        )
        .returning(c.tenant_id, c.subscription_id)
    ).one_or_none()
