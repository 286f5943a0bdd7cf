"""Sends spans and metrics to a collector, if the standard `OTEL_*` variables ask for it.

The one user of the OpenTelemetry SDK, which reads the environment by itself. Without an exporter
its tracing is not even loaded: that would be 70 modules, and 2 MiB. Metrics can be read as text for
Prometheus in any case.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from signalpost import __version__
from signalpost.telemetry.metrics import (
    DURATION_DESCRIPTION,
    DURATION_NAME,
    DURATION_UNIT,
    Durations,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

FLUSH_SECONDS: Final = 3.0
"""How long the end may take to hand over what is left."""

TEXT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Media type of metrics as text."""

_SCOPE: Final = "signalpost"
_INSTANCE: Final = str(uuid4())

_logger: Final = logging.getLogger(__name__)


class _Signal(StrEnum):
    TRACES = "TRACES"
    METRICS = "METRICS"


@dataclass(frozen=True, slots=True)
class Traces:
    """Takes spans from its `tracer`, keeps a bounded number, and sends them in batches."""

    tracer: Tracer
    provider: TracerProvider


@dataclass(frozen=True, slots=True)
class Metrics:
    """Collects what its `meter` observes: as text for whoever asks, and for a collector."""

    meter: Meter
    provider: MeterProvider
    registry: CollectorRegistry

    def text(self) -> bytes:
        """Return all metrics, those of the process included, in the text format of Prometheus."""
        return generate_latest(self.registry)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is told to others; None for what is not."""

    traces: Traces | None
    metrics: Metrics | None

    async def aclose(self) -> None:
        """Hand over what is left of all at once; what takes longer than `FLUSH_SECONDS` is lost."""
        begun = (one for one in (self.traces, self.metrics) if one is not None)
        await asyncio.gather(*(_ended(one.provider.shutdown) for one in begun))


async def _ended(shutdown: Callable[[], None]) -> None:
    # A daemon: a collector that does not answer must not hold the process.
    ending = Thread(target=shutdown, name="telemetry-end", daemon=True)
    ending.start()
    await asyncio.to_thread(ending.join, FLUSH_SECONDS)


def begin(environment: Mapping[str, str], durations: Durations) -> Telemetry:
    """Begin to trace and to collect metrics, as far as the environment asks for it."""
    return Telemetry(begin_traces(environment), begin_metrics(environment, durations))


def begin_traces(environment: Mapping[str, str]) -> Traces | None:
    """Begin to export spans if the environment asks for it; None if it does not.

    What cannot be used is said in the log, and nothing is exported.
    """
    return _exported_traces() if _is_wanted(_Signal.TRACES, environment) else None


def begin_metrics(environment: Mapping[str, str], durations: Durations) -> Metrics | None:
    """Begin to collect metrics, and to export them if the environment asks for it.

    None if it disables the SDK. What cannot be used is said in the log, and not exported.
    """
    if _is_disabled(environment):
        return None
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    completion = _Completion(durations, time.time_ns())
    readers: list[MetricReader] = [_TextReader(registry, completion)]
    if _is_wanted(_Signal.METRICS, environment):
        readers += _exporting_reader(completion)
    provider = MeterProvider(readers, resource=_resource(), shutdown_on_exit=False)
    return Metrics(provider.get_meter(_SCOPE, __version__), provider, registry)


def _is_disabled(environment: Mapping[str, str]) -> bool:
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _is_wanted(signal: _Signal, environment: Mapping[str, str]) -> bool:
    """Tell whether a signal is to be exported, and say in the log why it cannot be."""
    if _is_disabled(environment) or not _is_chosen(signal, environment):
        return False
    variables = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next(filter(None, map(environment.get, variables)), "grpc")
    if protocol != "grpc":
        _logger.warning(
            "no %s are exported: the protocol is %r, but grpc is all there is",
            signal.lower(),
            protocol,
        )
        return False
    logging.getLogger("opentelemetry.util.re").addFilter(_hide_what_was_given)
    return True


def _is_chosen(signal: _Signal, environment: Mapping[str, str]) -> bool:
    chosen = environment.get(f"OTEL_{signal}_EXPORTER", "").strip()
    if not chosen:
        endpoints = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        return any(map(environment.get, endpoints))
    names = {name.strip() for name in chosen.split(",")}
    known = {"otlp", "none"} | ({"prometheus"} if signal is _Signal.METRICS else set())
    if unknown := names - known:
        _logger.warning(
            "%s are not exported to %s: otlp is all there is", signal.lower(), sorted(unknown)
        )
    return "otlp" in names


def _hide_what_was_given(record: logging.LogRecord) -> bool:
    """Let nothing of malformed headers for the collector into the log: they are credentials."""
    record.args = tuple("..." for _ in record.args or ())
    return True


def _resource() -> Resource:
    own = {
        SERVICE_NAME: "signalpost",
        SERVICE_VERSION: __version__,
        SERVICE_INSTANCE_ID: _INSTANCE,
    }
    given = OTELResourceDetector().detect().attributes
    return Resource.create({name: given.get(name, value) for name, value in own.items()})


def _exported_traces() -> Traces | None:
    from opentelemetry.exporter.otlp.proto.grpc.exporter import (  # noqa: PLC0415 - on demand
        InvalidCompressionValueException,
    )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - on demand
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - on demand
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - on demand

    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    try:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except (InvalidCompressionValueException, OSError, RuntimeError, ValueError) as error:
        _logger.warning("no traces are exported: %s", error)
        return None
    return Traces(provider.get_tracer(_SCOPE, __version__), provider)


def _exporting_reader(completion: _Completion) -> list[MetricReader]:
    from opentelemetry.exporter.otlp.proto.grpc.exporter import (  # noqa: PLC0415 - on demand
        InvalidCompressionValueException,
    )
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415 - on demand
        OTLPMetricExporter,
    )

    try:
        return [_ExportingReader(OTLPMetricExporter(), completion)]
    except (InvalidCompressionValueException, OSError, RuntimeError, ValueError) as error:
        _logger.warning("no metrics are exported: %s", error)
        return []


@dataclass(frozen=True, slots=True)
class _Completion:
    """Adds durations to what is collected: no instrument observes a whole histogram.

    One that is called for each delivery would cost it 6 µs.
    """

    durations: Durations
    begun: int

    def of(self, collected: MetricsData) -> MetricsData:
        resources = [
            replace(
                resource,
                scope_metrics=[
                    replace(scope, metrics=[*scope.metrics, self._metric()])
                    if scope.scope.name == _SCOPE  # not to what the SDK may tell of itself
                    else scope
                    for scope in resource.scope_metrics
                ],
            )
            for resource in collected.resource_metrics
        ]
        return replace(collected, resource_metrics=resources)

    def _metric(self) -> Metric:
        durations, counts = self.durations, list(self.durations.counts)
        point = HistogramDataPoint(
            attributes={},
            start_time_unix_nano=self.begun,
            time_unix_nano=time.time_ns(),
            count=sum(counts),
            sum=durations.total,
            bucket_counts=counts,
            explicit_bounds=durations.bounds,
            min=durations.least if any(counts) else 0.0,
            max=durations.most,
        )
        return Metric(
            name=DURATION_NAME,
            description=DURATION_DESCRIPTION,
            unit=DURATION_UNIT,
            data=Histogram([point], AggregationTemporality.CUMULATIVE),
        )


class _TextReader(PrometheusMetricReader):
    def __init__(self, registry: CollectorRegistry, completion: _Completion) -> None:
        super().__init__(registry=registry, scope_info_enabled=False)
        self._completion = completion

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any
    ) -> None:
        super()._receive_metrics(self._completion.of(metrics_data), timeout_millis, **more)


class _ExportingReader(PeriodicExportingMetricReader):
    def __init__(self, exporter: Any, completion: _Completion) -> None:
        self._completion = completion
        super().__init__(exporter)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any
    ) -> None:
        super()._receive_metrics(self._completion.of(metrics_data), timeout_millis, **more)
