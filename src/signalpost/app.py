"""The composition root: builds every part by hand, owns every lifetime, drains at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

import uuid_utils

from signalpost import __version__, failpoints, signals
from signalpost.api.convert_event_types import builtin_event_types
from signalpost.api.server import AddressUnavailable, Server, Services, build_server
from signalpost.api.watching import WatchLimits
from signalpost.clock import SteadyClock
from signalpost.delivery.attempt import Attempter
from signalpost.delivery.handshake import Handshaker
from signalpost.delivery.lanes import LaneHome
from signalpost.delivery.limiter import Limiter
from signalpost.delivery.probe import Prober
from signalpost.delivery.pruner import Pruner
from signalpost.delivery.rescuer import Rescuer
from signalpost.delivery.statistics import Statistics
from signalpost.delivery.suspender import Suspender
from signalpost.delivery.targets import Targets
from signalpost.delivery.turns import Turns
from signalpost.delivery.upkeep import hold_after
from signalpost.delivery.worker import SLOTS, Worker
from signalpost.domain.errors import SignalpostError
from signalpost.domain.verdict import JITTER_MAX, JITTER_MIN
from signalpost.egress import Egress, EgressRefused, Reload
from signalpost.health import HealthServer, Page
from signalpost.process import Share, memory_limit, raise_limit, settle_down, spare_memory
from signalpost.publishing.catalogue import Catalogue
from signalpost.publishing.event_types import EventTypes
from signalpost.publishing.publish import Publisher
from signalpost.publishing.repair import Repairer
from signalpost.publishing.replay import Replayer
from signalpost.publishing.schemas import SchemaInvalid
from signalpost.sender.guard import Listener
from signalpost.sender.pool import MAX_IDLE
from signalpost.sender.sender import HttpSender
from signalpost.settings import Address, Settings
from signalpost.store import DatabaseRefused, MasterKeyInvalid, Store
from signalpost.subscriptions.changing import Changer
from signalpost.subscriptions.keys import KeyRing
from signalpost.subscriptions.lifecycle import Lifecycle
from signalpost.subscriptions.register import Registrar
from signalpost.telemetry import export
from signalpost.telemetry.metrics import Lookout, observe
from signalpost.telemetry.tracing import UNTRACED, Tracing

GRACE: Final = timedelta(seconds=20)
"""How long attempts under way may take to end when the service stops."""

USER_AGENT: Final = f"Signalpost/{__version__}"

_CALL_GRACE: Final = timedelta(seconds=5)
_RECORD_GRACE: Final = timedelta(seconds=5)

_logger = logging.getLogger(__name__)


class StartFailed(Exception):
    """The service cannot start; the message is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A service that serves: where its two listeners are, as `host:port`."""

    grpc_address: str
    http_address: str


async def serve(
    settings: Settings,
    *,
    read_anew: Callable[[], Settings],
    ready: Callable[[Running], None] | None = None,
) -> None:
    """Run the service until SIGTERM or SIGINT, then drain. A second one ends it at once.

    On SIGHUP the settings are read anew by `read_anew`, which raises SettingsInvalid; what they
    say of the way out holds from then on. Raises StartFailed.
    """
    stop, asked = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        signals.let_end(loop)
        stop.set()

    signals.heed(loop, {**dict.fromkeys(signals.ENDING, end), signals.RELOADING: asked.set})
    if stop.is_set():
        return
    async with running(settings, reload=Reload(asked, read_anew)) as service:
        settle_down()
        if ready is not None:
            ready(service)
        await stop.wait()
    _logger.info("stopped")


@asynccontextmanager
async def running(settings: Settings, *, reload: Reload | None = None) -> AsyncIterator[Running]:
    """Run the service while the context lasts. Raises StartFailed.

    If one of its loops fails, the body is cancelled and the failure comes out.
    """
    if settings.failpoint is not None:
        failpoints.arm(settings.failpoint)
    async with AsyncExitStack() as stack:
        parts = await _build(settings, stack)
        async with asyncio.TaskGroup() as loops:
            working = loops.create_task(parts.worker.run())
            keeping = [
                loops.create_task(loop)
                for loop in (parts.rescuer.run(), parts.replayer.run(), parts.egress.sender.run())
            ]
            if reload is not None:
                keeping.append(loops.create_task(parts.egress.run(reload)))
            await parts.server.start()
            keeping += [loops.create_task(part.run(hold=parts.hold)) for part in parts.upkeep]
            _logger.info("serving", extra={"grpc": parts.grpc, "http": str(parts.health.address)})
            try:
                yield Running(parts.grpc, str(parts.health.address))
            finally:
                await _drain(parts, working)
                for task in keeping:
                    task.cancel()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is started and drained."""

    grpc: str
    server: Server
    health: HealthServer
    worker: Worker
    rescuer: Rescuer
    replayer: Replayer
    egress: Egress
    upkeep: tuple[Pruner | Limiter, ...]
    hold: timedelta


