"""A collector of traces and metrics: the real services of OTLP over gRPC, and one that is none."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import grpc.aio
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
METRICS_SERVICE = "opentelemetry.proto.collector.metrics.v1.MetricsService"


@dataclass
class Collector:
    """Keeps every span and every metric that is exported to it."""

    exports: list[ExportTraceServiceRequest] = field(default_factory=list)
    metrics: list[dict[str, Metric]] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        handler = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=ExportTraceServiceRequest.FromString,
            response_serializer=ExportTraceServiceResponse.SerializeToString,
        )
        metrics_handler = grpc.unary_unary_rpc_method_handler(
            self._export_metrics,
            request_deserializer=ExportMetricsServiceRequest.FromString,
            response_serializer=ExportMetricsServiceResponse.SerializeToString,
        )
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),
                grpc.method_handlers_generic_handler(METRICS_SERVICE, {"Export": metrics_handler}),
            )
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def _export(
        self, request: ExportTraceServiceRequest, _: object
    ) -> ExportTraceServiceResponse:
        self.exports.append(request)
        return ExportTraceServiceResponse()

    async def _export_metrics(
        self, request: ExportMetricsServiceRequest, _: object
    ) -> ExportMetricsServiceResponse:
        found = {
            metric.name: metric
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        async with self._arrived:
            self.metrics.append(found)
            self._arrived.notify_all()
        return ExportMetricsServiceResponse()

    async def until(self, condition: Callable[[dict[str, Metric]], object]) -> dict[str, Metric]:
        """Return the first metrics of which the condition holds."""
        async with asyncio.timeout(60), self._arrived:
            while True:
                for found in self.metrics:
                    if condition(found):
                        return found
                await self._arrived.wait()

    @property
    def resource(self) -> dict[str, Any]:
        """What all spans say of the service."""
        return attributes(self.exports[0].resource_spans[0].resource.attributes)

    def spans(self, keep: Callable[[Span], object]) -> list[Span]:
        """Return those spans, in the order in which they began."""
        found = [
            span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if keep(span)
        ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def trace(self, traceparent: str) -> list[Span]:
        """Return the spans of the trace that a header names."""
        trace_id = bytes.fromhex(traceparent.split("-")[1])
        return self.spans(lambda span: span.trace_id == trace_id)


@dataclass
class Silence:
    """Takes connections and says nothing, or the same nonsense to all."""

    nonsense: bytes = b""
    connections: int = 0

    async def __aenter__(self) -> Self:
        self._connected = asyncio.Event()
        self._server = await asyncio.start_server(self._hold, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def connected(self) -> None:
        """Wait for the first connection."""
        async with asyncio.timeout(60):
            await self._connected.wait()

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._connected.set()
        try:
            writer.write(self.nonsense)
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    return getattr(pair.value, pair.value.WhichOneof("value") or "")


def header(span: Span) -> str:
    """The `traceparent` that goes on from a recorded span."""
    return f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
