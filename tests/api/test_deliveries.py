from datetime import timedelta

import grpc
import pytest

from signalpost.domain.delivery import Attempt
from signalpost.domain.outcome import AttemptResult, Outcome, Timings
from signalpost.domain.verdict import RetryAt, Succeed, Verdict
from signalpost.ports import AttemptRecord, Pick
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest, ListDeliveriesRequest
from signalpost.v1.event_pb2 import EventFilter, Resource
from tests.api.service import START, Service, event, failure_of

REFUSED = AttemptResult(
    outcome=Outcome.REJECTED,
    latency=timedelta(milliseconds=12),
    timings=Timings(write=timedelta(microseconds=300), wait=timedelta(milliseconds=11)),
    status_code=503,
    response_body=b"down \xff",
    response_truncated=True,
    error_code="HTTP_503",
    error_message="the endpoint answered 503",
    remote_address="198.41.0.4:443",
)
TAKEN = AttemptResult(outcome=Outcome.SUCCEEDED, latency=timedelta(milliseconds=5), status_code=204)
FORBIDDEN = AttemptResult(
    outcome=Outcome.FORBIDDEN,
    latency=timedelta(0),
    error_code="PRIVATE",
    error_message="10.1.2.3 is private",
    remote_address="10.1.2.3:443",
)


async def attempt(service: Service, result: AttemptResult, verdict: Verdict) -> None:
    """Let the one delivery that is due be attempted with this result."""
    assert await attempt_all(service, result, verdict) == 1


async def attempt_all(service: Service, result: AttemptResult, verdict: Verdict) -> int:
    """Let the first delivery of each lane be attempted with this result."""
    now = service.clock.now()
    picks = [Pick(backlog.lane.lane_id, 1) for backlog in await service.store.backlogs()]
    until = now + timedelta(minutes=1)
    leases = await service.store.claim(picks, now=now, lease_until=until)
    for lease in leases:
        made = Attempt(number=lease.number, trigger=lease.trigger, start_time=now, result=result)
        record = AttemptRecord(lease=lease, attempt=made, verdict=verdict)
        assert await service.store.record(record, now=now)
    return len(leases)


async def listed(service: Service, request: ListDeliveriesRequest) -> list[Delivery]:
    return list((await service.deliveries.ListDeliveries(request)).deliveries)


async def get(service: Service, name: str) -> Delivery:
    request = GetDeliveryRequest(delivery_id=name)
    return (await service.deliveries.GetDelivery(request)).delivery


async def test_delivery_is_shown_from_waiting_to_taken(service: Service) -> None:
    await service.subscribe(subscription_id="crm", tenant_id="acme")
    await service.publish(event(event_id="e1", tenant_id="acme"))
    (waiting,) = await listed(service, ListDeliveriesRequest(tenant_id="acme"))
    assert waiting.state == Delivery.PENDING
    assert (waiting.event_id, waiting.subscription_id, waiting.tenant_id) == ("e1", "crm", "acme")
    assert waiting.event_type_name == "account.connected"
    assert waiting.resource == Resource(type="account", id="acc_1")
    assert waiting.next_attempt_time == waiting.create_time
    assert not waiting.HasField("last_attempt")

    await attempt(service, REFUSED, RetryAt(START + timedelta(seconds=5)))
    service.clock.move(timedelta(seconds=5))
    await attempt(service, TAKEN, Succeed())
    taken = await get(service, waiting.delivery_id)
    assert (taken.state, taken.attempt_count) == (Delivery.SUCCEEDED, 2)
    assert not taken.HasField("next_attempt_time")
    assert taken.end_time.ToDatetime() == (START + timedelta(seconds=5)).replace(tzinfo=None)
    first, second = taken.attempts
    assert (first.number, first.outcome, first.trigger) == (
        1,
        DeliveryAttempt.REJECTED,
        DeliveryAttempt.SCHEDULED,
    )
    assert (first.status_code, first.response_body, first.response_truncated) == (
        503,
        "down \ufffd",
        True,
    )
    assert first.remote_address == "198.41.0.4:443"
    assert first.latency.ToMilliseconds() == 12
    assert first.timings.wait.ToMilliseconds() == 11
    assert not first.timings.HasField("dns")
    assert taken.last_attempt == second


async def test_lists_show_the_last_attempt_alone(service: Service) -> None:
    await service.subscribe()
    await service.publish(event())
    await attempt(service, REFUSED, RetryAt(START))
    (one,) = await listed(service, ListDeliveriesRequest())
    assert one.last_attempt.outcome == DeliveryAttempt.REJECTED
    assert not one.attempts


async def test_nothing_is_told_of_a_forbidden_address(service: Service) -> None:
    await service.subscribe()
    await service.publish(event())
    await attempt(service, FORBIDDEN, RetryAt(START))
    (one,) = await listed(service, ListDeliveriesRequest())
    assert one.last_attempt.outcome == DeliveryAttempt.FORBIDDEN
    for text in ("PRIVATE", "10.1.2.3"):
        assert text not in str(await get(service, one.delivery_id))


async def test_deliveries_are_found_by_what_is_asked_for(service: Service) -> None:
    await service.subscribe(subscription_id="a")
    await service.subscribe(subscription_id="b")
    await service.publish(event(event_id="e1"), event(event_id="e2", resource=Resource(id="x")))

    async def found(request: ListDeliveriesRequest) -> set[tuple[str, str]]:
        return {(one.subscription_id, one.event_id) for one in await listed(service, request)}

    everything = {("a", "e1"), ("a", "e2"), ("b", "e1"), ("b", "e2")}
    assert await found(ListDeliveriesRequest()) == everything
    assert await found(ListDeliveriesRequest(subscription_id="a", event_id="e2")) == {("a", "e2")}
    assert await found(ListDeliveriesRequest(states=[Delivery.FAILED])) == set()
    by_resource = EventFilter(resource_ids=["x"])
    assert await found(ListDeliveriesRequest(filter=by_resource)) == {("a", "e2"), ("b", "e2")}


async def test_pages_of_deliveries_follow_one_another(service: Service) -> None:
    await service.subscribe()
    await service.publish(*[event(event_id=f"e{n}") for n in range(3)])
    request = ListDeliveriesRequest(page_size=2)
    first = await service.deliveries.ListDeliveries(request)
    request.page_token = first.next_page_token
    second = await service.deliveries.ListDeliveries(request)
    pages = [[one.event_id for one in page.deliveries] for page in (first, second)]
    assert pages == [["e2", "e1"], ["e0"]]
    request.event_id = "e0"
    failure = await failure_of(service.deliveries.ListDeliveries(request))
    assert failure.violations == {"page_token": "PAGE_TOKEN_INVALID"}


@pytest.mark.parametrize("name", ["dlv_0000000000001", "dlv_", "nonsense"])
async def test_unknown_delivery_is_not_found(service: Service, name: str) -> None:
    failure = await failure_of(get(service, name))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.resource == ("delivery", name)
