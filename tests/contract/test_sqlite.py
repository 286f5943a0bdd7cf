"""What is promised of a SQLite file beyond the ports."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import alembic.op
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy import event as sqlalchemy_event

from signalpost import failpoints
from signalpost.domain.errors import SignalpostError, StorageFull, StorageUnavailable
from signalpost.domain.ids import EventId, LaneId, SubscriptionId
from signalpost.ports import EventQuery, PageRequest, SecretUnreadable
from signalpost.store import DatabaseRefused, MasterKeyInvalid, Store, engine, migrate
from signalpost.store.events import AcceptCall
from signalpost.store.tables import metadata
from signalpost.store.writer import one_by_one
from tests.contract.material import NOW, TENANT, claim, ended, event, signing_key, subscription

KEY = b"m" * 32
SUB = SubscriptionId("sub")


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.05)


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


# Settings.


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("auto_vacuum", 2), ("wal_autocheckpoint", 0)],
)
async def test_writer_keeps_what_it_acknowledges(store: Store, pragma: str, value: object) -> None:
    assert await in_writer(store, f"PRAGMA {pragma}") == value


async def test_readers_cannot_write(store: Store) -> None:
    def write(conn: Connection) -> None:
        conn.exec_driver_sql("DELETE FROM meta")

    for readers in (store._for_callers, store._for_delivery):
        with pytest.raises(StorageUnavailable):
            await readers.run(write)
    await store.check_writable()
    assert await in_writer(store, "SELECT count(*) FROM meta") == 2


def test_database_that_would_lose_commits_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = engine._execute

    def deaf(connection: Any, statement: str) -> Any:
        return () if statement == "PRAGMA synchronous = FULL" else execute(connection, statement)

    monkeypatch.setattr(engine, "_execute", deaf)
    monkeypatch.setattr(engine, "_SYNCHRONOUS_FULL", 3)
    with pytest.raises(DatabaseRefused, match="synchronous is 2 instead of 3"):
        migrate(url_of(path))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "a path only"),
        ("sqlite+aiosqlite:///x.db", "driver"),
        ("sqlite:////no/such/folder/x.db", "/no/such/folder does not exist"),
        ("sqlite:////", "/ is not a file"),
        ("postgresql://u:hunter2@db/x", "not supported by this version"),
        ("postgresql+asyncpg://u:hunter2@db/x", "not supported by this version"),
        ("mysql://u:hunter2@db/x", 'unknown kind of database "mysql"'),
        ("signalpost.db", "not a database URL"),
        ("hunter2@db:x", "not a database URL"),
    ],
)
def test_url_that_cannot_be_used_is_refused_in_one_line(url: str, reason: str) -> None:
    with pytest.raises(DatabaseRefused, match=reason) as caught:
        migrate(url)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_relative_url_is_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    migrate("sqlite:///here.db")
    assert (tmp_path / "here.db").is_file()


# One process, one writer.


async def test_second_process_is_refused_with_one_clear_line(store: Store, path: Path) -> None:
    del store
    program = "import sys; from signalpost.store import migrate; migrate(sys.argv[1])"
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, url_of(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode != 0
    last = second.stderr.strip().splitlines()[-1]
    assert last.endswith(f"DatabaseRefused: {path} is in use by another process")


async def test_lock_holds_for_other_names_of_the_file_and_ends_with_the_store(
    path: Path,
) -> None:
    store = await Store.open(url_of(path), master_key=KEY)
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(DatabaseRefused, match="in use"):
        await Store.open(url_of(link), master_key=KEY)
    await store.aclose()
    assert migrate(url_of(link))


async def test_closed_store_says_so_and_can_be_closed_again(path: Path) -> None:
    store = await Store.open(url_of(path), master_key=KEY)
    last = asyncio.ensure_future(store.accept([event("e1")], now=NOW))
    await asyncio.sleep(0)
    await store.aclose()
    assert (await last)[0].event_id == "e1"
    with pytest.raises(StorageUnavailable):
        await store.accept([event("e2")], now=NOW)
    with pytest.raises(StorageUnavailable):
        await store.get_event(TENANT, EventId("e1"))
    await store.aclose()


async def test_every_write_transaction_is_immediate_and_on_one_connection(
    database_url: str,
) -> None:
    seen: list[tuple[int, str]] = []

    def note(conn: Connection, *rest: Any) -> None:
        seen.append((id(conn.connection.dbapi_connection), str(rest[1]).split("(")[0]))

    store = await Store.open(database_url, master_key=KEY)
    sqlalchemy_event.listen(store._writer._engine, "before_cursor_execute", note)
    await store.create(subscription())
    await store.accept([event("e1")], now=NOW)
    await store.aclose()
    statements = [statement for _, statement in seen]
    assert statements.count("BEGIN IMMEDIATE") == 2
    assert "BEGIN" not in statements
    assert len({connection for connection, _ in seen}) == 1


async def test_concurrent_writes_share_transactions(store: Store) -> None:
    commits: list[Connection] = []
    sqlalchemy_event.listen(store._writer._engine, "commit", commits.append)
    await asyncio.gather(*(store.accept([event(f"e{n}")], now=NOW) for n in range(200)))
    assert 1 <= len(commits) <= 20


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    program = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.stdin.close()
        other.wait()


@pytest.mark.usefixtures("impatient")
async def test_locked_database_is_unavailable_and_then_works_again(
    database_url: str, path: Path
) -> None:
    store = await Store.open(database_url, master_key=KEY)
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1")], now=NOW)
    [lease] = await claim(store, lane_id)
    with locked_by_another_process(path):
        with pytest.raises(StorageUnavailable):
            await store.record(ended(lease), now=NOW)
        with pytest.raises(StorageUnavailable):
            await store.accept([event("e2")], now=NOW)
        with pytest.raises(StorageUnavailable):
            await store.check_writable()
        assert (await store.get_event(TENANT, EventId("e1"))).event_id == "e1"
    assert await store.record(ended(lease), now=NOW)
    [answer] = await store.accept([event("e2")], now=NOW)
    assert not answer.duplicate
    await store.aclose()


# A full disk.


async def test_full_database_refuses_all_of_a_call_and_goes_on_with_room(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1")], now=NOW)
    [lease] = await claim(store, lane_id)
    pages = await in_writer(store, "PRAGMA page_count")
    await in_writer(store, f"PRAGMA max_page_count = {pages + 5}")
    big = '"' + "x" * 50_000 + '"'
    with pytest.raises(StorageFull):
        await store.accept([event("small"), event("big", content=big)], now=NOW)
    calls = (
        store.accept([event("big", content=big)], now=NOW),
        store.record(ended(lease), now=NOW),
    )
    refused, recorded = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, StorageFull)
    assert recorded is True

    await in_writer(store, "PRAGMA max_page_count = 1000000")
    await store.accept([event("big", content=big)], now=NOW)
    page = await store.list_events(EventQuery(tenant_id=TENANT), PageRequest(size=9))
    assert {found.event_id for found in page.items} == {"e1", "big"}


@pytest.mark.needs_root
def test_full_disk_loses_nothing_acknowledged_and_needs_no_restart(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    program = Path(__file__).with_name("full_disk.py")
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout == "full, freed, went on\n", done.stderr


async def test_wal_is_brought_home_under_steady_load(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalpost.store.writer._CHECKPOINT_AFTER_BYTES", 256 * 1024)
    content = '"' + "x" * 100_000 + '"'
    for number in range(100):
        await store.accept([event(f"e{number}", content=content)], now=NOW)
    assert path.stat().st_size > 5_000_000
    assert path.with_name("store.db-wal").stat().st_size < 4_000_000


async def test_long_wal_is_cut_once_readers_let_it(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalpost.store.writer._CHECKPOINT_AFTER_BYTES", 256 * 1024)
    monkeypatch.setattr(engine, "WAL_LIMIT_BYTES", 1_000_000)
    monkeypatch.setattr(engine, "_RESTART_TIMEOUT_SECONDS", 0.01)
    wal = path.with_name("store.db-wal")
    content = '"' + "x" * 100_000 + '"'
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        for number in range(30):
            await store.accept([event(f"e{number}", content=content)], now=NOW)
        assert wal.stat().st_size > 2_000_000
    for number in range(30, 40):
        await store.accept([event(f"e{number}", content=content)], now=NOW)
    assert wal.stat().st_size < 2_000_000


# Failures inside a transaction.


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setattr(failpoints, "_armed", {})
    return lambda name: failpoints.arm(f"{name}:raise")


@pytest.mark.parametrize("point", ["fanout.mid", "publish.before_commit"])
async def test_failure_before_the_commit_leaves_nothing(
    store: Store, armed: Callable[[str], None], point: str
) -> None:
    await store.create(subscription())
    armed(point)
    with pytest.raises(failpoints.InjectedFault):
        await store.accept([event("e1"), event("e2")], now=NOW)
    assert await store.backlogs() == []
    page = await store.list_events(EventQuery(tenant_id=TENANT), PageRequest(size=9))
    assert page.items == []


async def test_failure_after_the_commit_leaves_all(
    store: Store, armed: Callable[[str], None]
) -> None:
    await store.create(subscription())
    armed("publish.after_commit")
    with pytest.raises(failpoints.InjectedFault):
        await store.accept([event("e1")], now=NOW)
    assert len(await store.backlogs()) == 1


async def test_outcome_that_was_not_committed_can_be_recorded_again(
    store: Store, armed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1"), event("e2")], now=NOW)
    first, second = await claim(store, lane_id)
    armed("outcome.before_commit")
    with pytest.raises(failpoints.InjectedFault):
        await store.record(ended(first), now=NOW)
    monkeypatch.setattr(failpoints, "_armed", {})
    assert await store.record(ended(first), now=NOW)
    armed("outcome.after_commit")
    with pytest.raises(failpoints.InjectedFault):
        await store.record(ended(second), now=NOW)
    monkeypatch.setattr(failpoints, "_armed", {})
    assert not await store.record(ended(second), now=NOW)


async def test_leases_of_a_claim_without_an_answer_are_durable(
    store: Store, armed: Callable[[str], None]
) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1")], now=NOW)
    armed("claim.after_commit")
    with pytest.raises(failpoints.InjectedFault):
        await claim(store, lane_id)
    assert await store.recover(now=NOW) == 1


async def test_subscription_that_was_rolled_back_gets_no_deliveries(store: Store) -> None:
    class Interrupted(Exception):
        pass

    def fail_after_both(conn: Connection, _: None) -> None:
        store._create.run(conn, [subscription()])
        [answers] = store._accept.run(conn, [AcceptCall(events=[event("e1")], now=NOW)])
        assert not isinstance(answers, SignalpostError)
        assert answers[0] is not None
        assert answers[0].delivery_count == 1
        raise Interrupted

    with pytest.raises(Interrupted):
        await store._writer.submit(one_by_one(fail_after_both), None)
    [answer] = await store.accept([event("e1")], now=NOW)
    assert (answer.duplicate, answer.delivery_count) == (False, 0)


# Secrets.


def bytes_of(path: Path) -> bytes:
    """Read by another process: closing a descriptor here would drop SQLite's locks."""
    return subprocess.run(["cat", path], stdout=subprocess.PIPE, check=True).stdout


