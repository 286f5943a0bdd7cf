"""A copy that is made as the README says, while the real service takes events in."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_service_pb2 import WatchEventsRequest
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

README = Path(__file__).parents[2] / "README.md"
COMMAND = re.compile(
    r"""^sqlite3 -readonly signalpost\.db "(VACUUM INTO 'backup\.db')"$""", re.MULTILINE
)
ENOUGH = 50


class Publishing:
    """Publishes one event after the other; `acknowledged` holds those that are safe."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.acknowledged: list[str] = []
        self._more = asyncio.Condition()

    async def run(self) -> None:
        for number in count():
            [result] = await self._service.publish(connected(f"event-{number}"))
            async with self._more:
                self.acknowledged.append(result.event_id)
                self._more.notify_all()

    async def until(self, acknowledged: int) -> None:
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: len(self.acknowledged) >= acknowledged)


def copy(folder: Path) -> None:
    """Do what the command of the README does, by the library that its shell is made of."""
    command = COMMAND.search(README.read_text("utf-8"))
    assert command
    statement = command[1].replace("backup.db", str(folder / "backup.db"))
    source = f"file:{folder / 'signalpost.db'}?mode=ro"
    with closing(sqlite3.connect(source, uri=True)) as connection:
        connection.execute(statement)


def restore(folder: Path) -> None:
    """Put the copy in place."""
    for suffix in ("-wal", "-shm"):
        (folder / f"signalpost.db{suffix}").unlink(missing_ok=True)
    (folder / "backup.db").replace(folder / "signalpost.db")


async def end_of_log(service: Service) -> str:
    """Return a cursor behind all that is stored."""
    call = service.events.WatchEvents(WatchEventsRequest(), timeout=30)
    async for response in call:
        call.cancel()
        return response.cursor
    raise AssertionError("the first response comes at once")


async def following(service: Service, cursor: str, number: int) -> set[str]:
    """Return the next events behind a cursor."""
    found: set[str] = set()
    call = service.events.WatchEvents(WatchEventsRequest(cursor=cursor), timeout=30)
    async for response in call:
        found.update(event.event_id for event in response.events)
        if len(found) >= number:
            call.cancel()
            break
    return found


async def test_a_copy_made_under_load_has_all_that_was_acknowledged_before(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await service.subscribe(receiver.url())
    publishing = Publishing(service)
    task = asyncio.create_task(publishing.run())
    await publishing.until(ENOUGH)
    before = set(publishing.acknowledged)
    await asyncio.to_thread(copy, service.folder)
    await publishing.until(len(publishing.acknowledged) + ENOUGH)
    task.cancel()
    await asyncio.wait([task])
    cursor = await end_of_log(service)
    await service.kill()
    restore(service.folder)

    await service.start()
    restored = {delivery.event_id for delivery in await service.drained()}
    assert before <= restored < set(publishing.acknowledged)
    lost = set(publishing.acknowledged) - restored
    await service.publish(*(connected(event_id) for event_id in sorted(lost)))
    assert await following(service, cursor, len(lost)) == lost
    deliveries = await service.drained()
    assert {delivery.state for delivery in deliveries} == {Delivery.SUCCEEDED}
    assert len(deliveries) == len(publishing.acknowledged)
