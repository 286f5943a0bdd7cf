"""Lanes as their home must know them, and what was learned of their endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from sqlalchemy import Connection, bindparam, delete, select

from signalpost.domain.handshake import lane_rate
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import Lane, host_of
from signalpost.domain.pace import HEALTHY, Ceiling, Circuit, Failing, Pace
from signalpost.domain.subscription import DEFAULT_CONCURRENCY, MIN_RATE
from signalpost.ports import Paced
from signalpost.store.statements import AnyRow, Driven, DrivenInsert, Values
from signalpost.store.tables import lanes, subscriptions
from signalpost.store.units import (
    from_optional_time,
    from_time,
    to_optional_time,
    to_time,
)

LANE_COLUMNS = (
    subscriptions.c.lane_id,
    subscriptions.c.tenant_id,
    subscriptions.c.max_concurrent_attempts,
    subscriptions.c.max_attempts_per_second,
    subscriptions.c.allowed_attempts_per_minute,
    subscriptions.c.endpoint_uri,
)
"""What `lane` reads."""

FORGET = Driven(delete(lanes).where(lanes.c.lane_id == bindparam("key")), "key")
"""Forgets what was learned of the endpoint of a lane."""

_LEARN = DrivenInsert(lanes)


def lane(row: AnyRow) -> Lane:
    """Return the lane of a row with `LANE_COLUMNS`.

    If that is damaged, one in which deliveries can go: they fail, as it cannot be read.
    """
    try:
        return sound_lane(row)
    except (ValueError, TypeError, AttributeError):
        return Lane(LaneId(row.lane_id), TenantId(row.tenant_id), DEFAULT_CONCURRENCY)


def sound_lane(row: AnyRow) -> Lane:
    """Return the lane of a row. Raises ValueError, TypeError or AttributeError if it is damaged."""
    per_second, per_minute = row.max_attempts_per_second, row.allowed_attempts_per_minute
    if row.max_concurrent_attempts < 1 or (per_minute is not None and per_minute < 1):
        raise ValueError("a limit is less than 1")
    if per_second is not None and per_second < MIN_RATE:
        raise ValueError(f"a rate is less than {MIN_RATE}")
    return Lane(
        LaneId(row.lane_id),
        TenantId(row.tenant_id),
        row.max_concurrent_attempts,
        lane_rate(per_second, per_minute),
        host_of(row.endpoint_uri),
    )


def learn(conn: Connection, learned: Iterable[tuple[LaneId, Pace]]) -> None:
    """Store the lasting part of paces in place of what is stored; of several the last."""
    lasting = {lane_id: pace.lasting for lane_id, pace in learned}
    if lasting:
        FORGET.many(conn, [(lane_id,) for lane_id in lasting])
        rows = [_write(lane_id, pace) for lane_id, pace in lasting.items() if pace != HEALTHY]
        _LEARN.many(conn, rows)


def paces(conn: Connection) -> Sequence[Paced]:
    """Return what is stored; of an endpoint of which that is damaged nothing is known any more."""
    statement = select(lanes, *LANE_COLUMNS[1:]).join(
        subscriptions, subscriptions.c.lane_id == lanes.c.lane_id
    )
    found = []
    for row in conn.execute(statement):
        with suppress(ValueError, TypeError, OverflowError):
            found.append(Paced(lane(row), _read(row)))
    return found


def _write(lane_id: LaneId, pace: Pace) -> Values:
    circuit: Values = (None, 0)
    if pace.circuit is not None:
        circuit = (from_time(pace.circuit.probe_at), pace.circuit.probes)
    failing: Values = (0, None, None, 0, None)
    if (found := pace.failing) is not None:
        forbidden_since = from_optional_time(found.forbidden_since)
        times = (from_time(found.since), from_time(found.last))
        failing = (found.count, *times, found.forbidden, forbidden_since)
    ceiling: Values = (None, None)
    if pace.ceiling is not None:
        ceiling = (pace.ceiling.limit, from_time(pace.ceiling.time))
    return (lane_id, *circuit, from_optional_time(pace.not_before), *failing, *ceiling)


def _read(row: AnyRow) -> Pace:
    """Return the pace of a row. Raises ValueError, TypeError or OverflowError if it is damaged."""
    if min(row.probes, row.failures, row.forbidden) < 0 or (
        row.ceiling is not None and row.ceiling < 1
    ):
        raise ValueError("a count is too small")
    circuit = failing = ceiling = None
    if row.probe_at is not None:
        circuit = Circuit(to_time(row.probe_at), row.probes)
    if row.failing_since is not None:
        failing = Failing(
            count=row.failures,
            since=to_time(row.failing_since),
            last=to_time(row.last_failure),
            forbidden=row.forbidden,
            forbidden_since=to_optional_time(row.forbidden_since),
        )
    if row.ceiling is not None:
        ceiling = Ceiling(limit=row.ceiling, time=to_time(row.ceiling_time))
    not_before = to_optional_time(row.not_before)
    return Pace(circuit=circuit, failing=failing, ceiling=ceiling, not_before=not_before)
