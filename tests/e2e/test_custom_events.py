"""Events of registered types through the real service, and past its restart."""

import grpc
import pytest

from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.event_service_pb2 import GetEventRequest
from signalpost.v1.event_type_service_pb2 import CreateEventTypeRequest, EventType
from signalpost.v1.event_type_service_pb2_grpc import EventTypeServiceStub
from signalpost.v1.payloads_pb2 import Custom
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service

NAME = "billing.invoice_paid"


def paid(**data: str | int) -> Event:
    event = Event(event_id="evt_1", resource=Resource(id="inv_7"), custom=Custom(name=NAME))
    event.custom.data.update(data)
    event.timestamp.FromJsonString("2026-03-05T06:07:08.900Z")
    return event


async def test_custom_event_arrives_as_its_type_was_registered_before_a_kill(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    secret = await service.subscribe(receiver.url("/hook"), event_types=["billing.*"])
    event_type = EventType(name=NAME, resource_type="invoice")
    event_type.schema.update({"required": ["amount"]})
    types = EventTypeServiceStub(service.channel)
    await types.CreateEventType(CreateEventTypeRequest(event_type=event_type))
    await service.kill()
    await service.start()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await service.publish(paid(total=1))
    assert "amount" in (refusal.value.details() or "")
    await service.publish(paid(amount=42, note="Zoë"))
    await service.drained()
    [request] = receiver.requests
    request.verify(secret)
    assert request.body.decode() == (
        '{"event_id":"evt_1","event_type":"billing.invoice_paid",'
        '"timestamp":"2026-03-05T06:07:08.900Z","resource":{"type":"invoice","id":"inv_7"},'
        '"payload":{"amount":42,"note":"Zoë"}}'
    )
    read = await service.events.GetEvent(GetEventRequest(event_id="evt_1"))
    assert read.event.custom == paid(amount=42, note="Zoë").custom
