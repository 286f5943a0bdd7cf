"""The gRPC server: which services it has, and its life from binding to draining."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2

from signalpost.api import reflection as reflection_service
from signalpost.api.boundary import Boundary
from signalpost.api.deliveries import DeliveryServicer
from signalpost.api.delivery_streams import DeliveryStreams
from signalpost.api.event_streams import EventStreams
from signalpost.api.event_types import EventTypeServicer
from signalpost.api.events import EventServicer
from signalpost.api.intake import Intake
from signalpost.api.paging import Pager
from signalpost.api.probes import serve_health
from signalpost.api.probing import Rehearsal
from signalpost.api.subscriptions import SubscriptionServicer
from signalpost.api.watching import Watchers, WatchLimits
from signalpost.delivery.probe import Prober
from signalpost.delivery.statistics import Statistics
from signalpost.ports import Clock, DeliveryReader, EventStore, SubscriptionStore
from signalpost.ports.watching import DeliveryChanges, EventLog
from signalpost.process import Share
from signalpost.publishing.catalogue import Catalogue
from signalpost.publishing.event_types import EventTypes
from signalpost.publishing.publish import Publisher
from signalpost.publishing.repair import Repairer
from signalpost.publishing.replay import Replayer
from signalpost.subscriptions.keys import KeyRing
from signalpost.subscriptions.lifecycle import Lifecycle
from signalpost.subscriptions.register import Registrar
from signalpost.telemetry.tracing import UNTRACED, Tracing
from signalpost.v1 import (
    delivery_service_pb2,
    event_service_pb2,
    event_type_service_pb2,
    subscription_service_pb2,
)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""What the transport lets through. Beyond it gRPC answers by itself, without our details."""

_OPTIONS: Final = (
    # Otherwise a second server on the port would take every other connection.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # What is not read stays with the client, but for so much of each call. Left to itself, gRPC
    # takes in megabytes of each over a fast network.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    # A connection that says nothing for ten seconds after it was made is closed.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Clients behind NAT may ping every ten seconds, also without a call under way.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Dead clients are found out within two minutes.
    ("grpc.keepalive_time_ms", 90_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def _options(share: Share) -> list[tuple[str, int]]:
    """Say how the transport is to be; calls that come faster than they are begun may wait.

    Left to itself, gRPC cancels some beyond a thousand of them, and all beyond three thousand.
    What one connection has too many of it refuses: that, unlike CANCELLED, says to try again.
    """
    names = (
        "grpc.max_concurrent_streams",
        "grpc.server.max_pending_requests",
        "grpc.server.max_pending_requests_hard_limit",
    )
    return [*_OPTIONS, *((name, share.pending) for name in names)]


_Health = health.aio.HealthServicer


class AddressUnavailable(Exception):
    """The server cannot listen where it should."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"cannot listen on {address}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What calls end up in. `new_id` names failures; `page_token_key` is secret."""

    publisher: Publisher
    catalogue: Catalogue
    event_types: EventTypes
    registrar: Registrar
    keys: KeyRing
    lifecycle: Lifecycle
    prober: Prober
    repairer: Repairer
    replayer: Replayer
    clock: Clock
    events: EventStore
    subscriptions: SubscriptionStore
    deliveries: DeliveryReader
    statistics: Statistics
    log: EventLog
    changes: DeliveryChanges
    new_id: Callable[[], str]
    page_token_key: bytes = field(repr=False)
    tracing: Tracing = UNTRACED
    watch_limits: WatchLimits = field(default_factory=WatchLimits)


class Server:
    """A bound server. `port` is where it listens."""

    def __init__(
        self,
        server: grpc.aio.Server,
        boundary: Boundary,
        *,
        port: int,
        names: tuple[str, ...],
        checks: _Health,
    ) -> None:
        self.port = port
        self._server = server
        self._boundary = boundary
        self._names = names
        self._health = checks

    async def start(self) -> None:
        """Begin to serve."""
        for name in self._names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def drain(self, grace: timedelta) -> None:
        """Tell health checks that it ends, take no new calls, and give those under way `grace`."""
        await self._health.enter_graceful_shutdown()
        self._boundary.drain()
        await self._server.stop(grace.total_seconds())


def build_server(services: Services, *, address: str, reflection: bool, share: Share) -> Server:
    """Build a server and bind it to `address` (`host:port`, port 0 for any that is free).

    Call it in the event loop it is to run in. Raises AddressUnavailable.
    """
    server = grpc.aio.server(options=_options(share))
    intake = Intake(share)
    boundary = Boundary(new_id=services.new_id, tracing=services.tracing, intake=intake)
    servicers = _servicers(services, intake)
    for descriptor, servicer in servicers.items():
        server.add_generic_rpc_handlers((boundary.handlers(descriptor, servicer),))
    names = tuple(descriptor.full_name for descriptor in servicers)
    checks = _Health()
    serve_health(server, checks, intake.probes)
    if reflection:
        reflection_service.enable(server, names)
    return Server(server, boundary, port=_bind(server, address), names=names, checks=checks)


def _servicers(services: Services, intake: Intake) -> Mapping[ServiceDescriptor, object]:
    pager = Pager(services.page_token_key)
    watchers = Watchers(services.watch_limits)
    return {
        event_service_pb2.DESCRIPTOR.services_by_name["EventService"]: EventServicer(
            services.publisher,
            events=services.events,
            streams=EventStreams(services.log, watchers=watchers, pager=pager),
            pager=pager,
            intake=intake,
        ),
        event_type_service_pb2.DESCRIPTOR.services_by_name["EventTypeService"]: EventTypeServicer(
            services.event_types, catalogue=services.catalogue, pager=pager
        ),
        subscription_service_pb2.DESCRIPTOR.services_by_name[
            "SubscriptionService"
        ]: SubscriptionServicer(
            services.registrar,
            keys=services.keys,
            lifecycle=services.lifecycle,
            rehearsal=_rehearsal(services),
            subscriptions=services.subscriptions,
            catalogue=services.catalogue,
            pager=pager,
        ),
        delivery_service_pb2.DESCRIPTOR.services_by_name["DeliveryService"]: DeliveryServicer(
            services.deliveries,
            streams=DeliveryStreams(services.changes, watchers=watchers),
            repairer=services.repairer,
            replayer=services.replayer,
            statistics=services.statistics,
            pager=pager,
        ),
    }


def _rehearsal(services: Services) -> Rehearsal:
    return Rehearsal(
        services.publisher,
        catalogue=services.catalogue,
        prober=services.prober,
        clock=services.clock,
    )


def _bind(server: grpc.aio.Server, address: str) -> int:
    # First by a socket: grpc does not say why it cannot, but to standard error.
    if problem := _obstacle(address):
        raise AddressUnavailable(address, problem)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise AddressUnavailable(address, "is it in use, or not of this machine?")
    return port


def _obstacle(address: str) -> str | None:
    """Say why nothing can listen on `host:port`, if so; of a name one address is enough."""
    host, _, port = address.rpartition(":")
    try:
        places = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:  # where nothing says what localhost is
        return error.strerror
    problem = None
    for family, kind, *_, place in places:
        try:
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            problem = error.strerror
        else:
            return None
    return problem
