"""What is wrong with an event is told at once, in whichever way it is published."""

import pytest

from signalpost.v1.errors_pb2 import ErrorReason
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import PublishStreamRequest
from signalpost.v1.payloads_pb2 import Custom, SubscriptionSuspended
from tests.api.service import Service, event, failure_of


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            event(subscription_suspended=SubscriptionSuspended()),
            {
                "subscription_suspended.reason": "FIELD_INVALID",
                "subscription_suspended": "EVENT_TYPE_RESERVED",
            },
        ),
        (
            event(event_id="not ok", custom=Custom(name="no.such")),
            {"event_id": "FIELD_INVALID", "custom.name": "EVENT_TYPE_UNKNOWN"},
        ),
        (
            event(event_id="not ok", custom=Custom(name="No such")),
            {"event_id": "FIELD_INVALID", "custom.name": "FIELD_INVALID"},
        ),
        (
            event(event_id="not ok", custom=Custom(name="webhook.test")),
            {"event_id": "FIELD_INVALID", "custom.name": "EVENT_TYPE_MISMATCH"},
        ),
    ],
)
async def test_what_is_wrong_with_the_type_is_told_beside_what_is_with_the_shape(
    service: Service, sent: Event, expected: dict[str, str]
) -> None:
    failure = await failure_of(service.publish(event(), sent))
    assert failure.violations == {f"events[1].{path}": one for path, one in expected.items()}
    stream = service.events.PublishStream(iter([PublishStreamRequest(events=[event(), sent])]))
    [response] = [one async for one in stream]
    error = response.items[1].error
    found = {one.field: ErrorReason.Name(one.reason) for one in error.violations}
    assert found == expected
    assert len(await service.stored()) == 1
