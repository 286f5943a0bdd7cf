"""What a store has the database execute, as that got to see it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlalchemy import event as sqlalchemy_event

from signalpost.store import Store
from signalpost.store.writer import one_by_one


async def executed(store: Store) -> list[str]:
    """Return a list that fills with the statements executed for callers and for deliveries.

    Those that write are among them. Their values are written out.
    """
    seen: list[str] = []

    def trace(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(seen.append)

    def trace_writer(conn: Connection, _: None) -> None:
        trace(conn.connection.dbapi_connection)

    for readers in (store._for_callers, store._for_delivery):
        sqlalchemy_event.listen(readers._engine, "checkout", trace)
    await store._writer.submit(one_by_one(trace_writer), None)
    seen.clear()
    return seen
