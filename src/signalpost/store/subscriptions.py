"""Keeps subscriptions and their signing keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, tuple_, update

from signalpost.domain.errors import AlreadyExists, EtagMismatch, NotFound
from signalpost.domain.event import Resource
from signalpost.domain.filter import EventFilter
from signalpost.domain.headers import are_sendable
from signalpost.domain.ids import LaneId, SubscriptionId, TenantId
from signalpost.domain.subscription import MAX_TIMEOUT, State, Subscription
from signalpost.domain.version import etag_of
from signalpost.ports import (
    Page,
    PageRequest,
    SecretUnreadable,
    SubscriptionQuery,
    SubscriptionUnreadable,
    Unreadable,
)
from signalpost.store import subscription_rows
from signalpost.store.arranging import ArrangeCall, arrange
from signalpost.store.documents import read_filter
from signalpost.store.lanes import FORGET, LANE_COLUMNS
from signalpost.store.matching import Matching
from signalpost.store.order import Ordering
from signalpost.store.paging import SCAN_LIMIT, collect
from signalpost.store.sealing import Sealer
from signalpost.store.statements import AnyRow, Keyed
from signalpost.store.tables import signing_keys, subscriptions
from signalpost.store.units import from_time, to_time

_LIVE = subscriptions.c.delete_time.is_(None)
_OVERHEAD_BYTES = 512

_OF_LANES = Keyed(
    lambda keys: select(subscriptions).where(subscriptions.c.lane_id.in_(keys), _LIVE)
)
_KEYS_OF_LANES = Keyed(
    lambda keys: (
        select(signing_keys)
        .where(signing_keys.c.lane_id.in_(keys))
        .order_by(signing_keys.c.lane_id, signing_keys.c.position)
    )
)

_CHUNK = 500
"""Deliveries that are arranged with the change of a subscription that calls for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceCall:
    """One call of `replace`."""

    subscription: Subscription
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCall:
    """One call of `delete`."""

    tenant_id: TenantId
    subscription_id: SubscriptionId
    etag: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Registrar:
    """Changes subscriptions, in the thread of the writer."""

    sealer: Sealer
    matching: Matching

    def create(self, conn: Connection, subscription: Subscription) -> Subscription:
        """Store a new one. Raises AlreadyExists."""
        owner = _named(subscription.tenant_id, subscription.subscription_id)
        if conn.execute(select(subscriptions.c.lane_id).where(owner)).first() is not None:
            raise AlreadyExists("subscription", subscription.subscription_id)
        row = subscription_rows.write(subscription, sealer=self.sealer)
        lane_id = conn.scalar(insert(subscriptions).values(row).returning(subscriptions.c.lane_id))
        stored = replace(subscription, lane_id=LaneId(lane_id or 0))
        self._store_keys(conn, stored)
        self.matching.forget(stored.tenant_id)
        return stored

    def replace(self, conn: Connection, call: ReplaceCall) -> Subscription:
        """Store a changed one. Raises NotFound, EtagMismatch."""
        changed = call.subscription
        row = _current(conn, changed.tenant_id, changed.subscription_id, etag=changed.etag)
        lane_id = LaneId(row.lane_id)
        ordering = Ordering(row.ordering).changed(ordered=changed.ordered)
        stored = replace(
            changed, lane_id=lane_id, version=changed.version + 1, update_time=call.now
        )
        conn.execute(
            update(subscriptions)
            .where(subscriptions.c.lane_id == lane_id)
            .values(
                subscription_rows.write(stored, sealer=self.sealer) | {"ordering": int(ordering)}
            )
        )
        if ordering != row.ordering:
            arrange(conn, ArrangeCall(lane_id=lane_id, after="", limit=_CHUNK, now=call.now))
        self._store_keys(conn, stored)
        if stored.state is not State.ACTIVE:
            FORGET.many(conn, [(lane_id,)])
        self.matching.forget(stored.tenant_id)
        return stored

    def delete(self, conn: Connection, call: DeleteCall) -> LaneId:
        """Leave a tombstone without secrets. Raises NotFound, EtagMismatch."""
        row = _current(conn, call.tenant_id, call.subscription_id, etag=call.etag)
        lane_id = LaneId(row.lane_id)
        conn.execute(
            update(subscriptions)
            .where(subscriptions.c.lane_id == lane_id)
            .values(
                delete_time=from_time(call.now),
                update_time=from_time(call.now),
                version=subscriptions.c.version + 1,
                headers=b"",
            )
        )
        conn.execute(delete(signing_keys).where(signing_keys.c.lane_id == lane_id))
        FORGET.many(conn, [(lane_id,)])
        self.matching.forget(call.tenant_id)
        return lane_id

    def _store_keys(self, conn: Connection, subscription: Subscription) -> None:
        conn.execute(delete(signing_keys).where(signing_keys.c.lane_id == subscription.lane_id))
        rows = subscription_rows.write_keys(subscription, sealer=self.sealer)
        if rows:
            conn.execute(insert(signing_keys), rows)


def _named(tenant_id: TenantId, subscription_id: SubscriptionId) -> ColumnElement[bool]:
    return and_(
        _LIVE,
        subscriptions.c.tenant_id == tenant_id,
        subscriptions.c.subscription_id == subscription_id,
    )


def _current(
    conn: Connection, tenant_id: TenantId, subscription_id: SubscriptionId, *, etag: str | None
) -> AnyRow:
    c = subscriptions.c
    columns = select(c.lane_id, c.version, c.create_time, c.ordering)
    row = conn.execute(columns.where(_named(tenant_id, subscription_id))).one_or_none()
    if row is None:
        raise NotFound("subscription", subscription_id)
    if etag is not None and etag != etag_of(to_time(row.create_time), row.version):
        raise EtagMismatch("subscription", subscription_id)
    return row


