"""A real server on a real store for the tests of the API, and how to read its failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest
import uuid_utils
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo
from google.rpc.status_pb2 import Status

from signalpost.api.convert_event_types import builtin_event_types
from signalpost.api.server import Server, Services, build_server
from signalpost.api.watching import WatchLimits
from signalpost.delivery.handshake import Handshaker
from signalpost.delivery.probe import Prober
from signalpost.delivery.statistics import Statistics
from signalpost.delivery.turns import Turns
from signalpost.domain.address import EgressPolicy
from signalpost.domain.ids import LaneId
from signalpost.domain.lane import Lane
from signalpost.domain.outcome import AttemptResult, outcome_of_status
from signalpost.ports import WebhookRequest
from signalpost.ports.consent import OptionsAnswer
from signalpost.process import Share
from signalpost.publishing.catalogue import Catalogue
from signalpost.publishing.event_types import EventTypes
from signalpost.publishing.publish import Publisher
from signalpost.publishing.repair import Repairer
from signalpost.publishing.replay import Replayer
from signalpost.store import Store
from signalpost.subscriptions.changing import Changer
from signalpost.subscriptions.endpoints import EndpointRules
from signalpost.subscriptions.keys import KeyRing
from signalpost.subscriptions.lifecycle import Lifecycle
from signalpost.subscriptions.register import Registrar
from signalpost.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.event_service_pb2 import ListEventsRequest, PublishRequest, PublishResponse
from signalpost.v1.event_service_pb2_grpc import EventServiceStub
from signalpost.v1.event_type_service_pb2 import CreateEventTypeRequest, EventType
from signalpost.v1.event_type_service_pb2_grpc import EventTypeServiceStub
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.subscription_service_pb2 import (
    CreateSubscriptionRequest,
    CreateSubscriptionResponse,
)
from signalpost.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from tests.contract.blank import lay_out

if TYPE_CHECKING:
    from signalpost.v1.delivery_service_pb2_grpc import DeliveryServiceAsyncStub
    from signalpost.v1.event_service_pb2_grpc import EventServiceAsyncStub
    from signalpost.v1.event_type_service_pb2_grpc import EventTypeServiceAsyncStub
    from signalpost.v1.subscription_service_pb2_grpc import SubscriptionServiceAsyncStub

START = datetime(2026, 3, 5, 6, 7, 8, 123456, tzinfo=UTC)
HOOK = "https://hooks.example.com/in"
# grpc lets a client take more and more ahead of what it reads, the slower its machine answers.
STEADY_WINDOW: Final = (("grpc.http2.bdp_probe", 0),)


PLENTY = Share.of(files=65_536, memory=2**36, attempts=512, kept=2000)


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def wall(self) -> datetime:
        return self.moment

    def move(self, span: timedelta) -> None:
        self.moment += span


@dataclass
class LaneRecorder:
    """Keeps what the delivery side would be told."""

    noticed: list[tuple[set[Lane], datetime]] = field(default_factory=list)
    forgotten: list[LaneId] = field(default_factory=list)
    throttled: set[LaneId] = field(default_factory=set)

    def notice(self, lanes: Iterable[Lane], *, due: datetime) -> None:
        self.noticed.append((set(lanes), due))

    def hasten(self, lane: Lane, *, due: datetime) -> None:
        self.notice([lane], due=due)

    def resume(self, lane: Lane, *, due: datetime) -> None:
        self.notice([lane], due=due)

    def forget(self, lane_id: LaneId) -> None:
        self.forgotten.append(lane_id)

    def is_throttled(self, lane_id: LaneId, *, now: datetime) -> bool:
        return lane_id in self.throttled


class NoNetwork:
    """A sender for tests in which nothing is sent."""

    async def send(self, request: WebhookRequest) -> AttemptResult:
        raise AssertionError(f"sent to {request.endpoint_uri}")


@dataclass
class Asked:
    """Answers OPTIONS requests as it is told, and keeps them; `meanwhile` runs before it does."""

    status: int = 405
    headers: tuple[tuple[str, str], ...] = ()
    requests: list[WebhookRequest] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def options(self, request: WebhookRequest) -> OptionsAnswer:
        self.requests.append(request)
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            await meanwhile()
        outcome = outcome_of_status(self.status)
        result = AttemptResult(outcome=outcome, latency=timedelta(0), status_code=self.status)
        return OptionsAnswer(result, self.headers)

    def agree(self, *, rate: str | None = None) -> None:
        """Agree to everything from now on."""
        self.status = 200
        rates = () if rate is None else (("WebHook-Allowed-Rate", rate),)
        self.headers = (("WebHook-Allowed-Origin", "*"), *rates)


def new_id() -> str:
    return str(uuid_utils.uuid7())


def build(store: Store, lanes: LaneRecorder, clock: HandClock, asked: Asked) -> Services:
    changer = Changer(store, clock=clock)
    keys = KeyRing(changer, new_id=new_id, entropy=token_bytes)
    registrar = Registrar(
        store,
        lanes=lanes,
        clock=clock,
        new_id=new_id,
        keys=keys,
        endpoints=EndpointRules(policy=EgressPolicy(), dev=False),
        asker=Handshaker(
            asked, origin="signalpost.test", user_agent="Signalpost/test", turns=Turns()
        ),
    )
    catalogue = Catalogue(store, builtins=builtin_event_types())
    return Services(
        publisher=Publisher(store, catalogue=catalogue, lanes=lanes, clock=clock, new_id=new_id),
        catalogue=catalogue,
        event_types=EventTypes(store, catalogue=catalogue, clock=clock),
        registrar=registrar,
        keys=keys,
        lifecycle=Lifecycle(changer, lanes=lanes),
        prober=Prober(NoNetwork(), clock=clock, user_agent="Signalpost/test", turns=Turns()),
        repairer=Repairer(store.repairs, deliveries=store, lanes=lanes, clock=clock),
        replayer=Replayer(store.repairs, lanes=lanes, clock=clock),
        clock=clock,
        events=store,
        subscriptions=store,
        deliveries=store,
        statistics=Statistics(store.counts, lanes=lanes, clock=clock),
        log=store.watching,
        changes=store.watching,
        new_id=new_id,
        page_token_key=store.page_token_key,
    )


class Service:
    """The service as its clients see it, and what lies behind it."""

    def __init__(
        self, server: Server, channel: grpc.aio.Channel, *, store: Store, lanes: LaneRecorder
    ) -> None:
        self.server = server
        self.channel = channel
        self.store = store
        self.lanes = lanes
        self.clock = HandClock()
        self.asked = Asked()
        self.events: EventServiceAsyncStub = EventServiceStub(channel)
        self.subscriptions: SubscriptionServiceAsyncStub = SubscriptionServiceStub(channel)
        self.deliveries: DeliveryServiceAsyncStub = DeliveryServiceStub(channel)
        self.event_types: EventTypeServiceAsyncStub = EventTypeServiceStub(channel)

    async def publish(
        self, *events: Event, validate_only: bool = False, metadata: Any = None
    ) -> PublishResponse:
        request = PublishRequest(events=events, validate_only=validate_only)
        return await self.events.Publish(request, metadata=metadata)

    async def subscribe(self, **fields: Any) -> CreateSubscriptionResponse:
        subscription = Subscription(**{"endpoint_uri": HOOK, **fields})
        request = CreateSubscriptionRequest(subscription=subscription)
        return await self.subscriptions.CreateSubscription(request)

    async def register(self, name: str, **fields: Any) -> EventType:
        request = CreateEventTypeRequest(event_type=EventType(name=name, **fields))
        return (await self.event_types.CreateEventType(request)).event_type

    async def stored(self) -> list[Event]:
        response = await self.events.ListEvents(ListEventsRequest(tenant_id="-", page_size=1000))
        return list(response.events)

    async def raw(self, method: str, data: bytes) -> bytes:
        """Send bytes as they are."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self.channel.unary_unary(f"/signalpost.v1.{method}")
        return await call(data)


