"""The log of events, through a real channel."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.api.watching import WatchLimits
from signalpost.v1.event_pb2 import EventFilter, Resource
from signalpost.v1.event_service_pb2 import GetEventRequest, WatchEventsRequest, WatchEventsResponse
from signalpost.v1.payloads_pb2 import Custom
from tests.api.service import START, Service, event, failure_of, running
from tests.api.watch import Follower, eventually, first, following

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LIVELY = WatchLimits(streams=4, keep_alive=timedelta(milliseconds=20))


def numbered(count: int, *, first: int = 0) -> list[str]:
    return [f"e{number}" for number in range(first, first + count)]


async def publish(service: Service, *event_ids: str, tenant: str = "") -> None:
    await service.publish(*(event(event_id=one, tenant_id=tenant) for one in event_ids))


async def test_events_come_as_they_are_stored_and_as_get_event_shows_them(
    service: Service,
) -> None:
    await publish(service, "before")
    async with following(service) as follower:
        assert (follower.events, bool(follower.cursor)) == ([], True)
        await publish(service, "e1")
        response = await follower.read()
        await publish(service, "e2", "e3")
        assert await follower.until(3) == ["e1", "e2", "e3"]
    shown = await service.events.GetEvent(GetEventRequest(event_id="e1"))
    assert list(response.events) == [shown.event]


async def test_a_cursor_goes_on_where_it_was_given_out(service: Service) -> None:
    async with following(service) as follower:
        await publish(service, "e1", "e2")
        await follower.until(2)
    await publish(service, "e3")
    async with following(service, cursor=follower.cursor) as again:
        await publish(service, "e4")
        assert await again.until(2) == ["e3", "e4"]


async def test_much_comes_in_responses_that_any_client_takes_each_with_its_cursor(
    service: Service,
) -> None:
    await service.register("bulk.load", resource_type="account")
    data = ParseDict({"numbers": [1] * 30_000}, Struct())
    for name in numbered(6):
        await service.publish(event(event_id=name, custom=Custom(name="bulk.load", data=data)))
    cursor, got = "", list[str]()
    while len(got) < 6:
        request = WatchEventsRequest(cursor=cursor) if cursor else from_the_start()
        response = await first(service, request)
        assert 1 < len(response.events) < 6
        assert response.ByteSize() < 3 * 1024 * 1024
        got += [one.event_id for one in response.events]
        cursor = response.cursor
    assert got == numbered(6)


def from_the_start() -> WatchEventsRequest:
    return WatchEventsRequest(start_time=Timestamp(seconds=1))


async def test_start_time_begins_with_the_first_event_of_that_time(service: Service) -> None:
    for name in numbered(5):
        await publish(service, name)
        service.clock.move(timedelta(microseconds=300))
    start = Timestamp()
    start.FromDatetime(START + timedelta(microseconds=601))
    async with following(service, start_time=start) as follower:
        assert await follower.until(2) == ["e3", "e4"]


async def test_a_time_to_come_is_waited_for_also_with_the_cursor(tmp_path: Path) -> None:
    async with running(tmp_path, watch_limits=LIVELY) as service:
        start = Timestamp()
        start.FromDatetime(START + timedelta(hours=1))
        async with following(service, start_time=start) as follower:
            await publish(service, "early")
            await follower.read()
        async with following(service, cursor=follower.cursor) as again:
            service.clock.move(timedelta(hours=1))
            await publish(service, "timely")
            assert await again.until(1) == ["timely"]
        assert follower.events == []


async def test_tenant_and_filter_choose(service: Service) -> None:
    chosen = EventFilter(event_types=["account.*"], resource_ids=["acc_1"])
    async with (
        following(service, tenant_id="acme", filter=chosen) as of_one,
        following(service, tenant_id="-") as of_all,
    ):
        await publish(service, "e1", tenant="acme")
        await publish(service, "e2", tenant="emca")
        other = event(event_id="e3", tenant_id="acme", resource=Resource(id="acc_2"))
        await service.publish(other)
        await publish(service, "e4", tenant="acme")
        assert await of_one.until(2) == ["e1", "e4"]
        assert await of_all.until(4) == numbered(4, first=1)


async def test_the_filter_may_change_with_a_cursor_and_the_tenant_may_not(
    service: Service,
) -> None:
    async with following(service, tenant_id="acme") as follower:
        pass
    await publish(service, "e1", tenant="acme")
    other = EventFilter(event_types=["account.connected"])
    of_acme = {"tenant_id": "acme", "cursor": follower.cursor}
    async with following(service, **of_acme, filter=other) as again:
        assert await again.until(1) == ["e1"]
    for tenant in ("", "-", "emca"):
        request = WatchEventsRequest(tenant_id=tenant, cursor=follower.cursor)
        failure = await failure_of(service.events.WatchEvents(request).read())
        assert failure.code is INVALID
        assert failure.violations == {"cursor": "PAGE_TOKEN_INVALID"}


@pytest.mark.parametrize("cursor", ["made-up", "AAAA", "1", "ä", "x" * 500])
async def test_a_cursor_that_was_not_given_out_is_refused(service: Service, cursor: str) -> None:
    call = service.events.WatchEvents(WatchEventsRequest(cursor=cursor))
    failure = await failure_of(call.read())
    assert (failure.code, failure.reason) == (INVALID, "PAGE_TOKEN_INVALID")


async def test_keep_alives_move_the_cursor_past_what_was_not_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path, watch_limits=LIVELY) as service:
        async with following(service, tenant_id="quiet") as follower:
            first = follower.cursor
            await publish(service, "e1", tenant="loud")
            while follower.cursor == first:
                response = await follower.read()
                assert not response.events
            await publish(service, "e2", tenant="quiet")
            assert await follower.until(1) == ["e2"]
        async with following(service, tenant_id="quiet", cursor=first) as again:
            assert await again.until(1) == ["e2"]


async def test_streams_are_bounded_and_half_of_them_are_for_one_tenant(tmp_path: Path) -> None:
    async with (
        running(tmp_path, watch_limits=LIVELY) as service,
        following(service, tenant_id="a"),
        following(service, tenant_id="a") as last,
    ):
        call = service.events.WatchEvents(WatchEventsRequest(tenant_id="a"))
        failure = await failure_of(call.read())
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.reason == "QUOTA_EXCEEDED"
        async with following(service, tenant_id="b"), following(service, tenant_id="c"):
            call = service.events.WatchEvents(WatchEventsRequest(tenant_id="d"))
            assert (await failure_of(call.read())).reason == "QUOTA_EXCEEDED"
            await publish(service, "unary-calls-go-on")
        last.call.cancel()
        await joined(service, "a")
        await joined(service, "d")


async def joined(service: Service, tenant_id: str) -> WatchEventsResponse:
    """Open a stream as soon as those that were cancelled have made room."""
    while True:
        call = service.events.WatchEvents(WatchEventsRequest(tenant_id=tenant_id))
        with suppress(grpc.aio.AioRpcError):
            return await Follower(call).read()
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_server_that_drains_ends_streams_so_that_clients_come_back(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(service) as follower:
        await publish(service, "e1")
        await follower.until(1)
        draining = asyncio.create_task(service.server.drain(timedelta(seconds=60)))
        failure = await failure_of(follower.call.read())
        await draining
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
    assert not [one for one in caplog.records if one.message == "call failed"]


async def test_a_client_that_leaves_leaves_nothing_behind(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(20):
        async with following(service) as follower:
            pass
        with pytest.raises(asyncio.CancelledError):
            await follower.call.read()
    await eventually(
        lambda: not service.store.watching._news._hints and len(asyncio.all_tasks()) <= before
    )
    assert not caplog.records
