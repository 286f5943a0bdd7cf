import asyncio
import logging
from threading import Barrier, Event

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from signalpost.telemetry import export
from signalpost.telemetry.metrics import Durations

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SERVICE_NAME": "other", "OTEL_TRACES_SAMPLER": "always_on"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_exported_unless_asked_for(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert export.begin_traces(environment) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http/protobuf"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "http/json"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli"}, "brotli"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "soon"),
        (ENDPOINT | {"OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "max_queue_size"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_exported(
    environment: dict[str, str],
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert export.begin_traces(environment) is None
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert said in record.getMessage()


@pytest.mark.parametrize(
    "environment",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        ENDPOINT | {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "place=here"},
    ],
)
async def test_traces_are_exported_once_there_is_a_collector(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    exporting = export.begin_traces(environment)
    assert exporting is not None
    resource = exporting.provider.resource.attributes
    assert resource["service.name"] == environment.get("OTEL_SERVICE_NAME", "signalpost")
    assert resource.get("place") == ("here" if "OTEL_RESOURCE_ATTRIBUTES" in environment else None)
    await export.Telemetry(exporting, None).aclose()


async def test_headers_for_the_collector_never_reach_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = ENDPOINT | {"OTEL_EXPORTER_OTLP_HEADERS": "api-key c4n4ry"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    exporting = export.begin_traces(environment)
    assert exporting is not None
    await export.Telemetry(exporting, None).aclose()
    assert "Header format invalid" in caplog.text
    assert "c4n4ry" not in caplog.text


class Stuck(SpanProcessor):
    """Never ends by itself."""

    def __init__(self) -> None:
        self.ending, self.freed = Event(), Event()

    def shutdown(self) -> None:
        self.ending.set()
        self.freed.wait()


def sent_to(processor: SpanProcessor) -> export.Traces:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return export.Traces(provider.get_tracer("test"), provider)


async def test_the_end_does_not_wait_for_a_collector_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "FLUSH_SECONDS", 0.01)
    stuck = Stuck()
    async with asyncio.timeout(60):
        await export.Telemetry(sent_to(stuck), None).aclose()
    assert stuck.ending.is_set()
    assert not stuck.freed.is_set()
    stuck.freed.set()


async def test_what_is_left_of_traces_and_of_metrics_is_handed_over_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "FLUSH_SECONDS", 60)
    both, met = Barrier(2), list[int]()
    metrics = export.begin_metrics({}, Durations())
    assert metrics is not None
    telemetry = export.Telemetry(sent_to(SpanProcessor()), metrics)
    assert telemetry.traces is not None
    for one in (telemetry.traces, metrics):
        monkeypatch.setattr(one.provider, "shutdown", lambda: met.append(both.wait(20)))
    await telemetry.aclose()
    assert sorted(met) == [0, 1]
