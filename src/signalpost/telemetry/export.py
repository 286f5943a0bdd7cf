"""Sends spans to a collector, if the standard `OTEL_*` variables ask for it.

The one user of the OpenTelemetry SDK, which reads the environment by itself. Without an
exporter it is not even loaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Tracer

from signalpost import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

FLUSH_SECONDS: Final = 5.0
"""How long the end may take to hand over what is left."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """Takes spans from its `tracer`, keeps a bounded number, and sends them in batches."""

    tracer: Tracer
    provider: TracerProvider

    async def aclose(self) -> None:
        """Hand over what is left; what takes longer than `FLUSH_SECONDS` is lost."""
        # A daemon: a collector that does not answer must not hold the process.
        ending = Thread(target=self.provider.shutdown, name="telemetry-end", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, FLUSH_SECONDS)


def begin(environment: Mapping[str, str]) -> Export | None:
    """Begin to export if the environment asks for it; None if it does not.

    What cannot be used is said in the log, and nothing is exported.
    """
    if not _is_wanted(environment):
        return None
    protocol = next(filter(None, map(environment.get, _PROTOCOLS)), "grpc")
    if protocol != "grpc":
        _logger.warning(
            "no traces are exported: the protocol is %r, but grpc is all there is", protocol
        )
        return None
    logging.getLogger("opentelemetry.util.re").addFilter(_hide_what_was_given)
    return _begin()


def _hide_what_was_given(record: logging.LogRecord) -> bool:
    """Let nothing of malformed headers for the collector into the log: they are credentials."""
    record.args = tuple("..." for _ in record.args or ())
    return True


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    chosen = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if not chosen:
        return any(map(environment.get, _ENDPOINTS))
    names = {name.strip() for name in chosen.split(",")}
    if unknown := names - {"otlp", "none"}:
        _logger.warning("traces are not exported to %s: otlp is all there is", sorted(unknown))
    return "otlp" in names


def _begin() -> Export | None:
    from opentelemetry.exporter.otlp.proto.grpc.exporter import (  # noqa: PLC0415  costs memory
        InvalidCompressionValueException,
    )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import (  # noqa: PLC0415
        SERVICE_NAME,
        SERVICE_VERSION,
        OTELResourceDetector,
        Resource,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    own = {SERVICE_NAME: "signalpost", SERVICE_VERSION: __version__}
    given = OTELResourceDetector().detect().attributes
    resource = Resource.create({name: given.get(name, value) for name, value in own.items()})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    try:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except (InvalidCompressionValueException, OSError, RuntimeError, ValueError) as error:
        _logger.warning("no traces are exported: %s", error)
        return None
    return Export(provider.get_tracer("signalpost", __version__), provider)
