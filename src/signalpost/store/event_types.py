"""Keeps registered event types."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from signalpost.domain.errors import AlreadyExists, EtagMismatch, NotFound
from signalpost.domain.event_type import EventType
from signalpost.domain.version import etag_of
from signalpost.ports import Page, PageRequest
from signalpost.store.paging import SCAN_LIMIT, collect
from signalpost.store.statements import AnyRow
from signalpost.store.tables import event_types
from signalpost.store.units import from_optional_time, to_time

_OVERHEAD_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceTypeCall:
    """One call of `replace_event_type`."""

    event_type: EventType
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTypeCall:
    """One call of `delete_event_type`."""

    name: str
    etag: str | None


def create_event_type(conn: Connection, event_type: EventType) -> EventType:
    """Store a new one. Raises AlreadyExists."""
    named = event_types.c.name == event_type.name
    if conn.execute(select(event_types.c.name).where(named)).first() is not None:
        raise AlreadyExists("event_type", event_type.name)
    conn.execute(insert(event_types).values(_write(event_type)))
    return event_type


def replace_event_type(conn: Connection, call: ReplaceTypeCall) -> EventType:
    """Store a changed one. Raises NotFound, EtagMismatch."""
    changed = call.event_type
    _demand_current(conn, changed.name, etag=changed.etag)
    stored = replace(changed, version=changed.version + 1, update_time=call.now)
    named = event_types.c.name == stored.name
    conn.execute(update(event_types).where(named).values(_write(stored)))
    return stored


def delete_event_type(conn: Connection, call: DeleteTypeCall) -> None:
    """Forget one. Raises NotFound, EtagMismatch."""
    _demand_current(conn, call.name, etag=call.etag)
    conn.execute(delete(event_types).where(event_types.c.name == call.name))


def get_event_type(conn: Connection, name: str) -> EventType:
    """Return the one of this name. Raises NotFound."""
    row = conn.execute(select(event_types).where(event_types.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("event_type", name)
    return _read(row)


def list_event_types(conn: Connection, page: PageRequest) -> Page[EventType]:
    """Return them by name."""
    statement = select(event_types).order_by(event_types.c.name)
    if page.after is not None:
        statement = statement.where(event_types.c.name > page.after)
    found = collect(
        conn.execute(statement.limit(SCAN_LIMIT + 1).execution_options(yield_per=50)),
        page=page,
        keeps=lambda _: True,
        weigh=_weight,
        position=lambda row: str(row.name),
    )
    return Page([_read(row) for row in found.items], found.next_after)


def _demand_current(conn: Connection, name: str, *, etag: str | None) -> None:
    columns = select(event_types.c.create_time, event_types.c.version)
    row = conn.execute(columns.where(event_types.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("event_type", name)
    if etag is not None and etag != etag_of(to_time(row.create_time), row.version):
        raise EtagMismatch("event_type", name)


def _weight(row: AnyRow) -> int:
    return _OVERHEAD_BYTES + len(row.description) + len(row.schema or b"") + len(row.example or b"")


def _write(event_type: EventType) -> dict[str, Any]:
    return {
        "name": event_type.name,
        "version": event_type.version,
        "resource_type": event_type.resource_type,
        "description": event_type.description,
        "deprecated": int(event_type.deprecated),
        "create_time": from_optional_time(event_type.create_time),
        "update_time": from_optional_time(event_type.update_time),
        "schema": event_type.schema,
        "example": event_type.example,
    }


def _read(row: AnyRow) -> EventType:
    return EventType(
        name=row.name,
        version=row.version,
        resource_type=row.resource_type,
        description=row.description,
        deprecated=bool(row.deprecated),
        create_time=to_time(row.create_time),
        update_time=to_time(row.update_time),
        schema=row.schema,
        example=row.example,
    )
