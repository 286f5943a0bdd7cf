"""The one place that knows which database engine is at work. Today that is SQLite.

Why its settings are what they are:

* WAL and `synchronous=FULL`: with NORMAL a power cut takes acknowledged commits away.
* One connection writes and checkpoints. Before 3.51.3, two that do both can corrupt a WAL.
* Every write transaction begins IMMEDIATE: a later upgrade fails at once, whatever the
  `busy_timeout`.
* No automatic checkpoints: one inside a commit takes up to 300 ms. The writer makes them.
* `auto_vacuum=INCREMENTAL` only takes before anything else is in the file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Engine, NullPool, QueuePool, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from signalpost.domain.errors import StorageFull, StorageUnavailable
from signalpost.store.refusal import DatabaseRefused

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_SECONDS = 4
"""How long a statement waits for another process to give the file free.

Short enough for a caller to hear of it within ten seconds, even behind one that waits.
"""

WAL_LIMIT_BYTES = 32 * 1024 * 1024
"""Above this, a checkpoint waits for readers, so that the WAL begins anew."""

SPARE_PAGES = 1024
"""Free pages that stay in the file, to be used again."""

WAY_OUT: Final = "restore a backup, or save what can be read, as the README says"
"""What is left to be done about a database that is damaged."""

_logger: Final = logging.getLogger(__name__)

_PAGES_A_STEP = 32
_RESTART_TIMEOUT_SECONDS = 1
_WRITER_CACHE = "PRAGMA cache_size = -65536"
_READER_CACHE = "PRAGMA cache_size = -16384"
_SYNCHRONOUS_FULL = 2


def locate(url: str) -> Path:
    """Return the file that a database URL names. Raises DatabaseRefused, with the reason."""
    parsed = _parse(url)
    backend, _, driver = parsed.drivername.partition("+")
    if backend in {"postgresql", "postgres"}:
        raise DatabaseRefused("postgresql databases are not supported by this version")
    if backend != "sqlite":
        raise DatabaseRefused(f'unknown kind of database "{backend}"; use sqlite:///<file>')
    if driver:
        raise DatabaseRefused("the driver is chosen by the service; use sqlite:///<file>")
    if parsed.host or parsed.query:
        raise DatabaseRefused("the URL of a SQLite database has a path only: sqlite:///<file>")
    return _usable(parsed.database)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # Its text could be a URL with a password in it.
        raise DatabaseRefused("not a database URL; use sqlite:///<file>") from None


def _usable(name: str | None) -> Path:
    if not name or name == ":memory:":
        raise DatabaseRefused("a database in memory would lose events; use sqlite:///<file>")
    if name.startswith("file:"):
        raise DatabaseRefused("the URL of a SQLite database has a path only: sqlite:///<file>")
    path = Path(name).resolve()
    if not path.parent.is_dir():
        raise DatabaseRefused(f"the directory {path.parent} does not exist")
    if path.exists() and not path.is_file():
        raise DatabaseRefused(f"{path} is not a file")
    return path


def make_private(path: Path) -> None:
    """Make an empty file that only its owner can open; one that is there stays as it is.

    SQLite takes it for an empty database, and gives its mode to whatever it makes beside it.
    Nothing of this process may have the file open. Raises DatabaseRefused.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise DatabaseRefused(f"cannot make {path}: {error.strerror}") from None
    os.close(descriptor)


def upsert(table: Table) -> Insert:
    """Return a statement that inserts into a table and can say what to do on a conflict."""
    return Insert(table)


