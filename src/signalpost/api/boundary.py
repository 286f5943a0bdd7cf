"""The outermost frame of every call.

gRPC would answer garbage with UNKNOWN and send the text of an exception to the client. So
handlers get the raw bytes, and everything from parsing to encoding happens in here: a
failure that is meant for the caller becomes its status, any other INTERNAL with an ID under
which the log has the cause. A call that is no stream ends at a deadline of ours, too: no
client can hold on to what it takes for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from signalpost import failpoints
from signalpost.api import status
from signalpost.api.constraints import TRACEPARENT
from signalpost.api.intake import SMALL_BYTES, Intake
from signalpost.api.parsing import parse
from signalpost.domain.errors import (
    CredentialsInvalid,
    Overloaded,
    Reason,
    RequestInvalid,
    SignalpostError,
    Violation,
)
from signalpost.telemetry import tracing
from signalpost.telemetry.tracing import Tracing

CEILING_SECONDS = 10.0
"""Longest that a call may take."""

CEILINGS_SECONDS: Final[Mapping[str, float]] = {
    "CreateSubscription": 40.0,
    "UpdateSubscription": 40.0,
    "TestSubscription": 40.0,
    "ReplayDeliveries": 40.0,
    "CancelDeliveries": 40.0,
}
"""The same for methods that may make a request to an endpoint or go through many deliveries."""

Method = Callable[[Any, "Call"], Awaitable[Message]]
"""A servicer's method: a checked or unchecked request in, its response out."""

_Context = grpc.aio.ServicerContext[bytes, bytes]
_Answer = TypeVar("_Answer")
_Request = TypeVar("_Request", bound=Message)
_Response_contra = TypeVar("_Response_contra", bound=Message, contravariant=True)

_logger: Final = logging.getLogger(__name__)


class Respond(Protocol[_Response_contra]):
    """Sends a response; returns when the client lets more follow."""

    async def __call__(self, response: _Response_contra, /) -> None:
        """Send it."""
        ...


class Received(Generic[_Request]):
    """A request of a stream, of so many bytes as its `size`, that is not looked at yet."""

    def __init__(self, kind: type[_Request], data: bytes) -> None:
        self.size = len(data)
        self._kind = kind
        self._data = data

    def parse(self) -> _Request:
        """Return the request, once. Raises RequestInvalid."""
        data, self._data = self._data, b""
        return parse(self._kind, data)


StreamMethod = Callable[[AsyncIterator[Received[Any]], Respond[Any], "Call"], Awaitable[None]]
"""A servicer's method with streams both ways."""

WatchMethod = Callable[[Any, Respond[Any], "Call"], Awaitable[None]]
"""A servicer's method that answers one request with a stream."""


class Call:
    """What a call says of itself beside its request, read once."""

    def __init__(self, context: _Context) -> None:
        self._metadata = context.invocation_metadata() or ()

    def refuse_two_credentials(self) -> None:
        """Refuse what could mean one caller to a proxy and another one to us: gRPC passes both on.

        Raises CredentialsInvalid.
        """
        if sum(name == "authorization" for name, _ in self._metadata) > 1:
            raise CredentialsInvalid("there is more than one value of authorization")

    def traceparent(self) -> str:
        """Return the `traceparent` under which the call works; empty if it has none.

        It is that of the call's span or, without one, that of its metadata.
        """
        return tracing.current(self.given_traceparent())

    def given_traceparent(self) -> str:
        """Return the one in the metadata, empty if there is none or a malformed one."""
        value = dict(self._metadata).get("traceparent", "")
        return value if isinstance(value, str) and TRACEPARENT(value) is None else ""


