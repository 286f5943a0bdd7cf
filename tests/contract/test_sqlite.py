"""What is promised of a SQLite file beyond the ports."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy import event as sqlalchemy_event

from signalpost.domain.errors import StorageUnavailable
from signalpost.domain.ids import EventId
from signalpost.domain.retention import Retention
from signalpost.ports.retention import Prunable
from signalpost.ports.statistics import StatisticsQuery
from signalpost.store import (
    DatabaseRefused,
    Store,
    engine,
    migrate,
    same_core,
    statistics,
    writer,
)
from signalpost.store.writer import Verb, one_by_one
from tests.contract.material import NOW, TENANT, claim, ended, event, subscription
from tests.contract.sqlite_file import KEY, SUB, in_writer, url_of
from tests.contract.statements import executed
from tests.contract.writing import held_writer


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


async def test_caches_of_all_connections_are_bounded_together(store: Store) -> None:
    size = 5 * 2**20
    await store.bound_caches(size)
    assert await in_writer(store, "PRAGMA soft_heap_limit") == size
    await store.bound_caches(0)


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


async def test_concurrent_writes_share_transactions_again_and_again(store: Store) -> None:
    async def write(caller: int) -> None:
        for turn in range(3):
            await store.accept([event(f"e{caller}-{turn}")], now=NOW)

    commits: list[Connection] = []
    sqlalchemy_event.listen(store._writer._engine, "commit", commits.append)
    await asyncio.gather(*(write(caller) for caller in range(200)))
    assert len(commits) == 3


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


async def plan(store: Store, statements: list[str]) -> str:
    def explain(conn: Connection) -> str:
        rows = [
            row.detail
            for statement in statements
            for row in conn.exec_driver_sql("EXPLAIN QUERY PLAN " + statement)
        ]
        return "\n".join(rows)

    return await store._for_callers.run(explain)


@pytest.mark.parametrize("ordered", [False, True])
async def test_hot_statements_read_no_more_than_they_return(store: Store, *, ordered: bool) -> None:
    lane_id = (await store.create(subscription(ordered=ordered))).lane_id
    seen = await executed(store)
    await store.accept([event("e1"), event("e2")], now=NOW)
    lease, *_ = await claim(store, lane_id, count=1)
    await store.record(ended(lease), now=NOW)
    await store.recover(now=NOW)
    await store.rescue(now=NOW, limit=9)
    await store.cancel_waiting(lane_id, limit=9, now=NOW)
    later = NOW + timedelta(days=99)
    for kind in Prunable:
        await store.upkeep.prune(kind, [lease.key], retention=Retention(), now=later)
    await store.upkeep.give_up([lease.key], now=NOW)
    # A start looks once at all that waits.
    others = ("BEGIN", "COMMIT", "INSERT", "UPDATE queue SET due=CASE")
    plans = await plan(store, [text for text in seen if not text.startswith(others)])
    assert "queue_wait (lane_id=? AND band=? AND due<?)" in plans
    assert "queue_lease" in plans
    assert ("queue_order (lane_id=? AND resource=?)" in plans) == ordered
    # The last of these are the rows that a claim has found.
    spared = re.compile("SCAN queue USING INDEX queue_lease|SCAN anon_")
    assert "SCAN" not in spared.sub("", plans)
    assert "TEMP B-TREE" not in plans


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_waits_is_found_without_a_look_at_all_subscriptions(
    store: Store, *, ordered: bool
) -> None:
    lane_id = (await store.create(subscription(ordered=ordered))).lane_id
    seen = await executed(store)
    assert await store.backlogs() == []
    assert await store.deleted_lanes() == []
    await store.accept([event("e1"), event("e2")], now=NOW)
    [backlog] = await store.backlogs()
    assert (backlog.lane.lane_id, backlog.due) == (lane_id, NOW)
    assert await store.next_due([lane_id]) == {lane_id: NOW}
    await store.subscriptions_of([lane_id])
    await store.delete(TENANT, SUB, etag=None, now=NOW)
    assert await store.deleted_lanes() == [lane_id]
    plans = await plan(store, [text for text in seen if text.startswith(("SELECT", "WITH"))])
    assert "SEARCH queue USING INDEX queue_wait (lane_id>?)" in plans
    assert "SEARCH queue USING COVERING INDEX queue_order (lane_id>?)" in plans
    assert "queue_wait (lane_id=? AND band=?)" in plans
    # Of the lanes that were found.
    assert "SCAN" not in plans.replace("SCAN anon", "")


async def test_statistics_look_at_nothing_else_in_a_long_queue(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create(subscription())
    await store.accept([event("e1")], now=NOW)
    seen = await executed(store)
    query = StatisticsQuery(tenant_id=TENANT, subscription_id=SUB)
    await store.counts.waiting(query)
    await store.counts.oldest_pending(query)
    await store.counts.count_ended(query, start=NOW - timedelta(days=1), end=NOW)
    plans = await plan(store, [text for text in seen if text.startswith("SELECT")])
    assert "delivery_statistics USING PRIMARY KEY (bucket=? AND lane_id=?)" in plans
    assert "queue_wait (lane_id=? AND band=?)" in plans
    # Few are leased, of all lanes together.
    assert "SCAN" not in plans.replace("SCAN queue USING INDEX queue_lease", "")
    assert "SEARCH queue\n" not in plans
    seen.clear()
    monkeypatch.setattr(statistics, "_FEW_PENDING", 0)
    await store.counts.oldest_pending(query)
    plans = await plan(store, [text for text in seen if text.startswith("SELECT")])
    assert "SCAN queue\n" in plans  # by its key, up to the first one of the lane
    assert "TEMP B-TREE" not in plans


WHERE: Verb[int, list[set[int]]] = one_by_one(
    lambda _, loop: [os.sched_getaffinity(thread) for thread in (0, loop)]
)
"""Tells where the writer and the loop, a thread of that id, may run."""


async def busy(store: Store) -> list[set[int]]:
    """Give the writer much to do in a round; tell where it and the loop might run then."""
    loop = threading.get_native_id()
    async with held_writer(store):
        asked = [asyncio.create_task(store._writer.submit(WHERE, loop)) for _ in range(8)]
        await asyncio.sleep(0)
    return (await asyncio.gather(*asked))[-1]


async def test_writer_and_loop_share_a_core_while_there_is_much_to_do(store: Store) -> None:
    loop, anywhere = threading.get_native_id(), os.sched_getaffinity(0)
    alone = await store._writer.submit(WHERE, loop)
    writing, delivering = await busy(store)
    await store.aclose()
    assert alone == [anywhere, anywhere]
    assert writing == delivering
    assert len(writing) == 1
    assert os.sched_getaffinity(loop) == anywhere


async def test_they_part_when_there_is_less_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, anywhere = threading.get_native_id(), os.sched_getaffinity(0)
    monkeypatch.setattr(same_core, "TOGETHER_SECONDS", 0.0)
    assert [len(cores) for cores in await busy(store)] == [1, 1]
    assert await store._writer.submit(WHERE, loop) == [anywhere, anywhere]


async def test_they_part_when_there_is_nothing_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    anywhere = os.sched_getaffinity(0)
    # The WAL is brought home after each round: then nothing else is left for an idle moment.
    monkeypatch.setattr(writer, "_CHECKPOINT_AFTER_BYTES", 0)
    assert [len(cores) for cores in await busy(store)] == [1, 1]
    async with asyncio.timeout(30):
        while os.sched_getaffinity(0) != anywhere:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0)
