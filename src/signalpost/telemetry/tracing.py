"""One trace from the call of a publisher to the webhook that it caused.

    rpc (SERVER) → accept (PRODUCER) → POST (CLIENT)

What goes on from a span to the next one, to storage and to the receiver, is a `traceparent`
(W3C Trace Context) and nothing else: neither `tracestate` nor baggage. Without a tracer that
of the publisher goes on as it came, and so does one that is not sampled, whatever the sampler
of this service: then nothing is recorded, and nothing later is.

What a span may tell stands here and nowhere else: nothing of payloads, no header, no secret,
and of an endpoint neither user nor query. Names are those of the semantic conventions for
RPC, messaging and HTTP; beside them there is `signalpost.*`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.util.types import AttributeValue

from signalpost.domain.delivery import Lease
from signalpost.domain.event import Event
from signalpost.domain.ids import delivery_id
from signalpost.domain.outcome import AttemptResult, Outcome, Timings
from signalpost.domain.subscription import Subscription
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict

CONTINUED: Final = timedelta(minutes=5)
"""How long after its acceptance an event's attempts are part of its publisher's trace."""

_FAULTS_OF_THE_SERVER: Final = frozenset(
    {"DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"}
)
_NO_SPAN: Final = nullcontext(INVALID_SPAN)
_Attributes = Mapping[str, AttributeValue]


class Tracing:
    """Begins the spans of the service. Without a tracer there are none."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    def rpc(self, method: str, *, traceparent: Callable[[], str]) -> AbstractContextManager[Span]:
        """Put a call into a span that is the current one within; `method` is its full name.

        It ends as OK, or as CANCELLED; else say before how it failed: `rpc_failed`.
        """
        if self._tracer is None or not _may_be_sampled(given := traceparent()):
            return _NO_SPAN
        return _rpc(self._tracer, method, traceparent=given)

    def accepting(self, events: Sequence[Event]) -> Acceptance:
        """Begin the spans in which events are stored, and tell which to store."""
        if self._tracer is None:
            return Acceptance(events)
        groups: dict[str, list[Event]] = {}
        for event in events:
            if _may_be_sampled(event.traceparent):
                groups.setdefault(event.traceparent, []).append(event)
        if not groups:
            return Acceptance(events)
        spans = {
            traceparent: _accept(self._tracer, group, traceparent=traceparent)
            for traceparent, group in groups.items()
        }
        going_on = {former: carried(span, former) for former, span in spans.items()}
        traced = [
            replace(event, traceparent=going_on.get(event.traceparent, event.traceparent))
            for event in events
        ]
        return Acceptance(traced, tuple(spans.values()))

    def attempt(self, lease: Lease, *, start: datetime) -> AbstractContextManager[Span]:
        """Put an attempt into a span: long after acceptance in a trace of its own, linked."""
        if self._tracer is None or not _may_be_sampled(lease.traceparent):
            return _NO_SPAN
        attributes = _identity(lease) | {
            "signalpost.delivery_id": delivery_id(lease.key),
            "signalpost.attempt": lease.number,
        }
        if lease.number > 1:
            attributes["http.request.resend_count"] = lease.number - 1
        is_late = start - lease.accept_time > CONTINUED
        return _request(
            self._tracer, "POST", attributes, traceparent=lease.traceparent, own_trace=is_late
        )

    def test(self, event: Event) -> AbstractContextManager[Span]:
        """Put a test of a subscription into a span."""
        if self._tracer is None or not _may_be_sampled(event.traceparent):
            return _NO_SPAN
        return _request(self._tracer, "POST", _identity(event), traceparent=event.traceparent)

    def handshake(self) -> AbstractContextManager[Span]:
        """Put a request for the consent of an endpoint into a span, under that of the call."""
        if self._tracer is None or not _may_be_sampled(call := current("")):
            return _NO_SPAN
        return _request(self._tracer, "OPTIONS", {}, traceparent=call)


UNTRACED: Final = Tracing()


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Spans that last while this context does: one for each trace that events belong to.

    `events` are to be stored: they go on from these spans.
    """

    events: Sequence[Event]
    spans: tuple[Span, ...] = ()

    def __enter__(self) -> Self:
        """Go on in the spans."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the spans, as failed if storing did; of one that was cancelled nobody knows."""
        for span in self.spans:
            if kind is not None and not issubclass(kind, asyncio.CancelledError):
                _failed(span, kind.__name__)
            span.end()


def carried(span: Span, former: str) -> str:
    """Return the `traceparent` that goes on from a span: its own if it is recorded.

    Otherwise the `former` one; if there is none, that of the span, so that nothing later is
    recorded either. Empty without a span.
    """
    context = span.get_span_context()
    if not context.is_valid or (former and not span.is_recording()):
        return former
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def current(former: str) -> str:
    """Return what goes on from the span of this call, or `former`, as `carried` does."""
    return carried(get_current_span(), former)


def rpc_failed(span: Span, code: str) -> None:
    """Say with which status a call failed, by its name, such as "NOT_FOUND"."""
    span.set_attribute("rpc.response.status_code", code)
    if code in _FAULTS_OF_THE_SERVER:
        _failed(span, code)


