"""Keeps the thread of a store's writer busy for as long as a test wants."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Connection

from signalpost.store import Store
from signalpost.store.writer import one_by_one


class _Hold:
    """Holds the writer inside a transaction, from when it comes to it until it is released."""

    def __init__(self, store: Store) -> None:
        self._begun, self._release = threading.Event(), threading.Event()
        self._holding = asyncio.create_task(store._writer.submit(one_by_one(self._hold), None))

    def _hold(self, _: Connection, __: None) -> None:
        self._begun.set()
        self._release.wait()

    async def begun(self) -> None:
        await asyncio.to_thread(self._begun.wait)

    async def release(self) -> None:
        self._release.set()
        await self._holding


class HeldWriter:
    """A writer that works on nothing."""

    def __init__(self, store: Store, hold: _Hold) -> None:
        self._store = store
        self._hold = hold

    @property
    def waiting(self) -> int:
        return len(self._store._writer._waiting)

    def caller(self) -> asyncio.Future[object]:
        """Return what the caller of the first job that waits is waiting for."""
        return self._store._writer._waiting[0].future

    async def submitted(self, count: int) -> None:
        """Return when so many jobs wait."""
        async with asyncio.timeout(60):
            while self.waiting < count:
                await _turn_of_the_loop()

    async def begin_those_who_wait(self) -> None:
        """Hold the writer inside the transaction of those who wait now."""
        following, count = _Hold(self._store), self.waiting
        await self.submitted(count + 1)
        await self._hold.release()
        self._hold = following
        await following.begun()

    async def release(self) -> None:
        await self._hold.release()


async def _turn_of_the_loop() -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def held_writer(store: Store) -> AsyncIterator[HeldWriter]:
    """Hold the writer inside a transaction until the context ends."""
    hold = _Hold(store)
    await hold.begun()
    held = HeldWriter(store, hold)
    try:
        yield held
    finally:
        await held.release()
