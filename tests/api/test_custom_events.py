"""Events of registered types: checked as the catalogue says, delivered and read back as sent."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.v1.event_pb2 import Event, EventFilter, Resource
from signalpost.v1.event_service_pb2 import (
    GetEventRequest,
    PublishResult,
    PublishStreamRequest,
    PublishStreamResponse,
)
from signalpost.v1.event_type_service_pb2 import (
    DeleteEventTypeRequest,
    EventType,
    UpdateEventTypeRequest,
)
from signalpost.v1.payloads_pb2 import Custom
from tests.api.service import Service, event, failure_of

GOLDEN = Path(__file__).parent / "golden" / "custom.jsonl"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NAME = "billing.invoice_paid"


def struct(**values: Any) -> Struct:
    return ParseDict(values, Struct())


SCHEMA = struct(
    type="object",
    required=["amount"],
    properties={
        "amount": {"type": "integer"},
        "lines": {"items": {"properties": {"sku": {"pattern": "^[A-Z]+-[0-9]+$"}}}},
    },
)


def custom(data: dict[str, Any] | None = None, /, *, name: str = NAME, **fields: Any) -> Event:
    payload = Custom(name=name, data=None if data is None else struct(**data))
    return event(custom=payload, **fields)


async def read_back(service: Service, event_id: str) -> Event:
    return (await service.events.GetEvent(GetEventRequest(event_id=event_id))).event


async def test_custom_event_has_the_golden_body_and_is_read_back_as_it_was_sent(
    service: Service,
) -> None:
    await service.register(NAME, resource_type="invoice", schema=SCHEMA)
    data = {
        "lines": [{"sku": "AB-1", "price": 9.5}, {"note": 'Zoë said "no".', "sku": "C-2"}],
        "amount": 42,
        "paid": True,
        "memo": None,
        "by": {"z": 1, "a": {}},
    }
    sent = [custom(event_id="e1"), custom(data, event_id="e2", resource=Resource(id="inv_7"))]
    sent[0].custom.data.CopyFrom(struct(amount=0))
    for one in sent:
        one.timestamp.CopyFrom(Timestamp(seconds=1772690828, nanos=900_000_000))
    previews = (await service.publish(*sent, validate_only=True)).results
    assert [one.webhook_body for one in previews] == GOLDEN.read_text("utf-8").splitlines()
    await service.publish(*sent)
    for one in sent:
        read = await read_back(service, one.event_id)
        assert read.custom == one.custom
        assert (read.event_type, read.event_type_name) == (Event.CUSTOM, NAME)
        assert (read.resource.type, read.resource.id) == ("invoice", one.resource.id)
        assert read.timestamp == one.timestamp
    assert [one.event_id for one in await service.stored()] == ["e2", "e1"]


async def test_custom_event_without_data_has_an_empty_payload(service: Service) -> None:
    await service.register(NAME, resource_type="invoice")
    for at, sent in enumerate((custom(), custom({}))):
        sent.event_id = f"e{at}"
        [preview] = (await service.publish(sent, validate_only=True)).results
        assert preview.webhook_body.endswith(',"payload":{}}')
        await service.publish(sent)
        assert (await read_back(service, sent.event_id)).custom == Custom(name=NAME)


async def test_custom_event_reaches_the_subscriptions_of_its_type(service: Service) -> None:
    await service.register(NAME, resource_type="invoice")
    await service.register("billing.other", resource_type="invoice")
    for at, chosen in enumerate([NAME, "billing.*", "billing.other", "account.*"]):
        await service.subscribe(subscription_id=f"s{at}", filter=EventFilter(event_types=[chosen]))
    [result] = (await service.publish(custom())).results
    assert result.delivery_count == 2


async def test_payload_against_its_schema_is_refused_by_its_places(service: Service) -> None:
    await service.register(NAME, resource_type="invoice", schema=SCHEMA)
    wrong = custom({"amount": "secret-7f3a", "lines": [{"sku": "A-1"}, {"sku": "a"}]})
    failure = await failure_of(service.publish(event(), wrong, custom({})))
    assert failure.code is INVALID
    assert failure.violations == {
        'events[1].custom.data["amount"]': "PAYLOAD_INVALID",
        'events[1].custom.data["lines"][1]["sku"]': "PAYLOAD_INVALID",
        "events[2].custom.data": "PAYLOAD_INVALID",
    }
    assert (failure.reason, failure.metadata) == ("PAYLOAD_INVALID", {"eventType": NAME})
    assert b"secret-7f3a" not in failure.raw
    assert await service.stored() == []


async def test_stream_refuses_what_is_against_its_schema_in_its_place(service: Service) -> None:
    await service.register(NAME, resource_type="invoice", schema=SCHEMA)
    call = service.events.PublishStream()
    await call.write(PublishStreamRequest(events=[custom({}), custom({"amount": 1})]))
    response = await call.read()
    await call.done_writing()
    assert isinstance(response, PublishStreamResponse)
    refused, taken = response.items
    [violation] = refused.error.violations
    assert (violation.field, dict(refused.error.metadata)) == ("custom.data", {"eventType": NAME})
    assert taken.result.outcome == PublishResult.ACCEPTED
    assert len(await service.stored()) == 1


async def test_resource_type_is_that_of_the_registered_type_unless_set(service: Service) -> None:
    await service.register(NAME, resource_type="invoice")
    plain, own = (
        custom(event_id="e1"),
        custom(event_id="e2", resource=Resource(type="bill", id="b")),
    )
    await service.publish(plain, own)
    assert (await read_back(service, "e1")).resource.type == "invoice"
    assert (await read_back(service, "e2")).resource.type == "bill"
    filled = custom(event_id="e1", resource=Resource(type="invoice", id=plain.resource.id))
    [again] = (await service.publish(filled)).results
    assert again.outcome == PublishResult.DUPLICATE


async def test_resource_type_is_required_where_the_registered_type_has_none(
    service: Service,
) -> None:
    await service.register(NAME)
    failure = await failure_of(service.publish(custom()))
    assert failure.violations == {"events[0].resource.type": "FIELD_INVALID"}
    await service.publish(custom(resource=Resource(type="invoice", id="i")))


async def test_everything_wrong_with_custom_events_is_told_at_once(service: Service) -> None:
    await service.register(NAME, schema=SCHEMA)
    failure = await failure_of(
        service.publish(custom({}), custom(name="billing.unknown"), event(event_id="not ok"))
    )
    assert failure.violations == {
        "events[2].event_id": "FIELD_INVALID",
        "events[0].resource.type": "FIELD_INVALID",
        "events[0].custom.data": "PAYLOAD_INVALID",
        "events[1].custom.name": "EVENT_TYPE_UNKNOWN",
    }


async def test_change_of_a_schema_holds_from_the_next_event_on(service: Service) -> None:
    await service.register(NAME, resource_type="invoice")
    await service.publish(custom({}, event_id="e1"))
    stricter = EventType(name=NAME, schema=SCHEMA)
    await service.event_types.UpdateEventType(UpdateEventTypeRequest(event_type=stricter))
    assert (await failure_of(service.publish(custom({})))).reason == "PAYLOAD_INVALID"
    [again] = (await service.publish(custom({"amount": 1}, event_id="e2"))).results
    assert again.outcome == PublishResult.ACCEPTED
    await service.event_types.UpdateEventType(
        UpdateEventTypeRequest(
            event_type=EventType(name=NAME), update_mask=FieldMask(paths=["schema"])
        )
    )
    await service.publish(custom({}))


async def test_events_of_a_deleted_type_stay_and_no_more_are_taken(service: Service) -> None:
    await service.register(NAME, resource_type="invoice")
    await service.publish(custom({"amount": 1}, event_id="e1"))
    await service.event_types.DeleteEventType(DeleteEventTypeRequest(name=NAME))
    assert (await read_back(service, "e1")).custom.data == struct(amount=1)
    failure = await failure_of(service.publish(custom()))
    assert (failure.reason, failure.metadata) == ("EVENT_TYPE_UNKNOWN", {"eventType": NAME})


async def test_deprecated_type_is_taken_with_one_warning_an_hour(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def warned() -> list[Any]:
        return [
            record.__dict__["event_type"]
            for record in caplog.records
            if record.message == "deprecated event type published"
        ]

    await service.register(NAME, resource_type="invoice", deprecated=True)
    await service.register("billing.other", resource_type="invoice", deprecated=True)
    await service.register("billing.current", resource_type="invoice")
    with caplog.at_level(logging.INFO, "signalpost.publishing"):
        await service.publish(custom(), custom(), custom(name="billing.current"), event())
        await service.publish(custom())
        assert warned() == [NAME]
        await service.publish(custom(name="billing.other"))
        service.clock.move(timedelta(hours=1))
        await service.publish(custom())
    assert warned() == [NAME, "billing.other", NAME]
    assert len(await service.stored()) == 7


async def test_filter_may_name_registered_types_only(service: Service) -> None:
    chosen = EventFilter(event_types=["account.connected", NAME, "anything.*"])
    failure = await failure_of(service.subscribe(filter=chosen))
    assert failure.violations == {"subscription.filter.event_types[1]": "EVENT_TYPE_UNKNOWN"}
    malformed = EventFilter(event_types=["Account.Connected", "*"])
    failure = await failure_of(service.subscribe(filter=malformed))
    paths = [f"subscription.filter.event_types[{at}]" for at in (0, 1)]
    assert failure.violations == dict.fromkeys(paths, "FIELD_INVALID")
    await service.register(NAME)
    made = await service.subscribe(filter=chosen)
    assert NAME in made.subscription.filter.event_types
