from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from signalpost.domain.delivery import Attempt, FailureReason
from signalpost.domain.ids import LaneId
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.ports import AttemptRecord, Pick
from signalpost.v1.delivery_service_pb2 import GetDeliveryStatsRequest, GetDeliveryStatsResponse
from signalpost.v1.subscription_service_pb2 import PauseSubscriptionRequest
from tests.api.service import START, Service, event, failure_of

DEAD = GiveUp(FailureReason.EXHAUSTED)


async def stats(service: Service, **fields: Any) -> GetDeliveryStatsResponse:
    return await service.deliveries.GetDeliveryStats(GetDeliveryStatsRequest(**fields))


async def attempt(
    service: Service, verdict: Verdict, *, milliseconds: int = 100, lane_id: int = 1
) -> None:
    """Let the first delivery of a lane that is due be attempted."""
    now = service.clock.now()
    [lease] = await service.store.claim(
        [Pick(LaneId(lane_id), 1)], now=now, lease_until=now + timedelta(minutes=1)
    )
    outcome = Outcome.SUCCEEDED if isinstance(verdict, Succeed) else Outcome.REJECTED
    result = AttemptResult(outcome=outcome, latency=timedelta(milliseconds=milliseconds))
    made = Attempt(number=lease.number, trigger=lease.trigger, start_time=now, result=result)
    record = AttemptRecord(lease=lease, attempt=made, verdict=verdict)
    assert await service.store.record(record, now=now)


async def publish(service: Service, count: int, *, tenant_id: str = "") -> None:
    named = [event(event_id=f"e{n}-{tenant_id}", tenant_id=tenant_id) for n in range(count)]
    await service.publish(*named)


async def test_what_ended_is_counted(service: Service) -> None:
    await service.subscribe(subscription_id="crm")
    await publish(service, 4)
    await attempt(service, Succeed(), milliseconds=100)
    await attempt(service, DEAD, milliseconds=100)
    await attempt(service, RetryAt(START + timedelta(hours=1)), milliseconds=3000)
    shown = await stats(service)
    assert (shown.succeeded_count, shown.failed_count, shown.canceled_count) == (1, 1, 0)
    assert (shown.attempt_count, shown.failed_attempt_count) == (3, 2)
    assert shown.p50_latency.ToTimedelta() == timedelta(milliseconds=128)
    assert timedelta(seconds=2) < shown.p99_latency.ToTimedelta() <= timedelta(milliseconds=4096)
    assert shown.pending_count == 2
    assert shown.oldest_pending_time.ToDatetime() == START.replace(tzinfo=None)


async def test_the_period_begins_at_full_five_minutes(service: Service) -> None:
    await service.subscribe()
    await publish(service, 2)
    await attempt(service, Succeed())
    service.clock.move(timedelta(hours=1))
    await attempt(service, Succeed())
    hour = await stats(service, period=Duration(seconds=3600))
    assert hour.succeeded_count == 2
    assert hour.start_time.ToJsonString() == "2026-03-05T06:05:00Z"
    assert hour.end_time.ToJsonString() == "2026-03-05T07:07:08.123456Z"
    less = await stats(service, period=Duration(seconds=3000))
    assert less.start_time.ToJsonString() == "2026-03-05T06:15:00Z"
    assert less.succeeded_count == 1
    service.clock.move(timedelta(hours=24))
    assert (await stats(service)).succeeded_count == 1


async def test_what_waits_is_told_apart_by_what_holds_it(service: Service) -> None:
    for name in ("flowing", "throttled", "paused"):
        await service.subscribe(subscription_id=name)
    service.lanes.throttled = {LaneId(2)}
    await publish(service, 3)
    await service.subscriptions.PauseSubscription(
        PauseSubscriptionRequest(subscription_id="paused")
    )
    await attempt(service, RetryAt(START + timedelta(minutes=1)))
    await attempt(service, Succeed())
    service.clock.move(timedelta(seconds=5))
    await attempt(service, RetryAt(START + timedelta(minutes=2)))
    shown = await stats(service)
    assert shown.pending_count == 8
    pending = [one.pending_count for one in (shown.flowing, shown.throttled, shown.paused)]
    assert pending == [2, 3, 3]
    assert not shown.flowing.HasField("oldest_due_time")
    for held in (shown.throttled, shown.paused):
        assert held.oldest_due_time.ToDatetime() == START.replace(tzinfo=None)
        assert held.subscription_count == 1
    assert shown.suspended == GetDeliveryStatsResponse.Backlog()
    service.clock.move(timedelta(minutes=3))
    first = (await stats(service)).flowing.oldest_due_time
    assert first.ToDatetime() == (START + timedelta(minutes=1)).replace(tzinfo=None)


async def test_tenants_and_subscriptions_are_counted_apart(service: Service) -> None:
    await service.subscribe(subscription_id="a", tenant_id="acme")
    await service.subscribe(subscription_id="b", tenant_id="acme")
    await service.subscribe(subscription_id="a", tenant_id="globex")
    await publish(service, 2, tenant_id="acme")
    await publish(service, 1, tenant_id="globex")
    await attempt(service, Succeed(), lane_id=1)
    await attempt(service, Succeed(), lane_id=3)

    async def counts(**fields: str) -> tuple[int, int]:
        shown = await stats(service, **fields)
        return shown.succeeded_count, shown.pending_count

    assert await counts(tenant_id="-") == (2, 3)
    assert await counts(tenant_id="acme") == (1, 3)
    assert await counts(tenant_id="globex") == (1, 0)
    assert await counts() == (0, 0)
    assert await counts(tenant_id="acme", subscription_id="a") == (1, 1)
    assert await counts(tenant_id="acme", subscription_id="b") == (0, 2)
    assert await counts(tenant_id="-", subscription_id="a") == (2, 1)


async def test_of_nothing_there_are_no_percentiles_and_no_times(service: Service) -> None:
    await service.subscribe()
    shown = await stats(service)
    assert {field.name for field, _ in shown.ListFields()} == {
        *("start_time", "end_time", "flowing", "throttled", "paused", "suspended"),
    }
    assert shown.flowing == GetDeliveryStatsResponse.Backlog()


@pytest.mark.parametrize("tenant_id", ["", "acme", "-"])
async def test_a_subscription_that_never_was_is_not_found(service: Service, tenant_id: str) -> None:
    await service.subscribe(subscription_id="a", tenant_id="other")
    failure = await failure_of(stats(service, subscription_id="b", tenant_id=tenant_id))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.resource == ("subscription", "b")


@pytest.mark.parametrize("seconds", [0, 299, 30 * 86400 + 1])
async def test_a_period_has_bounds(service: Service, seconds: int) -> None:
    failure = await failure_of(stats(service, period=Duration(seconds=seconds)))
    assert failure.violations == {"period": "FIELD_INVALID"}