async def test_no_secret_lies_in_the_files(store: Store, path: Path) -> None:
    secret, header = b"signing-secret-of-32-bytes-aaaaa", "Bearer header-value"
    stored = await store.create(
        subscription(signing_keys=(signing_key(secret),), headers={"Authorization": header})
    )
    await store.replace(replace(stored, display_name="changed"), now=NOW)
    files = [path, path.with_name("store.db-wal")]
    content = b"".join([await asyncio.to_thread(bytes_of, file) for file in files])
    assert stored.endpoint_uri.encode() in content
    for hidden in (secret, header.encode(), KEY):
        assert hidden not in content
    assert repr(secret)[2:-1] not in repr(stored)


async def test_deletion_erases_secrets_and_header_values(store: Store, path: Path) -> None:
    await store.create(subscription(headers={"Authorization": "Bearer x"}))
    assert await asyncio.to_thread(look, path, "SELECT count(*) FROM signing_keys") == [(1,)]
    await store.delete(TENANT, SUB, etag=None, now=NOW)
    assert await asyncio.to_thread(look, path, "SELECT count(*) FROM signing_keys") == [(0,)]
    assert await asyncio.to_thread(look, path, "SELECT headers FROM subscriptions") == [(b"",)]


async def test_secret_copied_to_another_subscription_does_not_open(path: Path) -> None:
    store = await Store.open(url_of(path), master_key=KEY)
    await store.create(subscription("a"))
    await store.create(subscription("b"))
    await store.aclose()
    change(
        path,
        "UPDATE signing_keys SET secret = (SELECT secret FROM signing_keys WHERE lane_id = 1)",
    )
    store = await Store.open(url_of(path), master_key=KEY)
    assert await store.get(TENANT, SubscriptionId("a")) == subscription("a", lane_id=LaneId(1))
    with pytest.raises(SecretUnreadable):
        await store.get(TENANT, SubscriptionId("b"))
    with pytest.raises(SecretUnreadable):
        await store.subscription_of(LaneId(2))
    assert await store.delete(TENANT, SubscriptionId("b"), etag=None, now=NOW) == 2
    await store.aclose()


