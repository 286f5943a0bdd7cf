import json
import logging
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.api.checks import MAX_SECONDS, MIN_SECONDS
from signalpost.domain.event import MAX_BODY_BYTES
from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.event_pb2 import Event, EventFilter, Resource
from signalpost.v1.event_service_pb2 import GetEventRequest, ListEventsRequest, PublishResult
from signalpost.v1.payloads_pb2 import (
    AccountConnected,
    AnomalyAlert,
    Custom,
    ToolListChanged,
    WebhookTest,
)
from tests.api.service import START, Service, event, failure_of

ACCEPTED, DUPLICATE = PublishResult.ACCEPTED, PublishResult.DUPLICATE
INVALID = grpc.StatusCode.INVALID_ARGUMENT
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
OTHER_TRACE = "00-" + "c" * 32 + "-" + "d" * 16 + "-00"


def of_size(size: int, *, base: int) -> Event:
    """Make an event whose body has this size, if one without a user has `base`."""
    filler = "u" * (size - base - len(',"user_id":""'))
    return event(
        event_id="sized", account_connected=AccountConnected(integration="gmail", user_id=filler)
    )


async def test_published_event_can_be_read_and_owes_a_delivery_to_who_asked(
    service: Service,
) -> None:
    await service.subscribe(filter=EventFilter(event_types=["account.*"]))
    await service.subscribe(filter=EventFilter(event_types=["tool.list_changed"]))
    (result,) = (await service.publish(event(event_id="e1"))).results
    assert result == PublishResult(event_id="e1", outcome=ACCEPTED, delivery_count=1)
    read = (await service.events.GetEvent(GetEventRequest(event_id="e1"))).event
    publish_time = Timestamp()
    publish_time.FromDatetime(START)
    assert read == event(
        event_id="e1",
        event_type=Event.ACCOUNT_CONNECTED,
        event_type_name="account.connected",
        resource=Resource(type="account", id="acc_1"),
        timestamp=publish_time,
        publish_time=publish_time,
    )
    ((lanes, due),) = service.lanes.noticed
    assert (len(lanes), due) == (1, START)


async def test_event_without_an_id_gets_one(service: Service) -> None:
    first, second = (await service.publish(event(), event())).results
    assert first.event_id != second.event_id
    assert [one.event_id for one in await service.stored()] == [second.event_id, first.event_id]


async def test_a_whole_number_in_a_struct_arrives_as_an_integer(service: Service) -> None:
    details = Struct()
    details.update({"answer": 42, "half": 0.5})
    alert = AnomalyAlert(kind="k", severity=AnomalyAlert.LOW, details=details)
    sent = event(event_id="e1", anomaly_alert=alert)
    (preview,) = (await service.publish(sent, validate_only=True)).results
    assert '"details":{"answer":42,"half":0.5}' in preview.webhook_body
    await service.publish(sent)
    (read,) = await service.stored()
    assert read.anomaly_alert == alert


async def test_validate_only_tells_all_and_stores_nothing(service: Service) -> None:
    await service.subscribe()
    (result,) = (await service.publish(event(), validate_only=True)).results
    assert (result.outcome, result.delivery_count) == (ACCEPTED, 1)
    body = json.loads(result.webhook_body)
    assert body == {
        "event_id": result.event_id,
        "event_type": "account.connected",
        "timestamp": "2026-03-05T06:07:08.123456Z",
        "resource": {"type": "account", "id": "acc_1"},
        "payload": {"integration": "gmail"},
    }
    assert await service.stored() == []
    assert service.lanes.noticed == []


