import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from signalpost.domain.errors import StorageUnavailable
from signalpost.domain.outcome import AttemptResult, Outcome, Timings
from signalpost.domain.statistics import Condition, Overview, Waiting
from signalpost.health import HealthServer, Page
from signalpost.settings import Address
from signalpost.telemetry import export, metrics
from signalpost.telemetry.metrics import Connected, Durations, Lookout, Totals, connected, observe

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOME = timedelta(milliseconds=1)
OVERVIEW = Overview(
    time=NOW,
    waiting=dict.fromkeys(Condition, Waiting())
    | {
        Condition.PAUSED: Waiting(
            deliveries=3, subscriptions=1, oldest_due=NOW - timedelta(seconds=90)
        )
    },
    subscriptions=dict.fromkeys(Condition, 2),
)


def values(text: bytes) -> Mapping[str, float]:
    """The values of all samples of our own; a label's value stands in for its name."""
    return {
        " ".join([sample.name.removeprefix("signalpost_"), *sorted(sample.labels.values())]): (
            sample.value
        )
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("signalpost_")
    }


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        (Timings(), Connected.NONE),
        (Timings(dns=SOME), Connected.NONE),
        (Timings(dns=SOME, connect=SOME), Connected.NEW),
        (Timings(dns=SOME, connect=SOME, tls=SOME, write=SOME, wait=SOME), Connected.NEW),
        (Timings(write=SOME, wait=SOME), Connected.KEPT),
    ],
)
def test_the_phases_of_an_attempt_tell_its_connection(
    timings: Timings, expected: Connected
) -> None:
    result = AttemptResult(outcome=Outcome.REJECTED, latency=SOME, timings=timings)
    assert connected(result) is expected


def test_durations_are_counted_up_to_their_bounds() -> None:
    durations = Durations()
    for seconds in (0.005, 0.006, 1e9):
        durations.add(seconds)
    assert (durations.counts[0], durations.counts[1], durations.counts[-1]) == (1, 1, 1)
    assert (durations.least, durations.most) == (0.005, 1e9)


async def no_overview() -> Overview:
    raise StorageUnavailable


async def collected(totals: Totals, take: Callable[[], Any]) -> Mapping[str, float]:
    collecting = export.begin_metrics({}, totals.durations)
    assert collecting is not None
    observe(collecting.meter, totals, Lookout(take))
    found = values(await asyncio.to_thread(collecting.text))
    await export.Telemetry(None, collecting).aclose()
    return found


async def test_all_is_shown_under_its_name() -> None:
    async def take() -> Overview:
        return OVERVIEW

    totals = Totals(accepted=7, leases_lost=3)
    totals.attempts[Outcome.TIMED_OUT, Connected.KEPT] = 5
    totals.durations.add(0.07)
    found = await collected(totals, take)
    assert found["events_accepted_total"] == 7
    assert found["attempts_total TIMED_OUT kept"] == 5
    assert found["leases_lost_total"] == 3
    assert found["deliveries_ended_total FAILED"] == 0
    assert found["deliveries_pending paused"] == 3
    assert found["deliveries_oldest_due_age_seconds paused"] == 90
    assert found["deliveries_oldest_due_age_seconds flowing"] == 0
    assert found["subscriptions suspended"] == 2
    assert found["delivery_duration_seconds_bucket 0.05"] == 0
    assert found["delivery_duration_seconds_bucket 0.1"] == 1
    assert found["delivery_duration_seconds_sum"] == 0.07


async def test_counters_are_told_while_storage_does_not_answer() -> None:
    found = await collected(Totals(accepted=7), no_overview)
    assert found["events_accepted_total"] == 7
    assert not [name for name in found if name.startswith(("deliveries_pending", "subscriptions"))]


async def test_counters_are_told_while_the_loop_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "_COLLECTING_SECONDS", 0.01)

    async def take() -> Overview:
        await asyncio.Event().wait()
        raise AssertionError("nothing happens")

    assert (await collected(Totals(accepted=7), take))["events_accepted_total"] == 7


@pytest.mark.parametrize("text", ["true", "TRUE"])
def test_nothing_is_collected_if_the_sdk_is_disabled(text: str) -> None:
    assert export.begin_metrics(ENDPOINT | {"OTEL_SDK_DISABLED": text}, Durations()) is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "console"}, "console"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"}, "http/json"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli"}, "brotli"),
        (ENDPOINT | {"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "interval"),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "prometheus"}, ""),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "none"}, ""),
        ({}, ""),
    ],
)
async def test_what_cannot_be_used_is_said_and_metrics_can_be_read_all_the_same(
    environment: dict[str, str],
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    collecting = export.begin_metrics(environment, Durations())
    assert collecting is not None
    warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == bool(said)
    assert all(said in warning for warning in warnings)
    assert b"process_resident_memory_bytes" in collecting.text()
    await export.Telemetry(None, collecting).aclose()


async def test_durations_are_shown_once_also_where_the_sdk_tells_of_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    totals = Totals()
    collecting = export.begin_metrics({}, totals.durations)
    assert collecting is not None
    observe(collecting.meter, totals, Lookout(no_overview))
    await asyncio.to_thread(collecting.text)  # of which the second time tells
    lines = (await asyncio.to_thread(collecting.text)).splitlines()
    await export.Telemetry(None, collecting).aclose()
    assert any(line.startswith(b"otel_sdk_") for line in lines)
    counts = [line for line in lines if b"_delivery_duration_seconds_count" in line]
    assert counts == [b"signalpost_delivery_duration_seconds_count 0.0"]


@pytest.fixture
async def health() -> AsyncIterator[HealthServer]:
    async def ready() -> str | None:
        return None

    def fail() -> bytes:
        raise RuntimeError("canary")

    pages = {"/metrics": Page(lambda: b"some 1\n", "text/x"), "/broken": Page(fail, "text/x")}
    server = HealthServer(Address("127.0.0.1", 0), ready=ready, pages=pages)
    server.start()
    yield server
    await asyncio.to_thread(server.stop)


async def test_pages_are_shown_beside_checks(
    health: HealthServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient(base_url=f"http://{health.address}", timeout=30) as client:
        shown = await client.get("/metrics?name[]=some")
        assert (shown.status_code, shown.text) == (200, "some 1\n")
        assert shown.headers["content-type"] == "text/x"
        assert (await client.get("/readyz")).text == "ok\n"
        missing = await client.get("/else")
        assert (missing.status_code, "/metrics" in missing.text) == (404, True)
        broken = await client.get("/broken")
        assert (broken.status_code, "canary" in broken.text) == (500, False)
        assert (await client.get("/metrics")).status_code == 200
    assert "canary" in caplog.text
