"""A SQLite file, looked at and changed behind the store's back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from signalpost.domain.ids import SubscriptionId
from signalpost.store import Store
from signalpost.store.writer import one_by_one

KEY = b"m" * 32
SUB = SubscriptionId("sub")


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def look(path: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement, values).fetchall()


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


async def in_writer(store: Store, statement: str) -> Any:
    def run(conn: Connection, _: None) -> Any:
        return conn.exec_driver_sql(statement).scalar()

    return await store._writer.submit(one_by_one(run), None)