def writer_engine(path: Path) -> Engine:
    """Return the engine for the one connection that writes; its transactions are IMMEDIATE."""
    engine = _engine(path, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        _set_up_writer(connection)

    _begin_with(engine, "BEGIN IMMEDIATE")
    return engine


def reader_engine(path: Path, *, connections: int) -> Engine:
    """Return the engine for connections that cannot write."""
    engine = _engine(path, poolclass=QueuePool, pool_size=connections, max_overflow=0)

    @event.listens_for(engine, "connect")
    def connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        _set_up(connection)
        _bear_damage(connection)
        _execute(connection, "PRAGMA query_only = ON")
        _execute(connection, _READER_CACHE)

    _begin_with(engine, "BEGIN")
    return engine


def _engine(path: Path, **pool: Any) -> Engine:
    # What goes wrong reaches the log, and there no value of a customer may be.
    url = URL.create("sqlite", database=str(path))
    return create_engine(url, hide_parameters=True, **pool)


def _begin_with(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql(statement)


def _set_up(connection: DBAPIConnection) -> None:
    # The driver would begin transactions of its own, and deferred ones.
    connection.isolation_level = None
    _set_busy_timeout(connection, BUSY_TIMEOUT_SECONDS)
    _execute(connection, "PRAGMA temp_store = MEMORY")


def _bear_damage(connection: DBAPIConnection) -> None:
    """Let a text that is damaged be read, so that it fails nothing but what it belongs to.

    It is told by that it cannot be encoded again.
    """
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")


def bears_damage(conn: Connection, error: BaseException) -> bool:
    """If a text could not be read, for it is damaged, let a connection bear that from now on.

    It does not at first, for that costs a little with each text.
    """
    connection = conn.connection.dbapi_connection
    unread = isinstance(_cause(error), sqlite3.OperationalError) and _family(error) == 0
    if connection is None or not unread or connection.text_factory is not str:
        return False
    _bear_damage(connection)
    return True


def _set_up_writer(connection: DBAPIConnection) -> None:
    _set_up(connection)
    _execute(connection, "PRAGMA auto_vacuum = INCREMENTAL")
    mode = _execute(connection, "PRAGMA journal_mode = WAL")[0]
    _execute(connection, "PRAGMA synchronous = FULL")
    _execute(connection, "PRAGMA wal_autocheckpoint = 0")
    _execute(connection, _WRITER_CACHE)
    synchronous = _execute(connection, "PRAGMA synchronous")[0]
    if mode != "wal" or synchronous != _SYNCHRONOUS_FULL:
        raise DatabaseRefused(
            f"the database would not keep what it acknowledges: journal_mode is {mode} "
            f"instead of wal, synchronous is {synchronous} instead of {_SYNCHRONOUS_FULL}"
        )


def _execute(connection: DBAPIConnection, statement: str) -> Sequence[Any]:
    """Execute a PRAGMA; return the first row, empty if there is none."""
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        return cursor.fetchone() or ()
    finally:
        cursor.close()


def checkpoint(conn: Connection) -> None:
    """Bring the WAL into the database file, outside of transactions, as far as readers let it.

    If the WAL has grown beyond its limit, wait for readers and cut it. A failure is none: the
    WAL keeps everything, and the next one tries again.
    """
    connection = conn.connection.dbapi_connection
    if connection is None:
        return
    with suppress(sqlite3.Error):
        page_bytes = _execute(connection, "PRAGMA page_size")[0]
        _, pages, _ = _execute(connection, "PRAGMA wal_checkpoint(PASSIVE)")
        if pages * page_bytes > WAL_LIMIT_BYTES:
            _set_busy_timeout(connection, _RESTART_TIMEOUT_SECONDS)
            _execute(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
    with suppress(sqlite3.Error):
        _set_busy_timeout(connection, BUSY_TIMEOUT_SECONDS)


def changed_rows(conn: Connection | None) -> int:
    """Return how many rows were changed by a connection so far, 0 for none."""
    connection: Any = None if conn is None else conn.connection.dbapi_connection
    return 0 if connection is None else connection.total_changes


def give_back(conn: Connection) -> int:
    """Give some of the free pages back to the system, outside of transactions; return how many.

    As many as a busy hour needs stay in the file. A failure is none: the pages are used again.
    """
    connection: Any = conn.connection.dbapi_connection
    if connection is None:
        return 0
    with suppress(sqlite3.Error):
        spare = int(_execute(connection, "PRAGMA freelist_count")[0]) - SPARE_PAGES
        if spare > 0:
            step = min(spare, _PAGES_A_STEP)
            # As a script, for `execute` ends it after the first page.
            connection.executescript(f"PRAGMA incremental_vacuum({step})")
            return step
    return 0


def bound_caches(conn: Connection, size: int) -> None:
    """Let the caches of all connections of this process together take about so many bytes."""
    conn.exec_driver_sql(f"PRAGMA soft_heap_limit = {size}")


def _set_busy_timeout(connection: DBAPIConnection, seconds: float) -> None:
    _execute(connection, f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def storage_error(error: BaseException) -> StorageUnavailable | StorageFull | None:
    """Tell what a failure of the database means to a caller; None if it is a bug."""
    match _family(error):
        case sqlite3.SQLITE_FULL:
            return StorageFull()
        case (
            sqlite3.SQLITE_BUSY
            | sqlite3.SQLITE_LOCKED
            | sqlite3.SQLITE_PROTOCOL
            | sqlite3.SQLITE_IOERR
            | sqlite3.SQLITE_CANTOPEN
            | sqlite3.SQLITE_READONLY
        ):
            return StorageUnavailable()
    return None


def breaks_connection(error: BaseException) -> bool:
    """Tell whether the connection must not be used again: a flush that failed is not repeated."""
    return _family(error) == sqlite3.SQLITE_IOERR


def mend_indexes(conn: Connection, table: Table) -> bool:
    """Make the indexes of a table anew if they, or rows, are damaged; tell whether they were.

    Otherwise whatever comes to a row that an index does not agree with fails, and with it what
    shares its transaction. To look through a million rows takes a second.
    """
    found = conn.exec_driver_sql(f"PRAGMA integrity_check({table.name})").scalars().all()
    if found == ["ok"]:
        return False
    conn.exec_driver_sql(f"REINDEX {table.name}")
    _logger.error(
        "the database is damaged: the indexes of a table were made anew",
        extra={"table": table.name, "damage": found[0]},
    )
    return True


def is_damage(error: BaseException) -> bool:
    """Tell whether the database file itself is damaged, as far as what failed needs it."""
    return _family(error) == sqlite3.SQLITE_CORRUPT


def refusal(path: Path, error: Exception) -> DatabaseRefused:
    """Say in one line why a database could not be opened."""
    if _family(error) == sqlite3.SQLITE_NOTADB:
        return DatabaseRefused(f"{path} is not a SQLite database")
    if is_damage(error) or isinstance(error, UnicodeError):
        return DatabaseRefused(f"{path} is damaged ({_cause(error)}): {WAY_OUT}")
    return DatabaseRefused(f"{path} cannot be used: {_cause(error)}")


def _cause(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def _family(error: BaseException) -> int:
    # The low byte of an extended result code.
    code = getattr(_cause(error), "sqlite_errorcode", 0)
    return code & 0xFF if isinstance(code, int) else 0
