"""Everything that must be right before a database is used."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from signalpost.ports import SecretUnreadable
from signalpost.ports.retention import Prunable
from signalpost.store.damage import mend_queue
from signalpost.store.engine import locate, make_private, refusal, writer_engine
from signalpost.store.lock import DatabaseLock
from signalpost.store.master_key import MasterKey, load_or_make
from signalpost.store.migration import upgrade
from signalpost.store.refusal import MasterKeyInvalid
from signalpost.store.retention import pruned_to
from signalpost.store.row_numbers import RowNumbers
from signalpost.store.sealing import Sealer
from signalpost.store.tables import deliveries, events, meta
from signalpost.store.tally import Tally, count_pending

_KEY_CHECK = "master_key_check"
_PROBE = "write_probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A database that is locked for this process, migrated, and whose secrets can be read."""

    path: Path
    lock: DatabaseLock
    master_key: MasterKey
    sealer: Sealer
    numbers: RowNumbers
    tally: Tally


def prepare(url: str, *, master_key: bytes | None) -> Opened:
    """Lock and migrate a database and find its key. Raises DatabaseRefused, MasterKeyInvalid."""
    path = locate(url)
    lock = DatabaseLock(path)
    try:
        with _connection(path) as conn:
            upgrade(conn, name=str(path))
            with conn.begin():
                mend_queue(conn)
                key, sealer = _unlock(conn, path, given=master_key)
                numbers = RowNumbers(last=_last_number(conn))
                tally = Tally(count_pending(conn))
    except BaseException:
        lock.release()
        raise
    return Opened(path=path, lock=lock, master_key=key, sealer=sealer, numbers=numbers, tally=tally)


def migrate(url: str) -> tuple[str | None, str]:
    """Migrate a database; return its revision before (None: empty) and after.

    Raises DatabaseRefused.
    """
    path = locate(url)
    lock = DatabaseLock(path)
    try:
        with _connection(path) as conn:
            return upgrade(conn, name=str(path))
    finally:
        lock.release()


def touch(conn: Connection, _: None) -> None:
    """Write something."""
    conn.execute(update(meta).where(meta.c.name == _PROBE).values(value=os.urandom(8)))


@contextmanager
def _connection(path: Path) -> Iterator[Connection]:
    make_private(path)
    try:
        with writer_engine(path).connect() as conn:
            yield conn
    except (DBAPIError, sqlite3.Error, UnicodeError) as error:
        raise refusal(path, error) from None


def _unlock(conn: Connection, path: Path, *, given: bytes | None) -> tuple[MasterKey, Sealer]:
    """Find the master key and see that it is the one this database was sealed with."""
    check = conn.scalar(select(meta.c.value).where(meta.c.name == _KEY_CHECK))
    key = load_or_make(path, given=given, sealed=check is not None)
    sealer = Sealer(key.value)
    if check is None:
        sealed = sealer.seal(b"", _KEY_CHECK)
        conn.execute(insert(meta), [{"name": _KEY_CHECK, "value": sealed}])
        return key, sealer
    try:
        sealer.open(check, _KEY_CHECK)
    except SecretUnreadable:
        raise MasterKeyInvalid(
            f"secrets in {path} are sealed with another master key than "
            f"{key.path or 'the one given'}"
        ) from None
    return key, sealer


def _last_number(conn: Connection) -> int:
    last_event = conn.scalar(select(func.max(events.c.id)))
    last_delivery = conn.scalar(select(func.max(deliveries.c.id)))
    # Where all of them were removed, numbers still go on rising.
    return max(last_event or 0, last_delivery or 0, pruned_to(conn, Prunable.EVENTS))
