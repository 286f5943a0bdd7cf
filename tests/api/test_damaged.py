"""One damaged record: it is told of, and keeps nobody from what is stored beside it."""

import asyncio
from pathlib import Path

import pytest

from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import GetEventRequest, WatchEventsRequest
from signalpost.v1.subscription_service_pb2 import (
    DeleteSubscriptionRequest,
    ListSubscriptionsRequest,
)
from tests.api.service import START, Service, event
from tests.api.watch import Follower
from tests.contract.sqlite_file import change


async def damage(folder: Path, statement: str, *values: object) -> None:
    await asyncio.to_thread(change, folder / "test.db", statement, *values)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"payload":{"integration":1},"timestamp":"2026-01-01T00:00:00Z"}',
        b'{"payload":{},"timestamp":"yesterday"}',
        b'{"payload":{},"timestamp":0}',
    ],
)
async def test_damaged_event_is_shown_without_its_payload_and_others_as_they_are(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    await service.publish(event(event_id="before"))
    sound = await service.stored()
    await service.publish(event(event_id="bad"))
    await service.publish(event(event_id="after"))
    await damage(tmp_path, "UPDATE events SET body = ? WHERE event_id = 'bad'", body)
    _, bad, before = await service.stored()
    assert [before] == sound
    expected = Event(event_id="bad", event_type_name="account.connected", resource=before.resource)
    expected.publish_time.FromDatetime(START)
    assert bad == expected
    assert (await service.events.GetEvent(GetEventRequest(event_id="bad"))).event == bad
    start = WatchEventsRequest(start_time=expected.publish_time)
    follower = Follower(service.events.WatchEvents(start))
    assert await follower.until(3) == ["before", "bad", "after"]
    follower.call.cancel()
    record = caplog.records[0]
    assert record.message == "a stored event is damaged: its payload is not shown"
    assert vars(record)["event_id"] == "bad"


@pytest.mark.parametrize(
    "change_to",
    [
        "UPDATE events SET event_type = CAST(? AS TEXT) WHERE event_id = 'bad'",
        "UPDATE events SET resource_id = CAST(? AS TEXT) WHERE event_id = 'bad'",
        "UPDATE events SET traceparent = CAST(? AS TEXT) WHERE event_id = 'bad'",
        "UPDATE events SET event_id = CAST(? AS TEXT) WHERE event_id = 'bad'",
    ],
)
async def test_damaged_text_of_an_event_is_shown_as_far_as_it_can_be_read(
    service: Service, tmp_path: Path, change_to: str
) -> None:
    await service.subscribe()
    await service.publish(event(event_id="before"), event(event_id="bad"))
    await damage(tmp_path, change_to, b"a\xffb")
    bad, before = await service.stored()
    assert before.event_id == "before"
    deliveries = await service.deliveries.ListDeliveries(ListDeliveriesRequest())
    assert [one.event_id for one in deliveries.deliveries] == [bad.event_id, "before"]
    assert "a\ufffdb" in str(bad)


@pytest.mark.parametrize(
    "change_to",
    [
        "UPDATE subscriptions SET display_name = CAST(? AS TEXT) WHERE subscription_id = 'bad'",
        "UPDATE subscriptions SET endpoint_uri = CAST(? AS TEXT) WHERE subscription_id = 'bad'",
        "UPDATE subscriptions SET subscription_id = CAST(? AS TEXT) WHERE subscription_id = 'bad'",
    ],
)
async def test_damaged_text_of_a_subscription_keeps_no_list_from_going_on(
    service: Service, tmp_path: Path, change_to: str
) -> None:
    for name in ("bad", "good"):
        await service.subscribe(subscription_id=name)
    await damage(tmp_path, change_to, b"a\xffb")
    response = await service.subscriptions.ListSubscriptions(ListSubscriptionsRequest())
    [bad] = [one for one in response.subscriptions if one.subscription_id != "good"]
    assert len(response.subscriptions) == 2
    assert bad.state == 0
    assert "damaged" in bad.suspension_message


async def test_damaged_subscription_is_named_in_a_list_and_can_be_deleted(
    service: Service, tmp_path: Path
) -> None:
    for name in ("bad", "good"):
        await service.subscribe(subscription_id=name, labels={"team": "a"})
    await damage(tmp_path, "UPDATE subscriptions SET labels = '{' WHERE subscription_id = 'bad'")
    request = ListSubscriptionsRequest()
    bad, good = (await service.subscriptions.ListSubscriptions(request)).subscriptions
    assert (bad.subscription_id, bad.state, bad.endpoint_uri) == ("bad", 0, "")
    assert bad.suspension_message.startswith('stored subscription "bad" of tenant "" is damaged')
    assert (good.subscription_id, dict(good.labels)) == ("good", {"team": "a"})
    await service.subscriptions.DeleteSubscription(DeleteSubscriptionRequest(subscription_id="bad"))
    left = (await service.subscriptions.ListSubscriptions(request)).subscriptions
    assert list(left) == [good]