async def test_five_mistakes_are_reported_at_once_and_nothing_is_stored(service: Service) -> None:
    failure = await failure_of(
        service.publish(
            event(event_id="not ok"),
            event(event_id="sound"),
            event(resource=Resource()),
            event(webhook_test=WebhookTest()),
            event(event_type=Event.TOOL_LIST_CHANGED),
            event(account_connected=AccountConnected(integration="g", user_id="u" * 300_000)),
        )
    )
    assert failure.code is INVALID
    assert failure.violations == {
        "events[0].event_id": "FIELD_INVALID",
        "events[2].resource.id": "FIELD_INVALID",
        "events[4].event_type": "EVENT_TYPE_MISMATCH",
        "events[3].webhook_test": "EVENT_TYPE_RESERVED",
        "events[5]": "TOO_LARGE",
    }
    assert failure.reason == "FIELD_INVALID"
    assert failure.details == ["ErrorInfo", "BadRequest"]
    assert await service.stored() == []


async def test_several_mistakes_of_one_event_are_reported_at_once(service: Service) -> None:
    sent = event(event_id="not ok", event_type=Event.TOOL_LIST_CHANGED, resource=Resource())
    failure = await failure_of(service.publish(sent))
    assert failure.violations == {
        "events[0].event_id": "FIELD_INVALID",
        "events[0].resource.id": "FIELD_INVALID",
        "events[0].event_type": "EVENT_TYPE_MISMATCH",
    }


async def test_same_content_again_is_a_duplicate_with_its_first_count(service: Service) -> None:
    await service.subscribe()
    sent = event(event_id="e1")
    await service.publish(sent)
    await service.subscribe()
    sent.traceparent = TRACE
    sent.resource.type = "account"
    sent.event_type = Event.ACCOUNT_CONNECTED
    service.clock.move(timedelta(hours=1))
    (again,) = (await service.publish(sent)).results
    assert again == PublishResult(event_id="e1", outcome=DUPLICATE, delivery_count=1)
    assert len(await service.stored()) == 1
    assert [len(lanes) for lanes, _ in service.lanes.noticed] == [1]


@pytest.mark.parametrize(
    "other",
    [
        event(event_id="e1", resource=Resource(id="acc_2")),
        event(event_id="e1", account_connected=AccountConnected(integration="slack")),
        event(event_id="e1", timestamp=Timestamp(seconds=1)),
        event(event_id="e1", resource=Resource(type="workspace", id="acc_1")),
        event(event_id="e1", account_disconnected={"integration": "gmail"}),
    ],
)
async def test_other_content_under_a_stored_id_is_refused(service: Service, other: Event) -> None:
    await service.subscribe()
    await service.publish(event(event_id="e1"))
    before = await service.stored()
    failure = await failure_of(service.publish(event(event_id="e2"), other))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    assert failure.reason == "EVENT_ID_CONFLICT"
    assert failure.resource == ("event", "e1")
    assert "events[1]" in failure.message
    assert await service.stored() == before
    assert len(service.lanes.noticed) == 1


async def test_same_id_of_another_tenant_is_another_event(service: Service) -> None:
    results = (
        await service.publish(
            event(event_id="e1", tenant_id="a"),
            event(event_id="e1", tenant_id="b", resource=Resource(id="x")),
        )
    ).results
    assert [one.outcome for one in results] == [ACCEPTED, ACCEPTED]


async def test_same_id_twice_in_a_request(service: Service) -> None:
    results = (await service.publish(event(event_id="e1"), event(event_id="e1"))).results
    assert [one.outcome for one in results] == [ACCEPTED, DUPLICATE]
    failure = await failure_of(
        service.publish(
            event(event_id="e2"), event(), event(event_id="e2", resource=Resource(id="x"))
        )
    )
    assert failure.violations == {"events[2].event_id": "FIELD_INVALID"}
    assert len(await service.stored()) == 1


async def test_a_thousand_events_are_accepted_and_one_more_is_not(service: Service) -> None:
    results = (await service.publish(*[event()] * 1000)).results
    assert len({one.event_id for one in results}) == 1000
    failure = await failure_of(service.publish(*[event()] * 1001))
    assert failure.violations == {"events": "FIELD_INVALID"}
    assert len(await service.stored()) == 1000