async def test_key_file_is_made_once_and_only_its_owner_reads_it(path: Path) -> None:
    store = await Store.open(url_of(path), master_key=None)
    key_file = path.with_name("store.db.key")
    assert store.made_key_file == key_file
    assert key_file.stat().st_mode & 0o777 == 0o600
    created = await store.create(subscription())
    token_key = store.page_token_key
    await store.aclose()
    again = await Store.open(url_of(path), master_key=None)
    assert again.made_key_file is None
    assert again.page_token_key == token_key
    assert await again.get(TENANT, SUB) == created
    await again.aclose()


async def test_key_file_that_cannot_be_written_is_refused(path: Path) -> None:
    path.with_name("store.db.key.new").mkdir()
    with pytest.raises(MasterKeyInvalid, match=r"cannot write .*store\.db\.key"):
        await Store.open(url_of(path), master_key=None)


@pytest.mark.parametrize("content", ["", "short", "bm90IDMyIGJ5dGVz", "\0"])
async def test_malformed_key_file_is_refused(path: Path, content: str) -> None:
    path.with_name("store.db.key").write_text(content)
    with pytest.raises(MasterKeyInvalid, match=r"store\.db\.key"):
        await Store.open(url_of(path), master_key=None)


async def test_database_without_its_master_key_is_refused(path: Path) -> None:
    await (await Store.open(url_of(path), master_key=None)).aclose()
    key_file = path.with_name("store.db.key")
    right = key_file.read_bytes()
    key_file.unlink()
    with pytest.raises(MasterKeyInvalid, match="neither SIGNALPOST_MASTER_KEY nor"):
        await Store.open(url_of(path), master_key=None)
    assert not key_file.exists()
    with pytest.raises(MasterKeyInvalid, match="another master key than the one given"):
        await Store.open(url_of(path), master_key=KEY)
    with pytest.raises(MasterKeyInvalid, match="must be 32 bytes, not 3"):
        await Store.open(url_of(path), master_key=b"abc")
    key_file.write_bytes(right)
    await (await Store.open(url_of(path), master_key=None)).aclose()


