"""Kills the real service within each change it makes: what is left is the old state or the new."""

import asyncio
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.subscription_service_pb2 import (
    GetSubscriptionRequest,
    RotateSubscriptionSecretRequest,
)
from tests.conftest import Require
from tests.contract.sqlite_file import look
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

MIGRATIONS = Path(__file__).parents[2] / "src/signalpost/store/migrations/versions"
REVISIONS = sorted(path.name[1:5] for path in MIGRATIONS.glob("v*.py"))
before_and_after = pytest.mark.parametrize("when", ["before", "after"])


def in_file(service: Service, statement: str) -> Any:
    """Return what the file of a dead service says; it must be sound."""
    path = service.folder / "signalpost.db"
    assert look(path, "SELECT * FROM pragma_integrity_check()") == [("ok",)]
    return look(path, statement)


async def outcomes(service: Service, delivery: Delivery) -> list[str]:
    request = GetDeliveryRequest(delivery_id=delivery.delivery_id)
    found = (await service.deliveries.GetDelivery(request)).delivery
    return [DeliveryAttempt.Outcome.Name(attempt.outcome) for attempt in found.attempts]


async def publish_to_its_death(service: Service) -> None:
    """Publish an event whose first attempt ends the service, maybe before that answers."""
    with suppress(grpc.aio.AioRpcError):
        await service.publish(connected("event"))
    assert await service.ended() == -signal.SIGKILL


def answering(*statuses: int) -> Any:
    """Answer with these statuses in turn, and with the last one from then on."""

    async def answer(request: Request) -> int:
        return statuses[min(request.number, len(statuses) - 1)]

    return answer


@before_and_after
async def test_killed_while_a_retry_is_scheduled(
    service: Service, receiver: Receiver, when: str
) -> None:
    receiver.answer = answering(500, 200)
    await service.start(failpoint=f"outcome.{when}_commit:kill")
    await service.subscribe(receiver.url())
    await publish_to_its_death(service)
    queued = in_file(service, "SELECT attempts, tries, lease_until IS NULL FROM queue")
    assert queued == ([(0, 0, 0)] if when == "before" else [(1, 1, 1)])
    await service.start()
    [delivery] = await service.drained()
    first = "INTERRUPTED" if when == "before" else "REJECTED"
    assert await outcomes(service, delivery) == [first, "SUCCEEDED"]


@before_and_after
async def test_killed_while_a_delivery_becomes_a_dead_letter(
    service: Service, receiver: Receiver, when: str
) -> None:
    receiver.answer = answering(500)
    await service.start(failpoint=f"outcome.{when}_commit:kill")
    await service.subscribe(receiver.url(), max_attempts=1)
    await publish_to_its_death(service)
    state = (Delivery.PENDING, 1) if when == "before" else (Delivery.FAILED, 0)
    found = "SELECT state, (SELECT count(*) FROM queue) FROM deliveries"
    assert in_file(service, found) == [state]
    await service.start()
    [delivery] = await service.drained()
    assert (delivery.state, delivery.failure_reason) == (Delivery.FAILED, Delivery.EXHAUSTED)
    first = ["INTERRUPTED"] if when == "before" else []
    assert await outcomes(service, delivery) == [*first, "REJECTED"]


@before_and_after
async def test_killed_while_a_subscription_is_suspended(
    service: Service, receiver: Receiver, when: str
) -> None:
    async def answer(request: Request) -> int:
        return 410 if request.path == "/gone" else 200

    receiver.answer = answer
    await service.start(failpoint=f"suspend.{when}_commit:kill")
    await service.subscribe(receiver.url("/gone"), subscription_id="gone")
    await service.subscribe(
        receiver.url("/told"), subscription_id="told", event_types=["subscription.suspended"]
    )
    await publish_to_its_death(service)
    state = Subscription.ACTIVE if when == "before" else Subscription.SUSPENDED
    told = "SELECT state, (SELECT count(*) FROM events), (SELECT count(*) FROM attempts)"
    of_gone = f"{told} FROM subscriptions WHERE subscription_id = 'gone'"
    assert in_file(service, of_gone) == [(state, 1, 0) if when == "before" else (state, 2, 1)]
    await service.start()
    await receiver.until(lambda: any(one.path == "/told" for one in receiver.requests))
    asked = GetSubscriptionRequest(subscription_id="gone")
    found = await service.subscriptions.GetSubscription(asked)
    assert found.subscription.state == Subscription.SUSPENDED
    paths = [request.path for request in receiver.requests]
    assert paths == ["/gone"] * (2 if when == "before" else 1) + ["/told"]
    assert await service.stop() == 0


@before_and_after
async def test_killed_while_a_secret_is_rotated(
    service: Service, receiver: Receiver, when: str
) -> None:
    await service.start(failpoint=f"change.{when}_commit:kill")
    secret = await service.subscribe(receiver.url(), subscription_id="s")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.subscriptions.RotateSubscriptionSecret(
            RotateSubscriptionSecretRequest(subscription_id="s")
        )
    assert await service.ended() == -signal.SIGKILL
    version, keys = (1, 1) if when == "before" else (2, 2)
    stored = "SELECT version, (SELECT count(*) FROM signing_keys) FROM subscriptions"
    assert in_file(service, stored) == [(version, keys)]
    await service.start()
    await service.publish(connected("event"))
    await service.drained()
    [request] = receiver.requests
    request.verify(secret)
    assert len(request.headers["webhook-signature"].split()) == keys
    assert await service.stop() == 0


async def test_killed_in_every_migration(service: Service, receiver: Receiver) -> None:
    assert len(REVISIONS) > 1
    last = None
    for revision in REVISIONS:
        assert await service.die_at(f"migrate.before_commit={revision}") == -signal.SIGKILL
        if last is None:
            tables = "SELECT count(*) FROM sqlite_schema WHERE name <> 'alembic_version'"
            assert in_file(service, tables) == [(0,)]
        else:
            assert in_file(service, "SELECT version_num FROM alembic_version") == [(last,)]
        last = revision
    await service.start()
    await service.subscribe(receiver.url())
    await service.publish(connected("event"))
    [delivery] = await service.drained()
    assert delivery.state == Delivery.SUCCEEDED
    assert await service.stop() == 0


@pytest.mark.parametrize("page", [1, 5])
async def test_killed_in_a_checkpoint(
    service: Service, receiver: Receiver, require: Require, page: int
) -> None:
    require(shutil.which("strace"), "needs strace")
    await service.start()
    await service.subscribe(receiver.url())
    await service.publish(connected("before"))
    assert service.process is not None
    # Nothing but a checkpoint writes to the file itself; it dies at a page of the next one.
    tracing = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-p", str(service.process.pid), "-P", service.folder / "signalpost.db"),
        *("-e", "trace=pwrite64", "-e", f"inject=pwrite64:signal=KILL:when={page}"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracing.stderr is not None
    attached = (await tracing.stderr.readline()).decode()
    require("attached" in attached, f"needs leave to trace: {attached}")
    names = {f"e{number}" for number in range(50)}
    acknowledged = {"before"}
    try:
        for name in sorted(names):
            await service.publish(connected(name))
            acknowledged.add(name)
    except grpc.aio.AioRpcError:
        pass
    assert await service.ended() == -signal.SIGKILL
    await tracing.communicate()
    in_file(service, "SELECT 1")
    await service.start()
    deliveries = await service.drained()
    assert acknowledged <= {found.event_id for found in deliveries} <= names | {"before"}
    assert {found.state for found in deliveries} == {Delivery.SUCCEEDED}
    assert await service.stop() == 0
