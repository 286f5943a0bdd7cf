"""When the writer begins its next round at once, and when it lets more callers come before."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest
from sqlalchemy import Connection

from signalpost.store import Store, writer
from signalpost.store.writer import Verb, one_by_one

LONG_SECONDS = 20.0
"""A test fails long before, and ends not long after."""


def nothing(_: Connection, __: None) -> None: ...


FROM_OUTSIDE: Verb[None, None] = one_by_one(nothing, can_wait=True)
OF_DELIVERIES: Verb[None, None] = one_by_one(nothing)


@pytest.fixture(autouse=True)
def _for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writer wait very long for more callers if it waits for them at all."""
    monkeypatch.setattr(writer, "_QUIET_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(writer, "_LONGEST_GATHERING_SECONDS", LONG_SECONDS)


async def write(store: Store, verb: Verb[None, None], *, callers: int, size: int = 0) -> None:
    """Return when so many callers, who came together, are answered."""
    submit = store._writer.submit
    await asyncio.gather(*(submit(verb, None, content_bytes=size) for _ in range(callers)))


@pytest.mark.parametrize(
    ("verb", "callers", "size"),
    [(FROM_OUTSIDE, 1, 0), (FROM_OUTSIDE, 3, writer._FEW_BYTES // 3), (OF_DELIVERIES, 3, 0)],
    ids=["a caller alone", "large writes", "outcomes of attempts"],
)
async def test_next_round_begins_at_once_if_nobody_is_to_be_waited_for(
    store: Store, verb: Verb[None, None], callers: int, size: int
) -> None:
    async with asyncio.timeout(LONG_SECONDS / 2):
        for _ in range(3):
            await write(store, verb, callers=callers, size=size)


async def turns_of_the_loop() -> None:
    """Let those who are about to submit something come to it."""
    for _ in range(9):
        await asyncio.sleep(0)


async def test_it_begins_at_once_if_one_waits_who_cannot(store: Store) -> None:
    begun, release = threading.Event(), threading.Event()

    def hold(_: Connection, __: None) -> None:
        begun.set()
        release.wait()

    holding = asyncio.create_task(write(store, one_by_one(hold, can_wait=True), callers=3))
    await asyncio.to_thread(begun.wait)
    recording = asyncio.create_task(write(store, OF_DELIVERIES, callers=1))
    await turns_of_the_loop()
    release.set()
    async with asyncio.timeout(LONG_SECONDS / 2):
        await asyncio.gather(holding, recording)


async def test_who_comes_meanwhile_shares_a_flush(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, go_on = threading.Event(), threading.Event()
    rounds: list[int] = []

    def pause(_: float) -> None:
        waits.set()
        go_on.wait()

    def count(_: Connection, callers: Sequence[None]) -> Sequence[None]:
        rounds.append(len(callers))
        return callers

    monkeypatch.setattr(time, "sleep", pause)
    verb = Verb(run=count, can_wait=True)
    await write(store, verb, callers=3)
    await asyncio.to_thread(waits.wait)
    both = [asyncio.create_task(write(store, verb, callers=1)) for _ in range(2)]
    await turns_of_the_loop()
    go_on.set()
    await asyncio.gather(*both)
    assert rounds == [3, 2]
