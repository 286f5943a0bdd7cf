"""What bounds a call: deadlines, cancellation, metadata."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from signalpost.api import boundary
from signalpost.api.intake import CALL_BYTES
from signalpost.v1.event_service_pb2 import (
    ListEventsRequest,
    PublishRequest,
    PublishResult,
    PublishStreamRequest,
)
from tests.api.service import PLENTY, Service, event, failure_of, running
from tests.api.watch import eventually
from tests.contract.sqlite_file import look
from tests.contract.writing import held_writer

DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
EVENTS = [event(event_id=f"e{n}") for n in range(3)]


async def stored_ids(service: Service) -> set[str]:
    return {one.event_id for one in await service.stored()}


@pytest.mark.parametrize("deadline", [None, 1e9])
async def test_call_without_a_deadline_that_counts_ends_at_that_of_the_server(
    service: Service, monkeypatch: pytest.MonkeyPatch, deadline: float | None
) -> None:
    monkeypatch.setattr(boundary, "CEILING_SECONDS", 0.05)
    async with held_writer(service.store):
        call = service.events.Publish(PublishRequest(events=EVENTS), timeout=deadline)
        failure = await failure_of(call)
    assert failure.code is DEADLINE_EXCEEDED
    assert failure.message == "the call took longer than the 0.05 s that the server gives it"
    assert failure.details == []
    monkeypatch.undo()
    outcomes = {one.outcome for one in (await service.publish(*EVENTS)).results}
    assert len(outcomes) == 1
    assert len(await service.stored()) == 3


async def test_thousands_of_calls_at_once_are_all_answered(service: Service) -> None:
    requests = [PublishRequest(events=[event(event_id=f"e{n}")]) for n in range(4000)]
    responses = await asyncio.gather(*map(service.events.Publish, requests))
    assert [one.results[0].event_id for one in responses] == [f"e{n}" for n in range(4000)]


async def test_small_calls_that_there_is_no_memory_for_are_refused(tmp_path: Path) -> None:
    little = replace(PLENTY, request_bytes=2 * 10 * CALL_BYTES)
    async with running(tmp_path, share=little) as service:
        async with held_writer(service.store) as held:
            calls = [asyncio.ensure_future(service.publish(event())) for _ in range(9)]
            await held.submitted(9)
            failure = await failure_of(service.publish(event()))
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
            assert not any(call.done() for call in calls)
        await asyncio.gather(*calls)
        await service.publish(event())


@pytest.mark.parametrize("method", ["Publish", "WatchEvents"])
async def test_call_whose_request_does_not_come_ends_at_that_deadline(
    service: Service, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(boundary, "CEILING_SECONDS", 0.05)
    kind: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    kind = service.channel.stream_stream(f"/signalpost.v1.EventService/{method}")
    failure = await failure_of(kind().read())
    assert failure.code is DEADLINE_EXCEEDED
    assert failure.message == "the call took longer than the 0.05 s that the server gives it"


async def test_deadline_of_the_client_ends_the_call(service: Service) -> None:
    async with held_writer(service.store):
        call = service.events.Publish(PublishRequest(events=EVENTS), timeout=0.001)
        assert (await failure_of(call)).code is DEADLINE_EXCEEDED
    await service.publish(*EVENTS)
    assert len(await service.stored()) == 3


def test_calls_that_contact_an_endpoint_or_change_much_have_four_times_as_long() -> None:
    assert boundary.CEILING_SECONDS == 10
    assert set(boundary.CEILINGS_SECONDS.values()) == {40}
    long = {"TestSubscription", "ReplayDeliveries", "CancelDeliveries"}
    assert long <= set(boundary.CEILINGS_SECONDS)


async def test_streams_outlast_that_deadline(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundary, "CEILING_SECONDS", 0.01)
    call = service.events.PublishStream()
    async with held_writer(service.store):
        await call.write(PublishStreamRequest(events=EVENTS))
        reading = asyncio.ensure_future(call.read())
        # A call that began later ends meanwhile.
        assert (await failure_of(service.publish(event()))).code is DEADLINE_EXCEEDED
        assert not reading.done()
    assert await reading
    call.cancel()


@pytest.mark.parametrize("begun", [False, True])
async def test_call_cancelled_at_the_store_leaves_nothing_or_all_and_then_tells_the_lanes(
    service: Service, *, begun: bool
) -> None:
    await service.subscribe()
    async with held_writer(service.store) as held:
        call = service.events.Publish(PublishRequest(events=EVENTS))
        await held.submitted(1)
        caller = held.caller()
        if begun:
            await held.begin_those_who_wait()
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await eventually(caller.cancelled)
    await service.store.check_writable()
    assert await stored_ids(service) == ({"e0", "e1", "e2"} if begun else set())
    assert [len(lanes) for lanes, _ in service.lanes.noticed] == [1] * begun
    results = (await service.publish(*EVENTS)).results
    expected = PublishResult.DUPLICATE if begun else PublishResult.ACCEPTED
    assert {one.outcome for one in results} == {expected}


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_call_cancelled_anywhere_leaves_all_or_nothing(service: Service, turns: int) -> None:
    await service.subscribe()
    call = service.events.Publish(PublishRequest(events=EVENTS))
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    await service.store.check_writable()
    assert await stored_ids(service) in (set(), {"e0", "e1", "e2"})
    results = (await service.publish(*EVENTS)).results
    assert {one.delivery_count for one in results} == {1}
    assert len(await service.stored()) == 3


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_calls_cancelled_anywhere_leave_no_transaction_open(
    service: Service, tmp_path: Path, turns: int
) -> None:
    """Of all that hold a connection: what waits for one, what reads and what writes."""
    calls = [
        call
        for number in range(8)
        for call in (
            service.events.Publish(PublishRequest(events=[event(event_id=f"e{number}")])),
            service.events.Publish(PublishRequest(events=EVENTS, validate_only=True)),
            service.events.ListEvents(ListEventsRequest(tenant_id="-")),
        )
    ]
    for _ in range(turns):
        await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await service.publish(*EVENTS)
    await asyncio.gather(*(service.stored() for _ in range(8)))
    # Busy is what it is beside a transaction that reads or writes, or while the store itself
    # brings its log home: that passes.
    async with asyncio.timeout(10):
        await eventually(lambda: not _is_busy(tmp_path / "test.db"))


def _is_busy(path: Path) -> bool:
    [(busy, _, _)] = look(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    return bool(busy)


Metadata = Sequence[tuple[str, str | bytes]]


@pytest.mark.parametrize(
    "metadata",
    [[("x-large", "v" * 20_000)], [(f"x-{n}", "v" * 40) for n in range(500)]],
    ids=["one value", "500 keys"],
)
async def test_metadata_beyond_16_kib_is_refused_and_the_server_lives(
    service: Service, metadata: Metadata
) -> None:
    failure = await failure_of(service.publish(event(), metadata=metadata))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.details == []
    await service.publish(event(event_id="next"))
    assert await stored_ids(service) == {"next"}


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Bearer a")],
        [("x-opaque-bin", b"\xff\x00")],
        [("traceparent", "00-" + "a" * 32), ("traceparent", "nonsense")],
    ],
    ids=["a credential", "binary", "two traces"],
)
async def test_metadata_that_means_nothing_here_changes_nothing(
    service: Service, metadata: Metadata
) -> None:
    await service.publish(event(event_id="e"), metadata=metadata)
    assert await stored_ids(service) == {"e"}
