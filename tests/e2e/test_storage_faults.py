"""The real service on storage that is full, or that another process holds."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from signalpost.v1.delivery_pb2 import Delivery
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected
from tests.namespaces import with_own_mounts


@pytest.mark.needs_root
def test_full_disk_refuses_events_keeps_outcomes_and_needs_no_restart(tmp_path: Path) -> None:
    done = with_own_mounts(Path(__file__).with_name("full_disk.py"), tmp_path)
    assert done.stdout == "full, went on with outcomes, freed, went on with all\n", done.stderr


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the database as another process would: another connection is as foreign."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


async def test_locked_database_is_unavailable_and_recovers_without_a_loss(
    service: Service, receiver: Receiver
) -> None:
    answer = asyncio.Event()

    async def hold(_: Request) -> int:
        await answer.wait()
        return 200

    receiver.answer = hold
    await service.start()
    await service.subscribe(receiver.url())
    names = {f"e{number}" for number in range(20)}
    await service.publish(*(connected(name) for name in names))
    await receiver.until(lambda: receiver.requests)
    with locked(service.folder / "signalpost.db"):
        answer.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.publish(connected("refused"))
        # The worker has outcomes to record, and waits for storage, too.
        await service.logged("waiting for storage: storage does not answer; try again")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reasons(caught.value) == ("STORAGE_UNAVAILABLE", True)
    await service.publish(connected("later"))
    deliveries = await service.drained()
    assert {one.event_id for one in deliveries} == names | {"later"}
    assert {(one.state, one.attempt_count) for one in deliveries} == {(Delivery.SUCCEEDED, 1)}
    assert len(receiver.requests) == 21
    assert await service.stop() == 0


def reasons(error: grpc.aio.AioRpcError) -> tuple[str, bool]:
    """Return the reason of a failure, and whether it says when to retry."""
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    info, retry = ErrorInfo(), RetryInfo()
    first, second = Status.FromString(raw).details
    assert first.Unpack(info)
    return info.reason, second.Unpack(retry) and retry.retry_delay.seconds > 0
