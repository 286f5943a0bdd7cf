"""In which trace an attempt stands, and what its span and its request say."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode, format_span_id, format_trace_id

from signalpost.domain.errors import StorageFull
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import RetryPolicy
from signalpost.store import Store
from signalpost.telemetry.tracing import CONTINUED, Tracing
from tests.contract.material import NOW, event, subscription
from tests.delivery.engine import Engine

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
POLICY = RetryPolicy(min_backoff=CONTINUED / 100, max_backoff=CONTINUED / 100)


@dataclass
class Traced:
    """An engine with the spans that ended."""

    engine: Engine
    exporter: InMemorySpanExporter

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    @property
    def sent(self) -> list[str]:
        return [request.headers["traceparent"] for request in self.engine.sender.requests]

    async def retry_after(self, seconds: float, *, traceparent: str = "") -> None:
        """Fail the first attempt, and make the second one so long after the acceptance."""
        engine = self.engine
        await engine.store.create(subscription(retry_policy=POLICY))
        stored = event("event")
        if traceparent:
            stored = replace(stored, traceparent=traceparent)
        for accepted in await engine.store.accept([stored], now=NOW):
            engine.lanes.notice(accepted.lanes, due=NOW)
        engine.sender.outcomes = [Outcome.TIMED_OUT]
        await engine.work()
        engine.clock.advance(seconds=seconds)
        await engine.work()
        assert len(engine.sender.requests) == 2


def tracing_to(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider.get_tracer("test"))


@pytest.fixture
def traced(store: Store) -> Traced:
    exporter = InMemorySpanExporter()
    return Traced(Engine(store, tracing=tracing_to(exporter)), exporter)


def context(span: ReadableSpan) -> SpanContext:
    found: SpanContext = span.context
    return found


def header(span: ReadableSpan) -> str:
    one = context(span)
    flags = f"{one.trace_flags:02x}"
    return f"00-{format_trace_id(one.trace_id)}-{format_span_id(one.span_id)}-{flags}"


def parent_of(span: ReadableSpan) -> str:
    return "" if span.parent is None else format_span_id(span.parent.span_id)


async def test_attempts_within_five_minutes_go_on_in_the_trace(traced: Traced) -> None:
    await traced.retry_after(CONTINUED.total_seconds())
    assert [parent_of(span) for span in traced.spans] == [SPAN_ID] * 2
    assert {format_trace_id(context(span).trace_id) for span in traced.spans} == {TRACE_ID}
    assert traced.sent == [header(span) for span in traced.spans]
    assert not any(span.links for span in traced.spans)


async def test_a_later_attempt_has_a_trace_of_its_own_and_is_linked(traced: Traced) -> None:
    await traced.retry_after(CONTINUED.total_seconds() + 0.001)
    first, late = traced.spans
    assert format_trace_id(context(first).trace_id) == TRACE_ID
    assert late.parent is None
    assert context(late).trace_id != context(first).trace_id
    [link] = late.links
    assert (format_trace_id(link.context.trace_id), format_span_id(link.context.span_id)) == (
        TRACE_ID,
        SPAN_ID,
    )
    assert traced.sent[1] == header(late)


@pytest.mark.parametrize("seconds", [10, 1000])
async def test_what_is_not_sampled_is_never_recorded(traced: Traced, seconds: float) -> None:
    unsampled = f"00-{TRACE_ID}-{SPAN_ID}-00"
    await traced.retry_after(seconds, traceparent=unsampled)
    assert traced.sent == [unsampled] * 2
    assert not traced.spans


async def test_a_span_tells_of_a_failure_what_its_record_does(traced: Traced) -> None:
    await traced.retry_after(10)
    failed, succeeded = (dict(span.attributes or {}) for span in traced.spans)
    assert failed["signalpost.outcome"] == failed["error.type"] == "TIMED_OUT"
    assert failed["signalpost.verdict"] == "retry"
    assert failed["signalpost.attempt"] == 1
    assert succeeded["signalpost.attempt"] == 2
    assert "error.type" not in succeeded
    assert [span.status.status_code for span in traced.spans] == [
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert not any(span.events or span.status.description for span in traced.spans)


@pytest.mark.parametrize(
    ("error", "status"),
    [(StorageFull, StatusCode.ERROR), (asyncio.CancelledError, StatusCode.UNSET)],
)
def test_storing_that_is_cancelled_has_not_failed(
    error: type[BaseException], status: StatusCode
) -> None:
    exporter = InMemorySpanExporter()
    with suppress(error), tracing_to(exporter).accepting([event("e1")]):
        raise error
    [span] = exporter.get_finished_spans()
    assert (span.name, span.status.status_code) == ("accept", status)