async def test_body_of_256_kib_is_accepted_and_one_byte_more_is_not(service: Service) -> None:
    (preview,) = (await service.publish(of_size(0, base=0), validate_only=True)).results
    base = len(preview.webhook_body)
    failure = await failure_of(service.publish(of_size(MAX_BODY_BYTES + 1, base=base)))
    assert failure.violations == {"events[0]": "TOO_LARGE"}
    assert failure.reason == "TOO_LARGE"
    assert failure.metadata == {"sizeBytes": "262145", "limitBytes": "262144"}
    assert await service.stored() == []
    await service.publish(of_size(MAX_BODY_BYTES, base=base))
    assert len(await service.stored()) == 1


async def test_request_beyond_4_mib_is_told_so(service: Service) -> None:
    big = event(account_connected=AccountConnected(integration="g", user_id="u" * 250_000))
    failure = await failure_of(service.publish(*[big] * 17))
    assert failure.code is INVALID
    assert failure.reason == "TOO_LARGE"
    assert failure.metadata["limitBytes"] == "4194304"
    assert int(failure.metadata["sizeBytes"]) > 4194304
    assert await service.stored() == []


async def test_request_beyond_the_transport_is_refused_by_grpc(service: Service) -> None:
    failure = await failure_of(service.raw("EventService/Publish", bytes(9 * 1024 * 1024)))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.details == []


async def test_types_that_are_not_there_are_refused(service: Service) -> None:
    failure = await failure_of(
        service.publish(
            event(custom=Custom(name="billing.invoice_paid")),
            event(custom=Custom(name="account.connected")),
        )
    )
    assert failure.violations == {
        "events[0].custom.name": "EVENT_TYPE_UNKNOWN",
        "events[1].custom.name": "EVENT_TYPE_MISMATCH",
    }
    failure = await failure_of(service.publish(event(custom=Custom(name="billing.invoice_paid"))))
    assert failure.reason == "EVENT_TYPE_UNKNOWN"
    assert failure.metadata == {"eventType": "billing.invoice_paid"}


async def test_trace_of_the_call_holds_for_events_without_one(service: Service) -> None:
    await service.subscribe()
    sent = [event(event_id="own", traceparent=OTHER_TRACE), event(event_id="none")]
    await service.publish(*sent, metadata=[("traceparent", TRACE)])
    traces = {one.event_id: one.traceparent for one in await service.stored()}
    assert traces == {"own": OTHER_TRACE, "none": TRACE}
    listed = (await service.deliveries.ListDeliveries(ListDeliveriesRequest())).deliveries
    assert {one.event_id: one.traceparent for one in listed} == traces


@pytest.mark.parametrize(
    "traceparent", ["nonsense", "00-" + "0" * 32 + "-" + "b" * 16 + "-01", TRACE + "0"]
)
async def test_malformed_trace_of_the_call_is_ignored(service: Service, traceparent: str) -> None:
    await service.publish(event(), metadata=[("traceparent", traceparent)])
    (stored,) = await service.stored()
    assert stored.traceparent == ""


async def test_a_request_is_one_line_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "signalpost"):
        await service.publish(*[event(tenant_id="acme", traceparent=TRACE)] * 20)
    (record,) = [one for one in caplog.records if one.message == "events accepted"]
    fields = vars(record)
    assert (fields["events"], fields["tenant_id"]) == (20, "acme")
    assert fields["trace_id"] == "a" * 32
    assert sum(one.name.startswith("signalpost.publishing") for one in caplog.records) == 1


async def test_events_are_listed_by_tenant_type_and_time(service: Service) -> None:
    await service.publish(event(event_id="a", tenant_id="t1"), event(event_id="b"))
    service.clock.move(timedelta(microseconds=1))
    changed = ToolListChanged(integration="g")
    await service.publish(event(event_id="c", tool_list_changed=changed))
    later = Timestamp()
    later.FromDatetime(START)
    later.nanos += 1

    async def listed(**fields: Any) -> list[str]:
        response = await service.events.ListEvents(ListEventsRequest(**fields))
        return [one.event_id for one in response.events]

    assert await listed() == ["c", "b"]
    assert await listed(tenant_id="t1") == ["a"]
    assert await listed(tenant_id="-") == ["c", "b", "a"]
    assert await listed(filter=EventFilter(event_types=["tool.*"])) == ["c"]
    assert await listed(start_time=later) == ["c"]
    assert await listed(end_time=later) == ["b"]