async def _build(settings: Settings, stack: AsyncExitStack) -> _Parts:
    """Build everything, bound but not serving yet; what must be closed is put on the stack."""
    clock = SteadyClock()
    store = await _open_store(settings)
    stack.push_async_callback(store.aclose)
    own: set[Listener] = set()
    share = Share.of(files=raise_limit(), memory=memory_limit(), attempts=SLOTS, kept=MAX_IDLE)
    spare_memory(share.memory)
    await store.bound_caches(share.cache_bytes)
    egress = _build_egress(settings, own, max_idle=share.kept)
    sender = egress.sender
    stack.push_async_callback(sender.aclose)
    tracing, metrics = _begin_telemetry(stack, store)
    lanes = LaneHome(host_limit=settings.host_concurrency, host_failures=settings.host_failure_rate)
    worker = _worker(store, sender, lanes=lanes, clock=clock, tracing=tracing, slots=share.attempts)
    rescuer = Rescuer(queue=store, subscriptions=store, lanes=lanes, clock=clock)
    await rescuer.start()
    services = _services(
        settings,
        store,
        egress,
        catalogue=await _load_catalogue(store),
        lanes=lanes,
        clock=clock,
        tracing=tracing,
    )
    server = _bind(services, settings, share)
    pages = _pages(metrics, store, services.statistics)
    health = _start_health(settings, store, worker, pages)
    stack.push_async_callback(asyncio.to_thread, health.stop)
    grpc = Address(settings.listen.host, server.port)
    own |= _sockets(grpc) | _sockets(health.address)
    upkeep = (
        Pruner(store.upkeep, counts=store.counts, clock=clock, retention=settings.retention),
        Limiter(store.upkeep, lanes=lanes, clock=clock, limit=settings.lane_limit),
    )
    hold = hold_after(last=store.last_accept_time, now=clock.now())
    return _Parts(
        str(grpc), server, health, worker, rescuer, services.replayer, egress, upkeep, hold
    )


async def _drain(parts: _Parts, working: asyncio.Task[None]) -> None:
    """Take no calls, start no attempts, and let what is under way end within its grace."""
    _logger.info("draining", extra={"grace_seconds": GRACE.total_seconds()})
    parts.worker.drain(grace=GRACE)
    ended = asyncio.wait([working], timeout=(GRACE + _RECORD_GRACE).total_seconds())
    _, (_, late) = await asyncio.gather(parts.server.drain(_CALL_GRACE), ended)
    for task in late:
        _logger.error("storage did not take the last outcomes; they will be made again")
        task.cancel()


def _begin_telemetry(stack: AsyncExitStack, store: Store) -> tuple[Tracing, export.Metrics | None]:
    telemetry = export.begin(os.environ, store.counts.totals.durations)
    # Before the store is closed: the last metrics tell what waits in it.
    stack.push_async_callback(telemetry.aclose)
    tracing = UNTRACED if telemetry.traces is None else Tracing(telemetry.traces.tracer)
    return tracing, telemetry.metrics


def _pages(
    metrics: export.Metrics | None, store: Store, statistics: Statistics
) -> Mapping[str, Page]:
    if metrics is None:
        return {}
    observe(metrics.meter, store.counts.totals, Lookout(statistics.overview))
    return {"/metrics": Page(metrics.text, export.TEXT_TYPE)}


async def _open_store(settings: Settings) -> Store:
    try:
        store = await Store.open(settings.database, master_key=settings.master_key)
    except MasterKeyInvalid as error:
        raise StartFailed(str(error)) from None
    except DatabaseRefused as error:
        raise StartFailed(f"--database (SIGNALPOST_DATABASE_URL): {error}") from None
    if store.made_key_file is not None:
        _logger.warning(
            "made a master key in %s: move it to a safe place and name that in"
            " SIGNALPOST_MASTER_KEY_FILE; without it the secrets of this database are lost",
            store.made_key_file,
        )
    return store


async def _load_catalogue(store: Store) -> Catalogue:
    catalogue = Catalogue(store, builtins=builtin_event_types())
    try:
        await catalogue.load()
    except SchemaInvalid as error:
        raise StartFailed(str(error)) from None
    return catalogue


