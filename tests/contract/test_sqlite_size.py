"""What a SQLite file gives back when there is less in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from signalpost.domain.retention import Retention
from signalpost.ports.retention import Prunable
from signalpost.store import Store, engine
from tests.contract.material import NOW, event
from tests.contract.sqlite_file import in_writer, look

LATER = NOW + timedelta(days=99)


async def pages(store: Store) -> tuple[int, int]:
    count = await in_writer(store, "PRAGMA page_count")
    return count, await in_writer(store, "PRAGMA freelist_count")


async def test_free_pages_are_given_back_when_nothing_else_is_to_be_done(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SPARE_PAGES", 20)
    await store.accept([event(f"e{n}", content="x" * 50_000) for n in range(60)], now=NOW)
    full, _ = await pages(store)
    after, more = 0, True
    while more:
        found = await store.upkeep.find_expired(
            Prunable.EVENTS, after=after, retention=Retention(), now=LATER
        )
        after, more = found.reached, found.more
        await store.upkeep.prune(Prunable.EVENTS, found.rows, retention=Retention(), now=LATER)
    await until(lambda: free_pages(path) == 20)
    count, free = await pages(store)
    assert (count < full / 4, free) == (True, 20)
    await until(lambda: path.stat().st_size == count * 4096)
    assert look(path, "PRAGMA integrity_check") == [("ok",)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event tells of what another thread did
            await asyncio.sleep(0.01)


def free_pages(path: Path) -> int:
    [(count,)] = look(path, "PRAGMA freelist_count")
    return int(count)