async def test_pages_follow_one_another_and_belong_to_their_query(service: Service) -> None:
    await service.publish(*[event(event_id=f"e{n}") for n in range(5)])
    request = ListEventsRequest(page_size=2)
    seen = []
    while True:
        page = await service.events.ListEvents(request)
        seen.append([one.event_id for one in page.events])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [name for names in seen for name in names] == ["e4", "e3", "e2", "e1", "e0"]
    assert max(map(len, seen)) == 2
    request.tenant_id = "acme"
    failure = await failure_of(service.events.ListEvents(request))
    assert failure.violations == {"page_token": "PAGE_TOKEN_INVALID"}


async def test_lists_fit_into_what_any_client_takes(service: Service) -> None:
    details = Struct()
    details.update({"samples": [1] * 90_000})
    alert = AnomalyAlert(kind="k", severity=AnomalyAlert.LOW, details=details)
    names = [f"e{number}" for number in range(8)]
    for name in names:
        await service.publish(event(event_id=name, anomaly_alert=alert))
    assert alert.ByteSize() * len(names) > 4 * 1024 * 1024
    request, seen = ListEventsRequest(page_size=1000), []
    while True:
        page = await service.events.ListEvents(request)
        seen += [one.event_id for one in page.events]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == names[::-1]


@pytest.mark.parametrize("text", ["a\x00b", "\u2028\U0001f600", "</script>\x7f"])
async def test_any_text_comes_back_as_it_was_sent(service: Service, text: str) -> None:
    details = Struct()
    details.update({text: [text]})
    alert = AnomalyAlert(kind=text, severity=AnomalyAlert.LOW, details=details)
    await service.publish(event(anomaly_alert=alert))
    (stored,) = await service.stored()
    assert stored.anomaly_alert == alert


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-03-05T06:07:08.10Z"]
)
async def test_any_time_comes_back_as_it_was_sent(service: Service, moment: str) -> None:
    timestamp = Timestamp()
    timestamp.FromJsonString(moment)
    await service.publish(event(timestamp=timestamp))
    (stored,) = await service.stored()
    assert stored.timestamp == timestamp


async def test_lists_may_be_bounded_by_the_first_and_last_time_there_are(
    service: Service,
) -> None:
    await service.publish(event())
    first = Timestamp(seconds=MIN_SECONDS)
    assert len((await service.events.ListEvents(ListEventsRequest(start_time=first))).events) == 1
    assert not (await service.events.ListEvents(ListEventsRequest(end_time=first))).events
    last = Timestamp(seconds=MAX_SECONDS, nanos=999_999_999)
    assert len((await service.events.ListEvents(ListEventsRequest(end_time=last))).events) == 1
    assert not (await service.events.ListEvents(ListEventsRequest(start_time=last))).events


@pytest.mark.parametrize("seconds", [-62_135_596_801, 253_402_300_800])
async def test_time_out_of_range_is_refused(service: Service, seconds: int) -> None:
    timestamp = Timestamp(seconds=seconds)
    failure = await failure_of(service.publish(event(timestamp=timestamp)))
    assert failure.violations == {"events[0].timestamp": "FIELD_INVALID"}
    request = ListEventsRequest(start_time=timestamp)
    failure = await failure_of(service.events.ListEvents(request))
    assert failure.violations == {"start_time": "FIELD_INVALID"}


async def test_event_of_another_tenant_is_like_a_missing_one(service: Service) -> None:
    await service.publish(event(event_id="e1", tenant_id="a"))
    foreign = GetEventRequest(event_id="e1", tenant_id="b")
    missing = GetEventRequest(event_id="e1")
    for request in (foreign, missing):
        failure = await failure_of(service.events.GetEvent(request))
        assert failure.code is grpc.StatusCode.NOT_FOUND
        assert failure.message == 'no event "e1"'
        assert failure.resource == ("event", "e1")
