"""Deliveries as they change, through a real channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from signalpost.domain.delivery import FailureReason
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.store import watching
from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import (
    CancelDeliveriesRequest,
    ListDeliveriesRequest,
    RetryDeliveryRequest,
    WatchDeliveriesRequest,
    WatchDeliveriesResponse,
)
from tests.api.service import Service, event, failure_of, running
from tests.api.test_deliveries import REFUSED, TAKEN, attempt, attempt_all, listed
from tests.api.test_watch_events import LIVELY, numbered
from tests.api.watch import eventually, following

GONE = GiveUp(FailureReason.EXHAUSTED)


class Watch:
    """Reads one stream; keeps what it told, as pairs of event and state."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.told: list[tuple[str, str]] = []
        self.skipped = 0

    async def read(self) -> WatchDeliveriesResponse:
        response = await self.call.read()
        assert isinstance(response, WatchDeliveriesResponse), "the stream ended"
        self.told += [(one.event_id, Delivery.State.Name(one.state)) for one in response.deliveries]
        self.skipped += response.skipped_count
        return response

    async def until(self, count: int) -> list[tuple[str, str]]:
        """Read until so much was told; return it."""
        while len(self.told) < count:
            await self.read()
        return self.told


@asynccontextmanager
async def watch(service: Service, **request: Any) -> AsyncIterator[Watch]:
    opened = Watch(service.deliveries.WatchDeliveries(WatchDeliveriesRequest(**request)))
    assert not (await opened.read()).deliveries
    try:
        yield opened
    finally:
        opened.call.cancel()


async def test_every_attempt_and_every_change_of_a_state_is_told(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    async with watch(service) as opened:
        await service.publish(event(event_id="e1"))
        await attempt(service, REFUSED, RetryAt(service.clock.now()))
        assert await opened.until(1) == [("e1", "PENDING")]
        await attempt(service, REFUSED, GONE)
        assert await opened.until(2) == [("e1", "PENDING"), ("e1", "FAILED")]
        name = (await listed(service, ListDeliveriesRequest()))[0].delivery_id
        await service.deliveries.RetryDelivery(RetryDeliveryRequest(delivery_id=name))
        await opened.until(3)
        service.clock.move(timedelta(microseconds=1))
        await service.deliveries.CancelDeliveries(CancelDeliveriesRequest(subscription_id="s"))
        await opened.until(4)
    assert opened.told[2:] == [("e1", "PENDING"), ("e1", "CANCELED")]
    assert opened.skipped == 0


async def test_a_delivery_is_told_as_lists_show_it(service: Service) -> None:
    await service.subscribe(subscription_id="s", tenant_id="acme")
    async with watch(service, tenant_id="acme") as opened:
        await service.publish(event(event_id="e1", tenant_id="acme"))
        await attempt(service, TAKEN, Succeed())
        response = await opened.read()
    shown = await listed(service, ListDeliveriesRequest(tenant_id="acme"))
    assert list(response.deliveries) == shown


async def test_tenant_subscription_and_states_choose(service: Service) -> None:
    for name, tenant in (("s", "acme"), ("other", "acme"), ("s", "emca")):
        await service.subscribe(subscription_id=name, tenant_id=tenant)
    chosen = {"tenant_id": "acme", "subscription_id": "s"}
    async with (
        watch(service, **chosen, states=[Delivery.FAILED]) as failed,
        watch(service, **chosen) as of_one,
        watch(service, tenant_id="-") as of_all,
    ):
        for number, verdict in enumerate(list[Verdict]([Succeed(), GONE])):
            for tenant in ("emca", "acme"):
                await service.publish(event(event_id=f"e{number}", tenant_id=tenant))
            await attempt_all(service, REFUSED, verdict)
        assert await of_one.until(2) == [("e0", "SUCCEEDED"), ("e1", "FAILED")]
        assert await failed.until(1) == [("e1", "FAILED")]
        assert len(await of_all.until(6)) == 6


async def test_a_client_that_reads_too_slowly_hears_of_the_latest_and_how_much_it_missed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_WAITING", 3)
    await service.subscribe(subscription_id="s")
    long_answer = replace(REFUSED, response_body=b"\xff" * 4096)
    async with watch(service) as opened:
        for name in numbered(80):
            await service.publish(event(event_id=name))
            await attempt(service, long_answer, GONE)
        while not opened.told or opened.told[-1] != ("e79", "FAILED"):
            await opened.read()
    assert opened.skipped > 0
    assert len(opened.told) + opened.skipped == 80


async def test_keep_alives_come_while_nothing_changes(tmp_path: Path) -> None:
    async with running(tmp_path, watch_limits=LIVELY) as service, watch(service) as opened:
        for _ in range(3):
            assert not (await opened.read()).deliveries


async def test_a_server_that_drains_ends_streams(service: Service) -> None:
    async with watch(service) as opened:
        draining = asyncio.create_task(service.server.drain(timedelta(seconds=60)))
        failure = await failure_of(opened.call.read())
        await draining
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")


async def test_both_kinds_of_streams_share_their_bound(tmp_path: Path) -> None:
    async with (
        running(tmp_path, watch_limits=LIVELY) as service,
        watch(service),
        following(service),
    ):
        call = service.deliveries.WatchDeliveries(WatchDeliveriesRequest())
        assert (await failure_of(call.read())).reason == "QUOTA_EXCEEDED"


async def test_a_client_that_leaves_leaves_nothing_behind(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(20):
        async with watch(service):
            pass
    news = service.store.watching._news
    await eventually(lambda: not news.has_listeners and len(asyncio.all_tasks()) <= before)
    assert not caplog.records
