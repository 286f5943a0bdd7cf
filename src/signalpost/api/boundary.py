"""The outermost frame of every call.

gRPC would answer garbage with UNKNOWN and send the text of an exception to the client. So
handlers get the raw bytes, and everything from parsing to encoding happens in here: a
failure that is meant for the caller becomes its status, any other INTERNAL with an ID under
which the log has the cause.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from signalpost import failpoints
from signalpost.api import status
from signalpost.domain.errors import Reason, RequestInvalid, SignalpostError, Violation

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""Largest request that is accepted; that of the transport is larger, so that we can say so."""

Context = grpc.aio.ServicerContext[bytes, bytes]
Method = Callable[[Any, Context], Awaitable[Message]]
"""A servicer's method: a checked or unchecked request in, its response out."""

_logger: Final = logging.getLogger(__name__)


class Boundary:
    """Makes gRPC handlers of servicers."""

    def __init__(self, *, new_id: Callable[[], str]) -> None:
        self._new_id = new_id

    def handlers(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """Serve those methods of a service that its servicer has; the others are UNIMPLEMENTED."""
        handlers = {
            method.name: self._handler(method, getattr(servicer, method.name))
            for method in service.methods
            if hasattr(servicer, method.name)
        }
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _handler(
        self, descriptor: MethodDescriptor, method: Method
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        kind = GetMessageClass(descriptor.input_type)

        async def handle(data: bytes, context: Context) -> bytes:
            try:
                failpoints.hit("handler")
                response = await method(_parse(kind, data), context)
                answer: bytes | Status = response.SerializeToString(deterministic=True)
            except SignalpostError as error:
                answer = status.status_of(error)
            except Exception:
                error_id = self._new_id()
                fields = {"rpc": descriptor.full_name, "error_id": error_id}
                _logger.exception("call failed", extra=fields)
                answer = status.internal(error_id)
            if isinstance(answer, Status):
                await context.abort_with_status(rpc_status.to_status(answer))
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)


def _parse(kind: type[Message], data: bytes) -> Message:
    if len(data) > MAX_REQUEST_BYTES:
        metadata = {"sizeBytes": str(len(data)), "limitBytes": str(MAX_REQUEST_BYTES)}
        description = f"the request has {len(data)} bytes, {MAX_REQUEST_BYTES} at most"
        raise RequestInvalid([Violation("", Reason.TOO_LARGE, description, metadata)])
    try:
        return kind.FromString(data)
    except DecodeError:
        description = "the request is not a valid protobuf message of its type"
        raise RequestInvalid([Violation("", Reason.FIELD_INVALID, description)]) from None