# The schema.


def schema(path: Path) -> set[tuple[str, str]]:
    rows = look(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    found = ((name, " ".join(sql.split())) for name, sql in rows if name != "alembic_version")
    # A column that was added later differs in the spaces behind the last one of before.
    return {(name, re.sub(r"(?<=\() | (?=[,)])", "", sql)) for name, sql in found}


def test_migrated_schema_is_that_of_the_tables(path: Path, tmp_path: Path) -> None:
    before, after = migrate(url_of(path))
    assert before is None
    assert migrate(url_of(path)) == (after, after)
    made = tmp_path / "made.db"
    fresh = create_engine(url_of(made))
    metadata.create_all(fresh)
    fresh.dispose()
    assert schema(path) == schema(made)


def test_database_of_a_newer_version_is_refused(path: Path) -> None:
    migrate(url_of(path))
    change(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseRefused, match="made by a newer version"):
        migrate(url_of(path))


def test_database_of_something_else_is_refused_and_left_alone(path: Path) -> None:
    change(path, "CREATE TABLE theirs (id)")
    with pytest.raises(DatabaseRefused, match="something else"):
        migrate(url_of(path))
    assert [name for name, _ in schema(path)] == ["theirs"]


def test_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("precious notes\n" * 100)
    with pytest.raises(DatabaseRefused, match="is not a SQLite database"):
        migrate(url_of(path))
    assert path.read_text() == "precious notes\n" * 100


def test_migration_that_fails_leaves_the_schema_of_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    create_table = alembic.op.create_table

    def fail_at_the_last(name: str, *args: Any, **more: Any) -> Any:
        if name == "attempts":
            raise Interrupted
        return create_table(name, *args, **more)

    monkeypatch.setattr(alembic.op, "create_table", fail_at_the_last)
    with pytest.raises(Interrupted):
        migrate(url_of(path))
    assert look(path, "SELECT name FROM sqlite_master") == []
    monkeypatch.undo()
    assert migrate(url_of(path))[0] is None


# Plans.


async def plan(store: Store, statements: list[str]) -> str:
    def explain(conn: Connection) -> str:
        rows = [
            row.detail
            for statement in statements
            for row in conn.exec_driver_sql("EXPLAIN QUERY PLAN " + statement)
        ]
        return "\n".join(rows)

    return await store._for_callers.run(explain)


async def test_hot_statements_read_no_more_than_they_return(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    seen: list[str] = []

    def note(*context: Any) -> None:
        statement = str(context[2])
        parameters = context[3][0] if context[5] else context[3]
        for value in parameters:
            literal = str(value) if isinstance(value, int) else "NULL" if value is None else "'x'"
            statement = statement.replace("?", literal, 1)
        seen.append(statement)

    sqlalchemy_event.listen(store._writer._engine, "before_cursor_execute", note)
    await store.accept([event("e1")], now=NOW)
    [lease] = await claim(store, lane_id)
    await store.record(ended(lease), now=NOW)
    await store.recover(now=NOW)
    await store.rescue(now=NOW, limit=9)
    await store.cancel_waiting(lane_id, limit=9, now=NOW)
    plans = await plan(store, [text for text in seen if not text.startswith(("BEGIN", "INSERT"))])
    assert "queue_wait (lane_id=? AND due<?)" in plans
    assert "queue_lease" in plans
    assert "SCAN" not in plans.replace("SCAN queue USING INDEX queue_lease", "")
    assert "TEMP B-TREE" not in plans