def aimed(span: Span, subscription: Subscription) -> None:
    """Say where the request of an attempt goes."""
    if not span.is_recording():
        return
    uri = urlsplit(subscription.endpoint_uri)
    host = uri.hostname or ""
    port = uri.port or (443 if uri.scheme == "https" else 80)
    authority = uri.netloc.rpartition("@")[2]
    span.set_attributes(
        {
            "signalpost.subscription_id": subscription.subscription_id,
            "url.full": f"{uri.scheme}://{authority}{uri.path}",
            "server.address": host,
            "server.port": port,
        }
    )


def attempted(span: Span, result: AttemptResult, verdict: Verdict | None = None) -> None:
    """Say how an attempt ended, and what follows."""
    if not span.is_recording():
        return
    span.set_attribute("signalpost.outcome", result.outcome.name)
    if verdict is not None:
        span.set_attribute("signalpost.verdict", _word(verdict))
    if result.status_code:
        span.set_attribute("http.response.status_code", result.status_code)
    if result.error_code:
        span.set_attribute("signalpost.error_code", result.error_code)
    span.set_attributes(_phases(result.timings))
    if result.outcome is not Outcome.SUCCEEDED:
        _failed(span, str(result.status_code or result.outcome.name))


@contextmanager
def _rpc(tracer: Tracer, method: str, *, traceparent: str) -> Iterator[Span]:
    name = "/".join(method.rsplit(".", 1))
    span = tracer.start_span(
        name,
        context=_under(traceparent),
        kind=SpanKind.SERVER,
        attributes={"rpc.system.name": "grpc", "rpc.method": name},
    )
    with _within(span):
        try:
            yield span
        except asyncio.CancelledError:
            rpc_failed(span, "CANCELLED")
            raise
        else:
            span.set_attribute("rpc.response.status_code", "OK")


def _accept(tracer: Tracer, events: Sequence[Event], *, traceparent: str) -> Span:
    span = tracer.start_span(
        "accept",
        context=_under(traceparent),
        kind=SpanKind.PRODUCER,
        attributes={
            "messaging.system": "signalpost",
            "messaging.operation.name": "accept",
            "messaging.operation.type": "send",
        },
    )
    if span.is_recording():
        _link_call(span)
        span.set_attribute("messaging.batch.message_count", len(events))
        if len(events) == 1:
            span.set_attribute("signalpost.event_id", events[0].event_id)
        span.set_attributes(_shared("signalpost.event_type", {one.event_type for one in events}))
        span.set_attributes(_shared("signalpost.tenant_id", {one.tenant_id for one in events}))
    return span


def _link_call(span: Span) -> None:
    """Link the call under way to a span of another trace."""
    call = get_current_span().get_span_context()
    if call.is_valid and call.trace_id != span.get_span_context().trace_id:
        span.add_link(call)


def _request(
    tracer: Tracer,
    method: str,
    attributes: _Attributes,
    *,
    traceparent: str,
    own_trace: bool = False,
) -> AbstractContextManager[Span]:
    span = tracer.start_span(
        method,
        context=Context() if own_trace else _under(traceparent),
        kind=SpanKind.CLIENT,
        attributes={"http.request.method": method, **attributes},
        links=[Link(_parsed(traceparent))] if own_trace and traceparent else None,
    )
    return _within(span)


def _within(span: Span) -> AbstractContextManager[Span]:
    # Texts of exceptions may hold anything.
    return use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def _may_be_sampled(traceparent: str) -> bool:
    """Tell whether there is no decision against it: the lowest bit of the flags."""
    return not traceparent or int(traceparent[-1], 16) & 1 == 1


def _under(traceparent: str) -> Context:
    """Return a context that holds a parent, if there is one, and no baggage."""
    if not traceparent:
        return Context()
    parent = _parsed(traceparent)
    call = get_current_span().get_span_context()
    if (call.trace_id, call.span_id) == (parent.trace_id, parent.span_id):
        parent = call
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _parsed(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


def _failed(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)


def _identity(one: Lease | Event) -> dict[str, AttributeValue]:
    return {
        "signalpost.event_id": one.event_id,
        "signalpost.event_type": one.event_type,
        "signalpost.tenant_id": one.tenant_id,
    }


def _shared(name: str, values: set[str]) -> dict[str, AttributeValue]:
    """Return the attribute if all have the same value."""
    return {name: next(iter(values))} if len(values) == 1 else {}


def _phases(timings: Timings) -> dict[str, AttributeValue]:
    phases = {
        "dns": timings.dns,
        "connect": timings.connect,
        "tls": timings.tls,
        "write": timings.write,
        "wait": timings.wait,
    }
    return {
        f"signalpost.phase.{phase}_seconds": span.total_seconds()
        for phase, span in phases.items()
        if span is not None
    }


def _word(verdict: Verdict) -> str:
    match verdict:
        case Succeed():
            return "succeeded"
        case RetryAt():
            return "retry"
        case GiveUp(reason):
            return f"gave up: {reason.name}"
