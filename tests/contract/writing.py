"""Keeps the thread of a store's writer busy for as long as a test wants."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Connection

from signalpost.store import Store
from signalpost.store.writer import one_by_one


class HeldWriter:
    """A writer that works on nothing."""

    def __init__(self, store: Store) -> None:
        self._waiting = store._writer._waiting

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def submitted(self, count: int) -> None:
        """Return when so many jobs wait."""
        async with asyncio.timeout(60):
            while self.waiting < count:
                await _turn_of_the_loop()


async def _turn_of_the_loop() -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def held_writer(store: Store) -> AsyncIterator[HeldWriter]:
    """Hold the writer inside a transaction until the context ends."""
    begun, release = threading.Event(), threading.Event()

    def hold(_: Connection, __: None) -> None:
        begun.set()
        release.wait()

    holding = asyncio.create_task(store._writer.submit(one_by_one(hold), None))
    await asyncio.to_thread(begun.wait)
    try:
        yield HeldWriter(store)
    finally:
        release.set()
        await holding
