"""One trace from a publisher to the receiver, as a collector and the receiver see it."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from signalpost.v1 import subscription_service_pb2 as rpc
from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import GetEventRequest, PublishRequest, PublishStreamRequest
from signalpost.v1.subscription_pb2 import Subscription
from tests.e2e.collector import Collector, Silence, attributes, header
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

PARENT = "00f067aa0ba902b7"
TRACE = f"00-4bf92f3577b34da6a3ce929d0e0e4736-{PARENT}-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
THIRD = "00-12345678901234567890123456789012-1234567890123456-01"
UNSAMPLED = TRACE.removesuffix("01") + "00"

CROWDED = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "20",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "3600",
}
"""Less room than there are spans, and an exporter that would wait for ever."""

AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "10"}
"""Spans are exported as they end, not up to five seconds later."""

PHASES = {
    f"signalpost.phase.{phase}_seconds" for phase in ("dns", "connect", "tls", "write", "wait")
}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


@pytest.fixture
async def traced(service: Service, collector: Collector) -> Service:
    """A running service that exports its traces."""
    service.environment = collector.environment
    return await service.start()


async def publish(service: Service, *events: Event, **metadata: str) -> None:
    await service.events.Publish(
        PublishRequest(events=events), metadata=tuple(metadata.items()), timeout=30
    )


async def ended(service: Service) -> None:
    """Let all deliveries end, and stop the service: then all spans were exported."""
    assert {one.state for one in await service.drained()} == {Delivery.SUCCEEDED}
    assert await service.stop() == 0


CALL = {
    "rpc.system.name": "grpc",
    "rpc.method": "signalpost.v1.EventService/Publish",
    "rpc.response.status_code": "OK",
}
ACCEPT = {
    "messaging.system": "signalpost",
    "messaging.operation.name": "accept",
    "messaging.operation.type": "send",
    "messaging.batch.message_count": 1,
    "signalpost.event_id": "event",
    "signalpost.event_type": "account.connected",
    "signalpost.tenant_id": "acme",
}
POST = {
    "http.request.method": "POST",
    "http.response.status_code": 200,
    "server.address": "localhost",
    "signalpost.subscription_id": "s",
    "signalpost.event_id": "event",
    "signalpost.event_type": "account.connected",
    "signalpost.tenant_id": "acme",
    "signalpost.attempt": 1,
    "signalpost.outcome": "SUCCEEDED",
    "signalpost.verdict": "succeeded",
}
"""Attributes of the three spans of an event that is taken at once."""


ASKED = {
    "http.request.method": "OPTIONS",
    "http.response.status_code": 200,
    "server.address": "localhost",
    "signalpost.subscription_id": "s",
    "signalpost.outcome": "SUCCEEDED",
}
"""Attributes of the span of a handshake."""


def shape(span: Span) -> tuple[str, str]:
    return span.name, Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")


def timed(span: Span) -> tuple[dict[str, Any], dict[str, float]]:
    """The attributes of a span: those that a test can foretell, and how long the phases took."""
    found = attributes(span.attributes)
    phases = {name: found.pop(name) for name in PHASES & found.keys()}
    return found, phases


async def test_a_handshake_is_part_of_the_trace_of_its_call(
    traced: Service, receiver: Receiver, collector: Collector
) -> None:
    receiver.consent = {"WebHook-Allowed-Origin": "*"}
    subscription = Subscription(
        subscription_id="s", endpoint_uri=receiver.url("/hook?key=1"), require_handshake=True
    )
    await traced.subscriptions.CreateSubscription(
        rpc.CreateSubscriptionRequest(subscription=subscription),
        metadata=(("traceparent", TRACE),),
    )
    assert await traced.stop() == 0
    call, asked = collector.trace(TRACE)
    assert asked.parent_span_id == call.span_id
    assert shape(asked) == ("OPTIONS", "CLIENT")
    known, phases = timed(asked)
    assert known == ASKED | {"url.full": receiver.url("/hook"), "server.port": receiver.port}
    assert phases
    assert "traceparent" not in receiver.requests[0].headers


async def test_one_trace_leads_from_the_publisher_to_the_receiver(
    traced: Service, receiver: Receiver, collector: Collector
) -> None:
    await traced.subscribe(receiver.url("/hook"), subscription_id="s", tenant_id="acme")
    event = connected("event")
    event.tenant_id = "acme"
    await publish(traced, event, traceparent=TRACE, tracestate="a=b", baggage="a=b")
    [delivery] = await traced.drained()
    await ended(traced)
    call, accept, post = collector.trace(TRACE)
    assert call.parent_span_id.hex() == PARENT
    assert accept.parent_span_id == call.span_id
    assert post.parent_span_id == accept.span_id
    assert delivery.traceparent == header(accept)
    [request] = receiver.requests
    assert request.headers["traceparent"] == header(post)
    assert not {"tracestate", "baggage"} & request.headers.keys()
    assert [shape(span) for span in (call, accept, post)] == [
        ("signalpost.v1.EventService/Publish", "SERVER"),
        ("accept", "PRODUCER"),
        ("POST", "CLIENT"),
    ]
    assert attributes(call.attributes) == CALL
    assert attributes(accept.attributes) == ACCEPT
    known, phases = timed(post)
    assert known == POST | {
        "url.full": receiver.url("/hook"),
        "server.port": receiver.port,
        "signalpost.delivery_id": delivery.delivery_id,
    }
    assert PHASES - {"signalpost.phase.dns_seconds"} <= phases.keys()
    duration = (post.end_time_unix_nano - post.start_time_unix_nano) / 1e9
    assert 0 < sum(phases.values()) <= duration
    assert not any(span.HasField("status") and span.status.code for span in (call, accept, post))
    assert collector.resource["service.name"] == "signalpost"


async def test_failed_attempts_say_why_and_stay_in_the_trace(
    traced: Service, receiver: Receiver, collector: Collector
) -> None:
    async def fail_once(request: Request) -> int:
        return 503 if request.number == 0 else 200

    receiver.answer = fail_once
    await traced.subscribe(receiver.url())
    await publish(traced, connected(), traceparent=TRACE)
    await ended(traced)
    _, accept, first, second = collector.trace(TRACE)
    assert first.parent_span_id == second.parent_span_id == accept.span_id
    assert [one.headers["traceparent"] for one in receiver.requests] == [
        header(first),
        header(second),
    ]
    of_first, of_second = attributes(first.attributes), attributes(second.attributes)
    assert of_first["http.response.status_code"] == 503
    assert of_first["error.type"] == "503"
    assert of_first["signalpost.outcome"] == "REJECTED"
    assert of_first["signalpost.verdict"] == "retry"
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert of_second["http.request.resend_count"] == 1
    assert "error.type" not in of_second


async def test_an_event_of_another_trace_is_accepted_there(
    traced: Service, receiver: Receiver, collector: Collector
) -> None:
    await traced.subscribe(receiver.url())
    events = [connected(name) for name in ("a", "b", "c", "d")]
    events[0].traceparent, events[1].traceparent = OTHER, THIRD
    await publish(traced, *events, traceparent=TRACE)
    await ended(traced)
    call, *own = collector.trace(TRACE)
    assert [span.name for span in own] == ["accept", "POST", "POST"]
    assert attributes(own[0].attributes)["messaging.batch.message_count"] == 2
    for traceparent, name in ((OTHER, "a"), (THIRD, "b")):
        accept, post = collector.trace(traceparent)
        assert accept.parent_span_id.hex() == traceparent.split("-")[2]
        assert [(one.trace_id, one.span_id) for one in accept.links] == [
            (call.trace_id, call.span_id)
        ]
        [request] = [one for one in receiver.requests if one.event_id == name]
        assert request.headers["traceparent"] == header(post)


async def test_a_stream_is_one_span_with_one_for_each_request(
    traced: Service, receiver: Receiver, collector: Collector
) -> None:
    await traced.subscribe(receiver.url())
    requests = [PublishStreamRequest(events=[connected(name)]) for name in ("a", "b")]
    answers = traced.events.PublishStream(iter(requests), metadata=(("traceparent", TRACE),))
    assert len([answer async for answer in answers]) == 2
    await ended(traced)
    call, *others = collector.trace(TRACE)
    assert shape(call) == ("signalpost.v1.EventService/PublishStream", "SERVER")
    accepts = [span for span in others if span.name == "accept"]
    assert [span.parent_span_id for span in accepts] == [call.span_id] * 2
    assert sorted(span.name for span in others) == ["POST", "POST", "accept", "accept"]


async def test_a_test_of_a_subscription_goes_from_the_call_to_the_receiver(
    traced: Service, receiver: Receiver, collector: Collector
) -> None:
    await traced.subscribe(receiver.url(), subscription_id="s")
    await traced.subscriptions.TestSubscription(
        rpc.TestSubscriptionRequest(subscription_id="s"), metadata=(("traceparent", TRACE),)
    )
    assert await traced.stop() == 0
    call, post = collector.trace(TRACE)
    assert shape(call) == ("signalpost.v1.SubscriptionService/TestSubscription", "SERVER")
    assert post.parent_span_id == call.span_id
    assert receiver.requests[0].headers["traceparent"] == header(post)


@pytest.mark.parametrize("sampler", ["parentbased_always_on", "always_on"])
async def test_what_is_not_sampled_is_passed_on_and_not_exported(
    service: Service, receiver: Receiver, collector: Collector, sampler: str
) -> None:
    service.environment = collector.environment | {"OTEL_TRACES_SAMPLER": sampler}
    await service.start()
    await service.subscribe(receiver.url())
    quiet = connected("own")
    quiet.traceparent = UNSAMPLED
    await publish(service, connected("quiet"), traceparent=UNSAMPLED)
    await publish(service, connected("loud"), quiet, traceparent=OTHER)
    await ended(service)
    sent = {one.event_id: one.headers["traceparent"] for one in receiver.requests}
    assert sent["quiet"] == sent["own"] == UNSAMPLED
    assert collector.trace(UNSAMPLED) == []
    assert sent["loud"] == header(collector.trace(OTHER)[-1])


async def test_a_decision_not_to_sample_holds_up_to_the_receiver(
    service: Service, receiver: Receiver, collector: Collector
) -> None:
    service.environment = collector.environment | {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    await service.start()
    await service.subscribe(receiver.url())
    await publish(service, connected("untraced"))
    await publish(service, connected("traced"), traceparent=TRACE)
    await ended(service)
    sent = {one.event_id: one.headers["traceparent"] for one in receiver.requests}
    assert int(sent["untraced"].rpartition("-")[2], 16) & 1 == 0
    assert collector.trace(sent["untraced"]) == []
    assert len(collector.trace(TRACE)) == 3


async def test_refused_calls_say_with_what(traced: Service, collector: Collector) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await traced.events.GetEvent(GetEventRequest(event_id="none"))
    with pytest.raises(grpc.aio.AioRpcError):
        await traced.events.Publish(PublishRequest())
    assert await traced.stop() == 0
    spans = collector.spans(lambda _: True)
    assert [attributes(span.attributes)["rpc.response.status_code"] for span in spans] == [
        "NOT_FOUND",
        "INVALID_ARGUMENT",
    ]
    assert not any("error.type" in attributes(span.attributes) for span in spans)


async def test_no_span_holds_a_secret(
    traced: Service, receiver: Receiver, collector: Collector
) -> None:
    canary = "c4n4ry"
    subscription = Subscription(
        subscription_id="s",
        endpoint_uri=receiver.url(f"/hook?key={canary}"),
        headers={"x-api-key": canary},
    )
    created = await traced.subscriptions.CreateSubscription(
        rpc.CreateSubscriptionRequest(subscription=subscription)
    )
    rotated = await traced.subscriptions.RotateSubscriptionSecret(
        rpc.RotateSubscriptionSecretRequest(subscription_id="s", overlap=Duration(seconds=60))
    )
    event = connected("event")
    event.account_connected.integration = canary
    await publish(traced, event, traceparent=TRACE, authorization=canary, baggage=canary)
    await traced.subscriptions.TestSubscription(rpc.TestSubscriptionRequest(subscription_id="s"))
    await ended(traced)
    assert [one.headers["x-api-key"] for one in receiver.requests] == [canary] * 2
    assert attributes(collector.trace(TRACE)[-1].attributes)["url.full"] == receiver.url("/hook")
    exported = b"".join(export.SerializeToString() for export in collector.exports)
    for secret in (canary, created.secret, rotated.secret):
        assert secret.removeprefix("whsec_").encode() not in exported


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ],
    ids=["disabled", "none"],
)
async def test_nothing_is_connected_to_if_the_variables_say_so(
    service: Service, receiver: Receiver, environment: dict[str, str]
) -> None:
    async with Silence() as silence:
        service.environment = silence.environment | AT_ONCE | environment
        await service.start()
        await service.subscribe(receiver.url())
        await publish(service, connected("off"), traceparent=TRACE)
        await ended(service)
        assert receiver.requests[0].headers["traceparent"] == TRACE
        assert silence.connections == 0
        service.environment = silence.environment | AT_ONCE
        await service.start()
        await publish(service, connected("on"), traceparent=TRACE)
        await silence.connected()


async def test_without_variables_nothing_that_exports_is_loaded(
    service: Service, receiver: Receiver
) -> None:
    service.environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    await service.start()
    await service.subscribe(receiver.url())
    await publish(service, connected(), traceparent=TRACE)
    await ended(service)
    assert receiver.requests[0].headers["traceparent"] == TRACE
    loaded = {line.rpartition("|")[2].strip() for line in service.log}
    assert "opentelemetry.trace" in loaded
    assert not [
        name
        for name in loaded
        if name.startswith(
            ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp", "opentelemetry.proto")
        )
    ]


@pytest.mark.parametrize(
    "nonsense", [b"", b"HTTP/1.1 200 OK\r\n\r\n" * 1000], ids=["silent", "nonsense"]
)
async def test_a_collector_that_is_silent_or_talks_nonsense_holds_nothing_up(
    service: Service, receiver: Receiver, nonsense: bytes
) -> None:
    async with Silence(nonsense) as silence:
        service.environment = silence.environment | CROWDED
        await service.start()
        await service.subscribe(receiver.url())
        await publish(service, *(connected() for _ in range(100)))
        await ended(service)
        await silence.connected()
    assert len(receiver.requests) == 100


async def test_a_collector_that_is_away_holds_nothing_up(
    service: Service, receiver: Receiver
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        service.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **CROWDED}
        await service.start()
        await service.subscribe(receiver.url())
        await publish(service, *(connected() for _ in range(100)))
        await ended(service)
    assert len(receiver.requests) == 100