@asynccontextmanager
async def running(
    folder: Path, *, watch_limits: WatchLimits | None = None, share: Share = PLENTY
) -> AsyncIterator[Service]:
    """Run a server on an ephemeral port with a store in a folder."""
    store = await Store.open(lay_out(folder / "test.db"), master_key=bytes(32))
    lanes, clock, asked = LaneRecorder(), HandClock(), Asked()
    try:
        services = replace(
            build(store, lanes, clock, asked), watch_limits=watch_limits or WatchLimits()
        )
        await services.catalogue.load()
        server = build_server(services, address="127.0.0.1:0", reflection=True, share=share)
        await server.start()
        replaying = asyncio.create_task(services.replayer.run())
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{server.port}", options=STEADY_WINDOW
        ) as channel:
            service = Service(server, channel, store=store, lanes=lanes)
            service.clock = clock
            service.asked = asked
            yield service
        replaying.cancel()
        await server.drain(timedelta(0))
    finally:
        await store.aclose()


def event(**fields: Any) -> Event:
    """Make an event that is accepted, unless the fields say otherwise."""
    defaults: dict[str, Any] = {"resource": Resource(id="acc_1")}
    members = {one.name for one in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
    if not members & set(fields):
        defaults["account_connected"] = {"integration": "gmail"}
    return Event(**(defaults | fields))


@dataclass(frozen=True)
class Failure:
    """How a call failed."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    violations: dict[str, str]
    resource: tuple[str, str] | None
    details: list[str]
    raw: bytes


async def failure_of(call: Awaitable[object]) -> Failure:
    """Await a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    trailers = dict(error.trailing_metadata())
    raw = trailers.get("grpc-status-details-bin", b"")
    assert isinstance(raw, bytes)
    status = Status.FromString(raw)
    info, bad, resource = ErrorInfo(), BadRequest(), ResourceInfo()
    for detail in status.details:
        for kind in (info, bad, resource):
            detail.Unpack(kind)
    return Failure(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        violations={one.field: one.reason for one in bad.field_violations},
        resource=(resource.resource_type, resource.resource_name)
        if resource.resource_name
        else None,
        details=[detail.type_url.rpartition(".")[2] for detail in status.details],
        raw=raw,
    )
