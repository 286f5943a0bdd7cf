"""The real service forgets what is over, and a kill in the midst of that leaves nothing half."""

import asyncio
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc.aio
import pytest

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_service_pb2 import GetEventRequest, ListEventsRequest, PublishResult
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

SHORT = ("--dev", "--retention", "1s", "--failed-retention", "1s")
LONG = ("--dev",)
TABLES = ("events", "deliveries", "attempts", "queue")


async def _delivered(service: Service, receiver: Receiver, count: int) -> None:
    """Let a service deliver events and end."""
    await service.start()
    await service.subscribe(receiver.url())
    await service.publish(*(connected(f"event-{number}") for number in range(count)))
    assert {d.state for d in await service.drained()} == {Delivery.SUCCEEDED}
    assert await service.stop() == 0
    await _old_enough(service.folder)


async def _old_enough(folder: Path) -> None:
    """Wait until all is older than a second, by the clock of the database."""
    now = "(julianday('now') - 2440587.5) * 86400"
    young = f"SELECT count(*) FROM deliveries WHERE end_time / 1e6 > {now} - 1.1"  # noqa: S608
    await _until(lambda: _read(folder, young) == 0)


def _read(folder: Path, statement: str) -> int:
    with closing(sqlite3.connect(folder / "signalpost.db")) as connection:
        return int(connection.execute(statement).fetchone()[0])


def _counts(folder: Path) -> list[int]:
    return [_read(folder, f"SELECT count(*) FROM {table}") for table in TABLES]  # noqa: S608


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process tells of nothing
            await asyncio.sleep(0.05)


async def test_after_its_retention_an_event_is_gone_and_its_id_is_free(
    service: Service, receiver: Receiver
) -> None:
    await _delivered(service, receiver, 3)
    service.options = SHORT
    await service.start()
    await service.logged("pruned")
    assert _counts(service.folder) == [0, 0, 0, 0]
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await service.events.GetEvent(GetEventRequest(event_id="event-1"))
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND
    assert not (await service.events.ListEvents(ListEventsRequest())).events
    [again] = await service.publish(connected("event-1", resource="another"))
    assert again.outcome == PublishResult.ACCEPTED
    await receiver.until(lambda: len(receiver.requests) == 4)
    assert await service.stop() == 0


@pytest.mark.parametrize("point", ["prune.mid", "prune.after_commit"])
async def test_killed_in_pruning_nothing_is_left_half(
    service: Service, receiver: Receiver, point: str
) -> None:
    await _delivered(service, receiver, 30)
    service.options = SHORT
    assert await service.die_at(point) == -signal.SIGKILL
    left = 30 if point == "prune.mid" else 0
    assert _counts(service.folder) == [left, left, left, 0]
    assert _read(service.folder, "SELECT integrity_check = 'ok' FROM pragma_integrity_check()")

    service.options = LONG
    await service.start()
    assert len(await service.drained()) == left
    [again] = await service.publish(connected("event-7"))
    assert again.outcome == (PublishResult.DUPLICATE if left else PublishResult.ACCEPTED)
    await receiver.until(lambda: len(receiver.requests) == 30 + (not left))
    assert await service.stop() == 0
