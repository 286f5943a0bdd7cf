"""What the service says of itself, against what was sent to it and what arrived."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from prometheus_client.parser import text_string_to_metric_families

from signalpost.v1.delivery_service_pb2 import GetDeliveryStatsRequest
from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.subscription_service_pb2 import PauseSubscriptionRequest
from tests.e2e.collector import Collector, attributes
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service

TENANT = "tenant-canary"
Sample = tuple[str, frozenset[tuple[str, str]]]
Samples = dict[Sample, float]

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
README_NAMES = set(re.findall(r"signalpost_\w+(?=\{|\[|\))", README))
"""Those that alarms ask for."""

ACCEPTED = ("signalpost_events_accepted_total", frozenset[tuple[str, str]]())
DURATION = "signalpost_delivery_duration_seconds"


def by(name: str, **labels: str) -> Sample:
    return name, frozenset((f"signalpost_{key}", value) for key, value in labels.items())


def pending(condition: str) -> Sample:
    return by("signalpost_deliveries_pending", condition=condition)


def ended(state: str) -> Sample:
    return by("signalpost_deliveries_ended_total", state=state)


async def scrape(service: Service) -> Samples:
    async with httpx.AsyncClient(timeout=30) as client:
        response = await client.get(f"http://{service.http}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    for secret in (TENANT, "whsec_", "/good", "localhost"):
        assert secret not in response.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def scraped_until(service: Service, condition: Callable[[Samples], bool]) -> list[Samples]:
    """Scrape again and again, and return all that was read."""
    found = [await scrape(service)]
    async with asyncio.timeout(60):
        while not condition(found[-1]):
            found.append(await scrape(service))
    return found


def outcomes(samples: Samples) -> Counter[str]:
    total: Counter[str] = Counter()
    for (name, labels), value in samples.items():
        if name == "signalpost_attempts_total":
            total[dict(labels)["signalpost_outcome"]] += int(value)
    return total


async def answer(request: Request) -> int:
    return 200 if request.path == "/good" else 503


@pytest.fixture
async def busy(service: Service, receiver: Receiver) -> Service:
    """A running service with an endpoint that takes all, one that takes nothing, one paused."""
    receiver.answer = answer
    await service.start()
    return service


async def subscribe(service: Service, receiver: Receiver) -> None:
    for name, types in (("good", ()), ("bad", ("account.disconnected",)), ("paused", ())):
        await service.subscribe(
            receiver.url(f"/{name}"),
            subscription_id=name,
            tenant_id=TENANT,
            event_types=types,
            max_attempts=1,
        )
    await service.subscriptions.PauseSubscription(
        PauseSubscriptionRequest(subscription_id="paused", tenant_id=TENANT)
    )


async def publish(service: Service) -> None:
    """Publish 40 events, two of which go to the endpoint that takes nothing."""
    for batch in range(4):
        events = [event(f"e{batch}-{number}") for number in range(10)]
        if batch % 2:
            events[0].account_disconnected.integration = "gmail"
        await service.publish(*events)
    await service.publish(event("e0-0"))


def event(event_id: str) -> Event:
    made = Event(event_id=event_id, tenant_id=TENANT, resource=Resource(id="acc_1"))
    made.account_connected.integration = "gmail"
    return made


def is_over(samples: Samples) -> bool:
    all_ended = (samples[ended("SUCCEEDED")], samples[ended("FAILED")]) == (40, 2)
    return all_ended and samples[pending("flowing")] == samples[pending("throttled")] == 0


def assert_counters_only_rise(scrapes: list[Samples]) -> None:
    for before, after in pairwise(scrapes):
        for sample, value in before.items():
            if sample[0].startswith("signalpost_") and sample[0].endswith(("_total", "_bucket")):
                assert after[sample] >= value


async def test_metrics_are_what_was_sent_and_what_arrived(
    busy: Service, receiver: Receiver
) -> None:
    await subscribe(busy, receiver)
    scraping = asyncio.create_task(scraped_until(busy, is_over))
    await publish(busy)
    scrapes = await scraping
    assert_counters_only_rise(scrapes)
    last = scrapes[-1]
    answered = Counter(request.answered for request in receiver.requests)
    assert last[ACCEPTED] == 40
    assert outcomes(last) == {"SUCCEEDED": answered[200], "REJECTED": answered[503]}
    assert answered == {200: 40, 503: 2}
    assert last[ended("CANCELED")] == 0
    assert last[(f"{DURATION}_count", frozenset())] == 40
    assert last[(f"{DURATION}_bucket", frozenset({("le", "+Inf")}))] == 40
    assert last[(f"{DURATION}_bucket", frozenset({("le", "60.0")}))] == 40
    assert last[(f"{DURATION}_sum", frozenset())] > 0
    assert [last[pending(one)] for one in ("flowing", "throttled", "suspended")] == [0, 0, 0]
    assert last[pending("paused")] == 40
    assert last[by("signalpost_subscriptions", condition="paused")] == 1
    assert last[by("signalpost_subscriptions", condition="flowing")] == 2
    assert last[by("signalpost_deliveries_oldest_due_age_seconds", condition="paused")] > 0
    assert last[by("signalpost_deliveries_oldest_due_age_seconds", condition="flowing")] == 0
    assert {name for name, _ in last} >= README_NAMES
    assert last["process_resident_memory_bytes", frozenset()] > 0


async def test_statistics_agree_with_metrics_and_outlive_a_kill(
    busy: Service, receiver: Receiver
) -> None:
    await subscribe(busy, receiver)
    await publish(busy)
    await scraped_until(busy, is_over)
    request = GetDeliveryStatsRequest(tenant_id=TENANT)
    before = await busy.deliveries.GetDeliveryStats(request)
    assert (before.succeeded_count, before.failed_count, before.canceled_count) == (40, 2, 0)
    assert (before.attempt_count, before.failed_attempt_count) == (42, 2)
    assert before.paused.pending_count == before.pending_count == 40
    assert 0 < before.p50_latency.ToNanoseconds() <= before.p99_latency.ToNanoseconds()
    await busy.kill()
    await busy.start()
    after = await busy.deliveries.GetDeliveryStats(request)
    after.end_time.CopyFrom(before.end_time)
    after.start_time.CopyFrom(before.start_time)
    assert after == before
    fresh = await scrape(busy)
    assert (fresh[ACCEPTED], fresh[pending("paused")]) == (0, 40)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


def values(metric: Metric, key: str) -> dict[str, float]:
    found: Counter[str] = Counter()
    for point in (metric.sum if metric.HasField("sum") else metric.gauge).data_points:
        found[attributes(point.attributes)[key]] += point.as_int
    return dict(found)


async def test_a_collector_is_told_the_same(
    service: Service, receiver: Receiver, collector: Collector
) -> None:
    receiver.answer = answer
    service.environment = collector.environment | {"OTEL_METRIC_EXPORT_INTERVAL": "200"}
    await service.start()
    await subscribe(service, receiver)
    await publish(service)
    states = {"SUCCEEDED": 40, "FAILED": 2, "CANCELED": 0}

    def is_complete(found: dict[str, Metric]) -> bool:
        return values(found["signalpost.deliveries.ended"], "signalpost.state") == states

    def is_quiet(found: dict[str, Metric]) -> bool:
        waiting = values(found["signalpost.deliveries.pending"], "signalpost.condition")
        return is_complete(found) and waiting["flowing"] == waiting["throttled"] == 0

    found = await collector.until(is_quiet)
    accepted = found["signalpost.events.accepted"]
    assert accepted.sum.is_monotonic
    assert [point.as_int for point in accepted.sum.data_points] == [40]
    attempts = values(found["signalpost.attempts"], "signalpost.outcome")
    assert attempts == {"SUCCEEDED": 40, "REJECTED": 2}
    waiting = values(found["signalpost.deliveries.pending"], "signalpost.condition")
    assert waiting["paused"] == 40
    duration = found["signalpost.delivery.duration"]
    [point] = duration.histogram.data_points
    assert (duration.unit, point.count, sum(point.bucket_counts)) == ("s", 40, 40)
    assert 0 < point.min <= point.sum / 40 <= point.max
    assert await service.stop() == 0
    assert is_complete(collector.metrics[-1])