def _build_egress(settings: Settings, own: set[Listener], *, max_idle: int) -> Egress:
    try:
        return Egress(settings, own_listeners=lambda: own, max_idle=max_idle)
    except EgressRefused as refused:
        raise StartFailed(str(refused)) from None


def _worker(
    store: Store,
    sender: HttpSender,
    *,
    lanes: LaneHome,
    clock: SteadyClock,
    tracing: Tracing,
    slots: int,
) -> Worker:
    attempter = Attempter(
        targets=Targets(store),
        sender=sender,
        clock=clock,
        jitter=lambda: random.uniform(JITTER_MIN, JITTER_MAX),  # noqa: S311 - it spreads load
        user_agent=USER_AGENT,
        tracing=tracing,
    )
    return Worker(
        queue=store,
        lanes=lanes,
        attempter=attempter,
        suspender=Suspender(store.suspensions, lanes=lanes, clock=clock, new_id=_new_id),
        clock=clock,
        slots=slots,
    )


def _services(
    settings: Settings,
    store: Store,
    egress: Egress,
    *,
    catalogue: Catalogue,
    lanes: LaneHome,
    clock: SteadyClock,
    tracing: Tracing,
) -> Services:
    changer = Changer(store, clock=clock)
    keys = KeyRing(changer, new_id=_new_id, entropy=secrets.token_bytes)
    prober, handshaker = _callers(settings, egress, clock=clock, tracing=tracing)
    return Services(
        publisher=Publisher(
            store, catalogue=catalogue, lanes=lanes, clock=clock, new_id=_new_id, tracing=tracing
        ),
        catalogue=catalogue,
        event_types=EventTypes(store, catalogue=catalogue, clock=clock),
        registrar=_registrar(store, egress, handshaker, lanes=lanes, clock=clock, keys=keys),
        keys=keys,
        lifecycle=Lifecycle(changer, lanes=lanes),
        prober=prober,
        repairer=Repairer(store.repairs, deliveries=store, lanes=lanes, clock=clock),
        replayer=Replayer(store.repairs, lanes=lanes, clock=clock),
        clock=clock,
        events=store,
        subscriptions=store,
        deliveries=store,
        statistics=Statistics(store.counts, lanes=lanes, clock=clock),
        log=store.watching,
        changes=store.watching,
        watch_limits=WatchLimits(streams=settings.watch_limit),
        new_id=_new_id,
        page_token_key=store.page_token_key,
        tracing=tracing,
    )


def _callers(
    settings: Settings, egress: Egress, *, clock: SteadyClock, tracing: Tracing
) -> tuple[Prober, Handshaker]:
    sender, turns = egress.sender, Turns()
    prober = Prober(sender, clock=clock, user_agent=USER_AGENT, turns=turns, tracing=tracing)
    handshaker = Handshaker(
        sender,
        origin=settings.handshake_origin,
        user_agent=USER_AGENT,
        turns=turns,
        tracing=tracing,
    )
    return prober, handshaker


def _registrar(
    store: Store,
    egress: Egress,
    handshaker: Handshaker,
    *,
    lanes: LaneHome,
    clock: SteadyClock,
    keys: KeyRing,
) -> Registrar:
    return Registrar(
        store,
        lanes=lanes,
        clock=clock,
        new_id=_new_id,
        keys=keys,
        endpoints=egress.endpoints,
        asker=handshaker,
    )


def _new_id() -> str:
    return str(uuid_utils.uuid7())


def _bind(services: Services, settings: Settings, share: Share) -> Server:
    try:
        return build_server(
            services, address=str(settings.listen), reflection=settings.reflection, share=share
        )
    except AddressUnavailable as error:
        raise StartFailed(f"--listen (SIGNALPOST_LISTEN): {error}") from None


def _start_health(
    settings: Settings, store: Store, worker: Worker, pages: Mapping[str, Page]
) -> HealthServer:
    async def ready() -> str | None:
        if not worker.is_alive:
            return "draining"
        try:
            await store.check_writable()
        except SignalpostError as error:
            return str(error)
        return None

    try:
        health = HealthServer(settings.http, ready=ready, pages=pages)
    except OSError as error:
        problem = f"cannot listen on {settings.http}: {error.strerror}"
        raise StartFailed(f"--http (SIGNALPOST_HTTP): {problem}") from None
    health.start()
    return health


def _sockets(address: Address) -> set[Listener]:
    hosts = ("127.0.0.1", "::1") if address.host == "localhost" else (address.host,)
    return {(ip_address(host), address.port) for host in hosts}