class Boundary:
    """Makes gRPC handlers of servicers."""

    def __init__(self, *, new_id: Callable[[], str], tracing: Tracing, intake: Intake) -> None:
        self._new_id = new_id
        self._intake = intake
        self._tracing = tracing
        self._waiting: set[asyncio.Timeout] = set()
        self._draining = False

    def drain(self) -> None:
        """Read no more from streams: they end with OVERLOADED once what was read is answered.

        Streams that only answer end at once.
        """
        self._draining = True
        now = asyncio.get_running_loop().time()
        for limit in self._waiting:
            limit.reschedule(now)

    def handlers(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """Serve those methods of a service that its servicer has; the others are UNIMPLEMENTED."""
        handlers = {
            method.name: self._handler(method, getattr(servicer, method.name))
            for method in service.methods
            if hasattr(servicer, method.name)
        }
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _handler(
        self, descriptor: MethodDescriptor, method: Callable[..., Any]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        if descriptor.client_streaming:
            return self._streams(descriptor, method)
        if descriptor.server_streaming:
            return self._watch(descriptor, method)
        return self._unary(descriptor, method)

    def _unary(
        self, descriptor: MethodDescriptor, method: Method
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        kind = GetMessageClass(descriptor.input_type)

        async def work(data: bytes, call: Call) -> Message:
            failpoints.hit("handler")
            return await method(parse(kind, data), call)

        async def answer(call: Call, context: _Context) -> bytes:
            seconds = CEILINGS_SECONDS.get(descriptor.name, CEILING_SECONDS)
            call.refuse_two_credentials()
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    data = await self._only(context)
                    if len(data) > SMALL_BYTES:
                        # That it came slowly is no reason to have less time for it.
                        limit.reschedule(asyncio.get_running_loop().time() + seconds)
                        async with self._intake.work(len(data), bounded=False):
                            response = await work(data, call)
                    else:
                        self._intake.begin_small(len(data))
                        try:
                            response = await work(data, call)
                        finally:
                            self._intake.end_small(len(data))
            except TimeoutError:
                if limit.expired():
                    raise _TooLate(seconds) from None
                raise
            return response.SerializeToString(deterministic=True)

        async def handle(_: AsyncIterator[bytes], context: _Context) -> bytes:
            call = Call(context)
            return await self._guard(answer(call, context), call, context, descriptor)

        # On the wire it is the same, but here we say when the request is read.
        return grpc.stream_unary_rpc_method_handler(handle)

    def _watch(
        self, descriptor: MethodDescriptor, method: WatchMethod
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        kind = GetMessageClass(descriptor.input_type)

        async def read(context: _Context) -> Message:
            limit = asyncio.timeout(CEILING_SECONDS)
            try:
                async with limit:
                    data = await self._only(context)
            except TimeoutError:
                raise _TooLate(CEILING_SECONDS) from None
            failpoints.hit("handler")
            return parse(kind, data)

        async def answer(call: Call, context: _Context) -> None:
            call.refuse_two_credentials()
            request = await read(context)
            await self._until_drained(lambda: method(request, _responder(context), call))

        return self._handler_of_both(answer, descriptor)

    async def _only(self, context: _Context) -> bytes:
        """Read the one request of a call. Raises RequestInvalid if there is none, Overloaded."""
        data: object = await self._intake.arrive(context.read)
        if not isinstance(data, bytes):
            raise RequestInvalid([Violation("", Reason.FIELD_INVALID, "there is no request")])
        return data

    def _streams(
        self, descriptor: MethodDescriptor, method: StreamMethod
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        kind = GetMessageClass(descriptor.input_type)

        async def received(context: _Context) -> AsyncIterator[Received[Message]]:
            size = 0
            while (data := await self._next(context, after=size)) is not None:
                failpoints.hit("handler")
                size = len(data)
                request = [Received(kind, data)]
                # Nothing here may hold either while it is worked on.
                del data
                yield request.pop()

        async def answer(call: Call, context: _Context) -> None:
            call.refuse_two_credentials()
            with self._intake.stream():
                await method(received(context), _responder(context), call)

        return self._handler_of_both(answer, descriptor)

    def _handler_of_both(
        self,
        answer: Callable[[Call, _Context], Awaitable[None]],
        descriptor: MethodDescriptor,
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Serve what reads from and writes to the context, when it says so."""

        async def handle(_: AsyncIterator[bytes], context: _Context) -> None:
            call = Call(context)
            await self._guard(answer(call, context), call, context, descriptor)

        # A handler may return no iterator.
        handler = cast("Callable[..., AsyncIterator[bytes]]", handle)
        return grpc.stream_stream_rpc_method_handler(handler)

    async def _next(self, context: _Context, *, after: int) -> bytes | None:
        """Read from a stream; None at its end. Raises Overloaded if nothing more is read."""

        async def read() -> bytes | None:
            data: object = await self._intake.arrive_next(context.read, after=after)
            return data if isinstance(data, bytes) else None

        return await self._until_drained(read)

    async def _until_drained(self, begin: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Await what `begin` begins, and cancel it when the server drains. Raises Overloaded."""
        if self._draining:
            raise Overloaded
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._waiting.add(limit)
                try:
                    return await begin()
                finally:
                    self._waiting.discard(limit)
        except TimeoutError:
            if limit.expired():
                raise Overloaded from None
            raise

    async def _guard(
        self,
        answer: Awaitable[_Answer],
        call: Call,
        context: _Context,
        descriptor: MethodDescriptor,
    ) -> _Answer:
        """Await the answer to a call, in a span; a failure ends the call with its status."""
        method, traceparent = descriptor.full_name, call.given_traceparent
        with self._tracing.rpc(method, traceparent=traceparent) as span:
            try:
                return await answer
            except SignalpostError as error:
                failure = status.status_of(error)
            except _TooLate as late:
                failure = status.too_late(late.limit_seconds)
            except Exception:
                error_id = self._new_id()
                fields = {"rpc": method, "error_id": error_id}
                _logger.exception("call failed", extra=fields)
                failure = status.internal(error_id)
            end = rpc_status.to_status(failure)
            tracing.rpc_failed(span, end.code.name)
            await context.abort_with_status(end)
        raise AssertionError("a call that was aborted goes on")


def _responder(context: _Context) -> Respond[Message]:
    async def respond(response: Message) -> None:
        data = response.SerializeToString(deterministic=True)
        # Nothing else may hold it while the client takes its time.
        del response
        await context.write(data)

    return respond


class _TooLate(Exception):
    """The time that the server gives to a call is over."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        super().__init__(f"{limit_seconds:g} s")
