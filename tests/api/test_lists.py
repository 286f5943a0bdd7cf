"""What holds for every list: its tokens are of this query only, and it stays what it was."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from signalpost.domain.catalogue import RESOURCE_TYPES
from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.event_service_pb2 import ListEventsRequest
from signalpost.v1.event_type_service_pb2 import EventType, ListEventTypesRequest
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.subscription_service_pb2 import ListSubscriptionsRequest
from tests.api.service import Service, event, failure_of

ITEMS = 30
INSERTED = 200

Insert = Callable[[Service, int, int], Awaitable[object]]


async def insert_events(service: Service, first: int, last: int) -> None:
    await service.publish(*[event(event_id=f"e{n}") for n in range(first, last)])


async def insert_subscriptions(service: Service, first: int, last: int) -> None:
    for number in range(first, last):
        # Some come before, some after those that are there.
        await service.subscribe(subscription_id=f"{'amz'[number % 3]}-{number}")


async def insert_event_types(service: Service, first: int, last: int) -> None:
    for number in range(first, last):
        await service.register(f"{'anz'[number % 3]}.n{number}")


async def insert_deliveries(service: Service, first: int, last: int) -> None:
    if not first:
        await service.subscribe(subscription_id="s")
    await insert_events(service, first, last)


def list_events(service: Service, request: Any) -> Any:
    return service.events.ListEvents(request)


def list_event_types(service: Service, request: Any) -> Any:
    return service.event_types.ListEventTypes(request)


def list_subscriptions(service: Service, request: Any) -> Any:
    return service.subscriptions.ListSubscriptions(request)


def list_deliveries(service: Service, request: Any) -> Any:
    return service.deliveries.ListDeliveries(request)


LISTS = [
    pytest.param(ListEventsRequest, list_events, "events", insert_events, id="events"),
    pytest.param(
        ListEventTypesRequest,
        list_event_types,
        "event_types",
        insert_event_types,
        id="event types",
    ),
    pytest.param(
        ListSubscriptionsRequest,
        list_subscriptions,
        "subscriptions",
        insert_subscriptions,
        id="subscriptions",
    ),
    pytest.param(
        ListDeliveriesRequest, list_deliveries, "deliveries", insert_deliveries, id="deliveries"
    ),
]
every_list = pytest.mark.parametrize(("kind", "fetch", "items", "insert"), LISTS)


def name(item: Any) -> str:
    if isinstance(item, Subscription):
        return item.subscription_id
    if isinstance(item, EventType):
        return item.name
    return str(getattr(item, "delivery_id", None) or item.event_id)


@every_list
async def test_a_list_read_while_much_is_inserted_misses_and_repeats_nothing(
    service: Service, kind: Any, fetch: Any, items: str, insert: Insert
) -> None:
    await insert(service, 0, ITEMS)
    old = {name(one) for one in getattr(await fetch(service, kind(page_size=1000)), items)}
    assert len(old) == ITEMS + (len(RESOURCE_TYPES) if kind is ListEventTypesRequest else 0)
    request, seen, inserted = kind(page_size=7), [], ITEMS
    while True:
        page = await fetch(service, request)
        seen += [name(one) for one in getattr(page, items)]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        if inserted < INSERTED + ITEMS:
            await insert(service, inserted, inserted + INSERTED // 4)
            inserted += INSERTED // 4
    assert inserted == INSERTED + ITEMS
    assert len(seen) == len(set(seen))
    assert old <= set(seen)


@every_list
async def test_a_token_that_was_not_given_out_for_a_list_is_refused(
    service: Service, kind: Any, fetch: Any, items: str, insert: Insert
) -> None:
    await insert(service, 0, ITEMS)
    token = (await fetch(service, kind(page_size=7))).next_page_token
    assert len(getattr(await fetch(service, kind(page_size=9, page_token=token)), items)) == 9
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    forged = [raw[:-1] + bytes([raw[-1] ^ 1]), bytes([raw[0] ^ 1]) + raw[1:], raw + b"0", raw[:16]]
    tokens = [base64.urlsafe_b64encode(one).decode().rstrip("=") for one in forged]
    for wrong in (*tokens, "nonsense", "é", "A" * 4096):
        await refused(fetch(service, kind(page_token=wrong)))
    if kind is not ListEventTypesRequest:
        for tenant_id in ("other", "-"):
            await refused(fetch(service, kind(page_token=token, tenant_id=tenant_id)))
    if kind is not ListEventsRequest:
        await refused(list_events(service, ListEventsRequest(page_token=token)))
    if kind is not ListDeliveriesRequest:
        await refused(list_deliveries(service, ListDeliveriesRequest(page_token=token)))


async def test_a_token_belongs_to_the_filters_of_its_query(service: Service) -> None:
    await insert_deliveries(service, 0, ITEMS)
    deliveries = await list_deliveries(service, ListDeliveriesRequest(page_size=7))
    narrower = ListDeliveriesRequest(page_token=deliveries.next_page_token, subscription_id="s")
    await refused(list_deliveries(service, narrower))
    events = await list_events(service, ListEventsRequest(page_size=7))
    other = ListEventsRequest(page_token=events.next_page_token)
    other.filter.event_types.append("account.*")
    await refused(list_events(service, other))


@pytest.mark.parametrize("kind", [ListEventsRequest, ListDeliveriesRequest])
async def test_a_list_of_a_period_that_ends_before_it_begins_is_refused(
    service: Service, kind: Any
) -> None:
    request = kind(start_time={"seconds": 2}, end_time={"seconds": 1})
    fetch = list_events if kind is ListEventsRequest else list_deliveries
    failure = await failure_of(fetch(service, request))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.message == "end_time: must be after start_time"


async def refused(call: Awaitable[object]) -> None:
    failure = await failure_of(call)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.violations == {"page_token": "PAGE_TOKEN_INVALID"}
