"""Finds what a replay is to deliver again, a bounded number of rows at a time.

Failed deliveries are found among those of the lane, all else by the events of the tenant. Both
go by rising numbers, and to the end of what is stored: the numbers of what was published in
a range lie not below its start but, once a clock was set back, anywhere above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Select, bindparam, select

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.event import Resource
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey
from signalpost.domain.replay import ReplayOrder, ReplayScope
from signalpost.ports.repair import ReplayItem, ReplayPage
from signalpost.ports.retention import Prunable
from signalpost.store.documents import read_filter
from signalpost.store.retention import pruned_to
from signalpost.store.row_numbers import floor
from signalpost.store.statements import AnyRow, Keyed
from signalpost.store.subscriptions import live_subscription
from signalpost.store.tables import deliveries, events
from signalpost.store.units import from_time

PAGE_ROWS: Final = 5000
"""Most rows that are looked at for a page."""

_ENDED_BADLY = (int(DeliveryState.FAILED), int(DeliveryState.CANCELED))
_IN_CHUNKS_OF = 200

_CHOICE = (events.c.event_type, events.c.resource_type, events.c.resource_id)

# The sum keeps a planner from going through all deliveries of the lane instead.
_OF_EVENTS = Keyed(
    lambda keys: select(deliveries.c.id, deliveries.c.event_row, deliveries.c.state).where(
        deliveries.c.event_row.in_(keys), deliveries.c.lane_id + 0 == bindparam("lane_id")
    ),
    "lane_id",
)


def first_position(order: ReplayOrder) -> int:
    """Return a position before everything that an order is about."""
    return floor(order.start) - 1


def find_replayable(
    conn: Connection, order: ReplayOrder, *, after: int | None, limit: int, now: datetime
) -> ReplayPage:
    """Return a page of what an order is about. Raises NotFound."""
    lane = live_subscription(conn, order.tenant_id, order.subscription_id)
    position = first_position(order) if after is None else after
    if order.scope is ReplayScope.MISSING:
        # Of earlier events it is not known whether there was a delivery.
        position = max(position, pruned_to(conn, Prunable.DELIVERIES))
    search = _Search(
        conn=conn,
        order=order,
        own_filter=read_filter(lane.filter),
        end=from_time(order.end or now),
        after=position,
        limit=limit,
    )
    if order.scope is ReplayScope.FAILED:
        return _failed(search, lane.lane_id)
    return _by_event(search, lane.lane_id)


def _failed(search: _Search, lane_id: int) -> ReplayPage:
    of_lane = deliveries.c.lane_id == lane_id
    statement = (
        select(deliveries.c.id, deliveries.c.event_row, *_CHOICE)
        .join(events, events.c.id == deliveries.c.event_row)
        .where(deliveries.c.state.in_(_ENDED_BADLY))
    )
    rows, position = search.run(statement, deliveries.c.id, of_lane)
    return ReplayPage([ReplayItem(row.event_row, DeliveryKey(row.id)) for row in rows], position)


def _by_event(search: _Search, lane_id: int) -> ReplayPage:
    of_tenant = events.c.tenant_id == search.order.tenant_id
    rows, position = search.run(select(events.c.id, *_CHOICE), events.c.id, of_tenant)
    found = _OF_EVENTS.fetch(search.conn, [row.id for row in rows], values=(lane_id,))
    known = {row.event_row: row for row in found}
    items = [_item(row.id, known.get(row.id), scope=search.order.scope) for row in rows]
    return ReplayPage([item for item in items if item is not None], position)


def _item(event_row: int, delivery: AnyRow | None, *, scope: ReplayScope) -> ReplayItem | None:
    state = None if delivery is None else DeliveryState(delivery.state)
    if not scope.chooses(state):
        return None
    return ReplayItem(event_row, None if delivery is None else DeliveryKey(delivery.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """A search for events of a range, from a position on."""

    conn: Connection
    order: ReplayOrder
    own_filter: EventFilter
    end: int
    after: int
    limit: int

    def run(
        self, statement: Select[Any], number: Column[int], which: ColumnElement[bool]
    ) -> tuple[Sequence[AnyRow], int | None]:
        """Return rows whose events are chosen, and the position to go on from, None at the end.

        `number` leads through those of `which` in the order of an index.
        """
        bound = self._bound(number, which)
        statement = statement.where(
            which,
            number > self.after,
            events.c.publish_time >= from_time(self.order.start),
            events.c.publish_time < self.end,
        )
        if bound is not None:
            statement = statement.where(number <= bound)
        chosen: list[AnyRow] = []
        options = {"yield_per": _IN_CHUNKS_OF}
        for row in self.conn.execute(statement.order_by(number), execution_options=options):
            if self._chooses(row):
                chosen.append(row)
                if len(chosen) == self.limit:
                    return chosen, row.id
        return chosen, bound

    def _bound(self, number: Column[int], which: ColumnElement[bool]) -> int | None:
        """Return the last number that is looked at, None if that is the last there is."""
        rest = select(number).where(which, number > self.after).order_by(number)
        return self.conn.scalar(rest.offset(PAGE_ROWS - 1).limit(1))

    def _chooses(self, row: AnyRow) -> bool:
        resource = Resource(row.resource_type, row.resource_id)
        return self.own_filter.matches(row.event_type, resource) and self.order.filter.matches(
            row.event_type, resource
        )
