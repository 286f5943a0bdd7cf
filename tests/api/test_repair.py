"""Repairing deliveries over a real channel."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.domain.delivery import FailureReason
from signalpost.domain.verdict import GiveUp, Succeed
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import (
    CancelDeliveriesRequest,
    CancelDeliveriesResponse,
    ListDeliveriesRequest,
    ReplayDeliveriesRequest,
    RetryDeliveryRequest,
)
from signalpost.v1.event_pb2 import EventFilter, Resource
from signalpost.v1.subscription_service_pb2 import (
    DeleteSubscriptionRequest,
    PauseSubscriptionRequest,
)
from tests.api.service import START, Service, event, failure_of
from tests.api.test_deliveries import REFUSED, TAKEN, attempt, get, listed

REQUEST_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def one_delivery(service: Service, **fields: Any) -> str:
    """Publish an event to the only subscription; return the name of its delivery."""
    await service.publish(event(**fields))
    return (await listed(service, ListDeliveriesRequest(page_size=1)))[0].delivery_id


async def failed_delivery(service: Service, **fields: Any) -> str:
    name = await one_delivery(service, **fields)
    await attempt(service, REFUSED, GiveUp(FailureReason.EXHAUSTED))
    return name


async def retry(service: Service, name: str) -> Delivery:
    request = RetryDeliveryRequest(delivery_id=name)
    return (await service.deliveries.RetryDelivery(request)).delivery


async def replay(service: Service, **fields: Any) -> int:
    """Replay what was published before now; return how many deliveries that queued."""
    service.clock.move(timedelta(microseconds=1))
    request = replay_request(**fields)
    return (await service.deliveries.ReplayDeliveries(request)).delivery_count


def replay_request(**fields: Any) -> ReplayDeliveriesRequest:
    start = Timestamp()
    start.FromDatetime(START)
    return ReplayDeliveriesRequest(**{"subscription_id": "s", "start_time": start, **fields})


async def states(service: Service) -> dict[str, str]:
    found = await listed(service, ListDeliveriesRequest(page_size=1000))
    return {one.event_id: Delivery.State.Name(one.state) for one in found}


async def test_a_failed_delivery_is_reopened_and_attempted_by_hand(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    name = await failed_delivery(service, event_id="e1")
    service.clock.move(timedelta(hours=1))
    service.lanes.noticed.clear()
    reopened = await retry(service, name)
    assert (reopened.state, reopened.failure_reason) == (Delivery.PENDING, 0)
    assert (reopened.attempt_count, reopened.last_attempt.number) == (1, 1)
    assert not reopened.attempts
    assert not reopened.HasField("end_time")
    now = START + timedelta(hours=1)
    assert reopened.next_attempt_time.ToDatetime(now.tzinfo) == now
    [(_, due)] = service.lanes.noticed
    assert due == now
    await attempt(service, TAKEN, Succeed())
    taken = await get(service, name)
    assert [(one.number, one.trigger) for one in taken.attempts] == [
        (1, DeliveryAttempt.SCHEDULED),
        (2, DeliveryAttempt.MANUAL),
    ]


async def test_what_cannot_be_retried_says_why(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    name = await failed_delivery(service)
    failure = await failure_of(retry(service, "dlv_0000000000001"))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    request = DeleteSubscriptionRequest(subscription_id="s")
    await service.subscriptions.DeleteSubscription(request)
    failure = await failure_of(retry(service, name))
    assert (failure.code, failure.reason) == (PRECONDITION, "STATE_INVALID")
    assert failure.metadata == {"state": "DELETED"}
    assert failure.message == 'subscription "s" is deleted'


async def test_a_paused_subscription_is_replayed_into_and_its_lane_not_woken(
    service: Service,
) -> None:
    await service.subscribe(subscription_id="s")
    await failed_delivery(service)
    pause = PauseSubscriptionRequest(subscription_id="s")
    await service.subscriptions.PauseSubscription(pause)
    service.lanes.noticed.clear()
    assert await replay(service) == 1
    assert service.lanes.noticed == []
    assert set((await states(service)).values()) == {"PENDING"}


async def test_each_scope_replays_its_own(service: Service) -> None:
    await service.publish(event(event_id="before"))
    await service.subscribe(subscription_id="s")
    await failed_delivery(service, event_id="failed")
    await one_delivery(service, event_id="taken")
    await attempt(service, TAKEN, Succeed())
    await one_delivery(service, event_id="waits")
    for scope, count in (("FAILED", 1), ("MISSING", 1), ("ALL", 3)):
        assert await replay(service, scope=scope, validate_only=True) == count
    service.clock.move(timedelta(seconds=1))
    assert await replay(service, scope="MISSING") == 1
    assert await replay(service, scope="MISSING") == 0
    assert await replay(service) == 1
    assert await replay(service) == 0
    assert await states(service) == {
        "before": "PENDING",
        "failed": "PENDING",
        "taken": "SUCCEEDED",
        "waits": "PENDING",
    }
    assert await replay(service, scope="ALL") == 1


async def test_a_replay_keeps_to_its_filter_and_its_range(service: Service) -> None:
    await service.subscribe(
        subscription_id="s", filter=EventFilter(event_types=["account.connected"])
    )
    await failed_delivery(service, event_id="early")
    service.clock.move(timedelta(seconds=10))
    await failed_delivery(service, event_id="middle", resource=Resource(id="a"))
    await failed_delivery(service, event_id="other", resource=Resource(id="b"))
    service.clock.move(timedelta(seconds=10))
    await failed_delivery(service, event_id="late", resource=Resource(id="a"))
    start, end = Timestamp(), Timestamp()
    start.FromDatetime(START + timedelta(seconds=10))
    end.FromDatetime(START + timedelta(seconds=20))
    chosen = EventFilter(resource_ids=["a"])
    assert await replay(service, start_time=start, end_time=end, filter=chosen) == 1
    assert [one for one, state in (await states(service)).items() if state == "PENDING"] == [
        "middle"
    ]


async def test_a_request_id_makes_repeating_a_replay_safe(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    await failed_delivery(service)
    assert await replay(service, request_id=REQUEST_ID) == 1
    await attempt(service, REFUSED, GiveUp(FailureReason.EXHAUSTED))
    assert await replay(service, request_id=REQUEST_ID.upper()) == 1
    assert set((await states(service)).values()) == {"FAILED"}
    other = service.deliveries.ReplayDeliveries(replay_request(request_id=REQUEST_ID, scope="ALL"))
    failure = await failure_of(other)
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_CONFLICT",
    )
    service.clock.move(timedelta(days=1, seconds=1))
    assert await replay(service, request_id=REQUEST_ID) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": "one"}, "request_id"),
        ({"start_time": None}, "start_time"),
        ({"end_time": Timestamp(seconds=1)}, "end_time"),
        ({"subscription_id": ""}, "subscription_id"),
        ({"scope": 9}, "scope"),
    ],
)
async def test_a_replay_that_makes_no_sense_is_refused(
    service: Service, fields: dict[str, Any], field: str
) -> None:
    call = service.deliveries.ReplayDeliveries(replay_request(**fields))
    assert (await failure_of(call)).violations == {field: "FIELD_INVALID"}


async def test_a_replay_of_an_unknown_subscription_is_not_found(service: Service) -> None:
    for fields in ({}, {"validate_only": True}):
        failure = await failure_of(service.deliveries.ReplayDeliveries(replay_request(**fields)))
        assert failure.resource == ("subscription", "s")


async def cancel(service: Service, **fields: Any) -> CancelDeliveriesResponse:
    request = CancelDeliveriesRequest(**{"subscription_id": "s", **fields})
    return await service.deliveries.CancelDeliveries(request)


async def test_what_waits_is_canceled_by_filter_and_time(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    await service.publish(event(event_id="old"), event(event_id="x", resource=Resource(id="x")))
    service.clock.move(timedelta(seconds=10))
    await service.publish(event(event_id="new"))
    end = Timestamp()
    end.FromDatetime(START + timedelta(seconds=10))
    service.clock.move(timedelta(seconds=10))
    chosen = EventFilter(resource_ids=["acc_1"])
    assert (await cancel(service, filter=chosen, end_time=end, validate_only=True)) == (
        CancelDeliveriesResponse(delivery_count=1)
    )
    assert set((await states(service)).values()) == {"PENDING"}
    assert (await cancel(service, filter=chosen, end_time=end)).delivery_count == 1
    assert await states(service) == {"old": "CANCELED", "x": "PENDING", "new": "PENDING"}
    assert (await cancel(service)).delivery_count == 2
    assert (await cancel(service)).delivery_count == 0


async def test_cancelling_for_an_unknown_subscription_is_not_found(service: Service) -> None:
    for validate_only in (False, True):
        failure = await failure_of(cancel(service, validate_only=validate_only))
        assert failure.resource == ("subscription", "s")
