"""What waits, and when it is due: for those who look for it beside the writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    bindparam,
    exists,
    func,
    select,
    union,
)

from signalpost.domain.ids import LaneId
from signalpost.domain.subscription import State
from signalpost.ports import Backlog
from signalpost.store.lanes import LANE_COLUMNS, lane
from signalpost.store.order import IS_ARRANGED
from signalpost.store.statements import AnyRow, Keyed
from signalpost.store.tables import BEHIND, LIVE, REPLAYED, WAITING, queue, subscriptions
from signalpost.store.units import from_time, to_time

_IS_OPEN = (
    (subscriptions.c.delete_time.is_(None))
    & (subscriptions.c.state == int(State.ACTIVE))
    & IS_ARRANGED
)


def _first_due(band: ColumnElement[int]) -> ScalarSelect[int]:
    return (
        select(queue.c.due)
        .where(
            queue.c.phase == WAITING,
            queue.c.lane_id == subscriptions.c.lane_id,
            queue.c.band == band,
        )
        .order_by(queue.c.due, queue.c.id)
        .limit(1)
        .correlate(subscriptions)
        .scalar_subquery()
    )


_LATEST: Final = from_time(datetime.max.replace(tzinfo=UTC))

FIRST_DUE = (_first_due(LIVE).label("due"), _first_due(REPLAYED).label("replay_due"))
"""When the first delivery that waits in the lane of a subscription is due, by band."""


def earliest(row: AnyRow) -> datetime | None:
    """Return the earlier of `FIRST_DUE`, None if nothing waits.

    What is damaged may say any time; of what is no number the next start makes one.
    """
    found = [due for due in (row.due, row.replay_due) if isinstance(due, int)]
    return to_time(min(max(min(found), 0), _LATEST)) if found else None


def backlogs(conn: Connection) -> Sequence[Backlog]:
    """Return active lanes in which something waits."""
    found = ((lane(row), earliest(row)) for row in conn.execute(_BACKLOGS))
    return [Backlog(waiting, due) for waiting, due in found if due is not None]


def _lanes_of(kind: ColumnElement[bool]) -> CTE:
    """Find lanes with something of a kind, each by one look into the index that leads to it.

    The cost does not depend on how many subscriptions there are, nor on how much waits.
    """
    first = select(func.min(queue.c.lane_id).label("lane_id")).where(kind)
    found = first.cte(recursive=True)
    following = select(func.min(queue.c.lane_id)).where(kind, queue.c.lane_id > found.c.lane_id)
    return found.union_all(
        select(following.correlate(found).scalar_subquery()).where(found.c.lane_id.is_not(None))
    )


_WAITING_LANES = _lanes_of(queue.c.phase == WAITING)
_ORDERED_LANES = _lanes_of(queue.c.resource.is_not(None))

_BACKLOGS = (
    select(*LANE_COLUMNS, *FIRST_DUE)
    .select_from(_WAITING_LANES)
    .join(subscriptions, subscriptions.c.lane_id == _WAITING_LANES.c.lane_id)
    .where(_IS_OPEN)
)


def next_due(conn: Connection, lanes: Iterable[LaneId]) -> Mapping[LaneId, datetime]:
    """Return when the first waiting delivery of each active lane is due."""
    rows = _NEXT_DUE.fetch(conn, list(lanes), values=(int(State.ACTIVE),))
    found = ((LaneId(row.lane_id), earliest(row)) for row in rows)
    return {lane_id: due for lane_id, due in found if due is not None}


_NEXT_DUE = Keyed(
    lambda keys: select(subscriptions.c.lane_id, *FIRST_DUE).where(
        subscriptions.c.lane_id.in_(keys),
        subscriptions.c.state == bindparam("state"),
        subscriptions.c.delete_time.is_(None),
        IS_ARRANGED,
    ),
    "state",
)


def deleted_lanes(conn: Connection) -> Sequence[LaneId]:
    """Return lanes of deleted subscriptions in which something still waits."""
    return [LaneId(lane_id) for lane_id in conn.scalars(_DELETED_LANES)]


def _deleted(lanes: CTE) -> Select[Any]:
    c = subscriptions.c
    of_these = (
        select(c.lane_id).select_from(lanes).join(subscriptions, c.lane_id == lanes.c.lane_id)
    )
    return of_these.where(c.delete_time.is_not(None))


_BEHIND = exists().where(
    queue.c.lane_id == subscriptions.c.lane_id,
    queue.c.resource.is_not(None),
    queue.c.phase == BEHIND,
)
_DELETED_LANES = union(_deleted(_WAITING_LANES), _deleted(_ORDERED_LANES).where(_BEHIND))
