"""Health checks: their requests come in as those of other calls do, and wait for none of them.

gRPC would take in the whole of each before any code could say how many there may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, cast

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from signalpost.api.arrivals import Arrivals
from signalpost.domain.errors import Overloaded

_SECONDS: Final = 10.0
"""For how long a request is waited for."""

_MOST_BYTES: Final = 4096
"""How large it may be: all that is in it is a name."""

_Context = grpc.aio.ServicerContext[Any, Any]


def serve_health(
    server: grpc.aio.Server, checks: health.aio.HealthServicer, arrivals: Arrivals
) -> None:
    """Let a server answer health checks, whose requests are read by way of `arrivals`."""
    gate = cast("grpc.aio.Server", _Gate(server, arrivals))
    health_pb2_grpc.add_HealthServicer_to_server(checks, gate)


class _Gate:
    """Stands in for a server where generated code adds its handlers to one."""

    def __init__(self, server: grpc.aio.Server, arrivals: Arrivals) -> None:
        self._server = server
        self._arrivals = arrivals

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Wait for the same ones by their names."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Add handlers that read their request when it is its turn."""
        gated = {name: self._gated(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, gated),)
        )

    def _gated(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        # The stubs do not say what a handler holds.
        held = cast("Any", handler)
        answer: Callable[[Any, _Context], Any] = held.unary_stream or held.unary_unary

        async def handle(_: AsyncIterator[bytes], context: _Context) -> Any:
            data = await self._read(context)
            return await answer(held.request_deserializer(data), context)

        make = cast(
            "Callable[..., grpc.RpcMethodHandler[Any, Any]]",
            grpc.stream_stream_rpc_method_handler
            if held.response_streaming
            else grpc.stream_unary_rpc_method_handler,
        )
        return make(handle, response_serializer=held.response_serializer)

    async def _read(self, context: _Context) -> bytes:
        """Read the request. One that is too large is gone by the time that this is told."""
        code, problem = grpc.StatusCode.INVALID_ARGUMENT, "there is no request"
        try:
            async with asyncio.timeout(_SECONDS):
                data: object = await self._arrivals.read(context.read)
            if isinstance(data, bytes):
                if len(data) <= _MOST_BYTES:
                    return data
                problem = f"the request has {len(data)} bytes, {_MOST_BYTES} at most"
            del data
        except Overloaded as error:
            code, problem = grpc.StatusCode.UNAVAILABLE, str(error)
        except TimeoutError:
            code, problem = grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not come"
        await context.abort(code, problem)
        raise AssertionError("a call that was aborted goes on")
