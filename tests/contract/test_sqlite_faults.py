"""What becomes of a SQLite file, and of what it owes, when something fails."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from signalpost import failpoints
from signalpost.domain.errors import SignalpostError, StorageFull
from signalpost.ports import EventQuery, PageRequest, Recorded
from signalpost.store import DatabaseRefused, Store, engine
from signalpost.store.events import AcceptCall
from signalpost.store.writer import one_by_one
from tests.contract.material import NOW, TENANT, claim, ended, event, subscription
from tests.contract.sqlite_file import KEY, change, in_writer, look, url_of
from tests.namespaces import with_own_mounts


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
    assert recorded == Recorded(None)

    await in_writer(store, "PRAGMA max_page_count = 1000000")
    await store.accept([event("big", content=big)], now=NOW)
    page = await store.list_events(EventQuery(tenant_id=TENANT), PageRequest(size=9))
    assert {found.event_id for found in page.items} == {"e1", "big"}


async def test_full_database_whose_reserve_cannot_be_given_up_refuses_and_goes_on_with_room(
    store: Store, path: Path
) -> None:
    await store.accept([event("e1")], now=NOW)
    reserve = path.with_name("store.db.reserve")
    reserve.unlink()
    reserve.mkdir()
    pages = await in_writer(store, "PRAGMA page_count")
    await in_writer(store, f"PRAGMA max_page_count = {pages}")
    big = '"' + "x" * 50_000 + '"'
    async with asyncio.timeout(30):
        for _ in range(2):
            with pytest.raises(StorageFull):
                await store.accept([event("big", content=big)], now=NOW)
    await in_writer(store, "PRAGMA max_page_count = 1000000")
    await store.accept([event("big", content=big)], now=NOW)


async def test_whatever_befalls_the_writer_its_callers_hear_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bool:
        raise MemoryError

    async with asyncio.timeout(30):
        with monkeypatch.context() as little:
            little.setattr(store._writer._reserve, "hold", fail)
            with pytest.raises(MemoryError):
                await store.check_writable()
        await store.check_writable()


@pytest.mark.needs_root
def test_full_disk_loses_nothing_acknowledged_and_needs_no_restart(tmp_path: Path) -> None:
    done = with_own_mounts(Path(__file__).with_name("full_disk.py"), tmp_path)
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


async def test_wal_is_brought_home_where_few_events_go_to_many(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalpost.store.writer._CHECKPOINT_AFTER_BYTES", 256 * 1024)
    for number in range(100):
        await store.create(subscription(f"s{number}"))
    for number in range(200):
        await store.accept([event(f"e{number}")], now=NOW)
    assert path.stat().st_size > 3_000_000
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


@pytest.mark.parametrize("band", [0, 7])
async def test_queue_that_its_index_does_not_agree_with_is_mended_by_the_next_start(
    path: Path, caplog: pytest.LogCaptureFixture, band: int
) -> None:
    url = url_of(path)
    store = await Store.open(url, master_key=KEY)
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("bad"), event("good")], now=NOW)
    await store.aclose()
    first = "WHERE id = (SELECT min(id) FROM queue)"
    change(path, f"UPDATE queue SET due = due - 1000, band = ? {first}", band)  # noqa: S608
    flip_a_bit_of_the_first_due(path)
    store = await Store.open(url, master_key=KEY)
    assert [one.event_id for one in await claim(store, lane_id, count=2)] == ["bad", "good"]
    await store.aclose()
    store = await Store.open(url, master_key=KEY)
    await store.aclose()
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == [
        "the database is damaged: the indexes of a table were made anew"
    ]


async def test_file_that_is_damaged_is_refused_with_what_to_do(path: Path) -> None:
    store = await Store.open(url_of(path), master_key=KEY)
    await store.aclose()
    start, _ = page_of_the_queue(path)
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(DatabaseRefused, match=r"is damaged .*: restore a backup") as caught:
        await Store.open(url_of(path), master_key=KEY)
    assert "\n" not in str(caught.value)


def flip_a_bit_of_the_first_due(path: Path) -> None:
    """Change it in its row, and not in the index."""
    [(due,)] = look(path, "SELECT min(due) FROM queue")
    content = bytearray(path.read_bytes())
    content[content.index(due.to_bytes(8), *page_of_the_queue(path)) + 7] ^= 2
    path.write_bytes(content)


def page_of_the_queue(path: Path) -> tuple[int, int]:
    """Return where the one page of a short queue begins in the file, and where it ends."""
    [(root,)] = look(path, "SELECT rootpage FROM sqlite_master WHERE name = 'queue'")
    [(size,)] = look(path, "PRAGMA page_size")
    return (root - 1) * size, root * size