def live_subscription(
    conn: Connection, tenant_id: TenantId, subscription_id: SubscriptionId
) -> AnyRow:
    """Return what repairs need of a subscription; nothing of it is secret. Raises NotFound."""
    c = subscriptions.c
    columns = select(
        *LANE_COLUMNS,
        c.filter,
        c.delete_time,
        c.state.label("lane_state"),
    )
    row = conn.execute(columns.where(_named(tenant_id, subscription_id))).one_or_none()
    if row is None:
        raise NotFound("subscription", subscription_id)
    return row


@dataclass(frozen=True, slots=True)
class Directory:
    """Reads subscriptions. Raises SecretUnreadable or SubscriptionUnreadable where it cannot."""

    sealer: Sealer

    def get(
        self, conn: Connection, tenant_id: TenantId, subscription_id: SubscriptionId
    ) -> Subscription:
        """Return the one of this name. Raises NotFound."""
        return self._one(conn, _named(tenant_id, subscription_id), name=subscription_id)

    def of_lanes(
        self, conn: Connection, lanes: Sequence[LaneId]
    ) -> Mapping[LaneId, Subscription | Exception]:
        """Return those of lanes as they can be sent to or, in place of one, why it cannot be had.

        That is NotFound where it is deleted.
        """
        rows = {row.lane_id: row for row in _OF_LANES.fetch(conn, lanes)}
        keys = _by_lane(_KEYS_OF_LANES.fetch(conn, lanes))
        return {
            lane_id: self._sendable(rows[lane_id], keys.get(lane_id, ()))
            if lane_id in rows
            else NotFound("subscription", f"of lane {lane_id}")
            for lane_id in lanes
        }

    def _sendable(self, row: AnyRow, keys: Sequence[AnyRow]) -> Subscription | Exception:
        try:
            found = subscription_rows.read(row, keys=keys, sealer=self.sealer)
        except (SecretUnreadable, SubscriptionUnreadable) as error:
            return error
        if not found.endpoint_uri.isascii():
            problem = "the endpoint is invalid"
        elif not timedelta(0) < found.timeout <= MAX_TIMEOUT:
            # What could outlast its lease is not begun, and would come back at once, for ever.
            problem = "the timeout is invalid"
        elif not are_sendable(found.headers):
            problem = "a header is invalid"
        else:
            return found
        return SubscriptionUnreadable(f"{subscription_rows.label(found)} is damaged: {problem}")

    def list_subscriptions(
        self, conn: Connection, query: SubscriptionQuery, page: PageRequest
    ) -> Page[Subscription | Unreadable]:
        """Return them by tenant and ID, each of them or why it cannot be read."""
        c = subscriptions.c
        statement = select(subscriptions).where(_LIVE).order_by(c.tenant_id, c.subscription_id)
        if query.tenant_id is not None:
            statement = statement.where(c.tenant_id == query.tenant_id)
        if page.after is not None:
            tenant_id, subscription_id = orjson.loads(page.after)
            after = tuple_(c.tenant_id, c.subscription_id) > (tenant_id, subscription_id)
            statement = statement.where(after)
        found = collect(
            conn.execute(statement.limit(SCAN_LIMIT + 1).execution_options(yield_per=200)),
            page=page,
            keeps=_chooser(query),
            weigh=_weight,
            position=lambda row: orjson.dumps([row.tenant_id, row.subscription_id]).decode(),
        )
        keys = _keys_of(conn, found.items)
        told = [self._told(row, keys.get(row.lane_id, ())) for row in found.items]
        return Page(told, found.next_after)

    def _told(self, row: AnyRow, keys: Sequence[AnyRow]) -> Subscription | Unreadable:
        try:
            return subscription_rows.read(row, keys=keys, sealer=self.sealer)
        except (SecretUnreadable, SubscriptionUnreadable) as error:
            names = TenantId(row.tenant_id), SubscriptionId(row.subscription_id)
            return Unreadable(*names, problem=str(error))

    def _one(self, conn: Connection, which: ColumnElement[bool], *, name: str) -> Subscription:
        rows = conn.execute(select(subscriptions).where(which)).all()
        if not rows:
            raise NotFound("subscription", name)
        keys = _keys_of(conn, rows).get(rows[0].lane_id, ())
        return subscription_rows.read(rows[0], keys=keys, sealer=self.sealer)


def _keys_of(conn: Connection, rows: Sequence[AnyRow]) -> Mapping[int, Sequence[AnyRow]]:
    return _by_lane(_KEYS_OF_LANES.fetch(conn, [row.lane_id for row in rows]))


def _by_lane(rows: Iterable[AnyRow]) -> Mapping[int, Sequence[AnyRow]]:
    found: defaultdict[int, list[AnyRow]] = defaultdict(list)
    for row in rows:
        found[row.lane_id].append(row)
    return found


def _weight(row: AnyRow) -> int:
    # Its column takes what is damaged as it is, a number too.
    headers = len(row.headers) if isinstance(row.headers, bytes | str) else 0
    return (
        _OVERHEAD_BYTES
        + len(row.filter)
        + len(row.labels)
        + headers
        + len(row.endpoint_uri)
        + len(row.allowed_ip_ranges)
    )


def _chooser(query: SubscriptionQuery) -> Callable[[AnyRow], bool]:
    def chosen(row: AnyRow) -> bool:
        if query.states and row.state not in query.states:
            return False
        if query.event_type is None:
            return True
        try:
            types = EventFilter(event_types=read_filter(row.filter).event_types)
        except (ValueError, TypeError, LookupError, AttributeError):
            return True  # so that it is seen
        return types.matches(query.event_type, Resource("", ""))

    return chosen
