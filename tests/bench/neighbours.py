"""A steady load to endpoints of which some are dead, and one dead endpoint with much to come."""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from signalpost.v1.event_service_pb2 import PublishRequest
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from tests.bench.figures import Report, percentiles
from tests.bench.publishing import event
from tests.bench.receiver import Receiver
from tests.bench.server import Server

CALL = 5
"""Events of a call under steady load."""

LATECOMERS_SECONDS = 30.0
"""How long what did not arrive in time is waited for; its latency is at least as long."""


@dataclass(frozen=True)
class Endpoints:
    """URIs by the names of their tenants: each has one endpoint."""

    alive: Mapping[str, str]
    dead: Mapping[str, str]


async def subscribe(server: Server, uris: Mapping[str, str]) -> None:
    """Subscribe an endpoint for each tenant, as customers do: with the defaults."""
    for tenant, uri in uris.items():
        subscription = Subscription(tenant_id=tenant, endpoint_uri=uri)
        await server.subscriptions.CreateSubscription(
            CreateSubscriptionRequest(subscription=subscription)
        )


@dataclass(frozen=True)
class Load:
    """Tenants that are published to in turn, and how many events a second in all."""

    tenants: Sequence[str]
    per_second: float


NOBODY = Load([], 0)


async def alive_and_dead(
    report: Report,
    server: Server,
    receiver: Receiver,
    places: Endpoints,
    *,
    rate: float,
    seconds: float,
) -> None:
    """Measure the healthy without the dead and with them, at the same rate for each endpoint."""
    each = rate / (len(places.alive) + len(places.dead))
    alive = Load(list(places.alive), each * len(places.alive))
    dead = Load(list(places.dead), each * len(places.dead))
    loads = {"healthy, alone": NOBODY, "healthy, beside the dead": dead}
    await beside(report, server, receiver, alive, loads, seconds=seconds)


async def quiet_and_loud(
    report: Report, server: Server, receiver: Receiver, loads: tuple[Load, Load], *, seconds: float
) -> None:
    """Measure the quiet without the loud one and with it."""
    quiet, loud = loads
    times = f"one that publishes {loud.per_second / quiet.per_second:.0f} times as much as all"
    others = {"quiet, alone": NOBODY, f"quiet, beside {times}": loud}
    await beside(report, server, receiver, quiet, others, seconds=seconds)


async def beside(
    report: Report,
    server: Server,
    receiver: Receiver,
    watched: Load,
    loads: Mapping[str, Load],
    *,
    seconds: float,
) -> None:
    """Measure how long what is watched takes beside each load, and compare the last with the first.

    First each of its tenants gets one event. From then on connections are made anew in turn,
    all of them in the time that a connection lasts and the next event takes.
    """
    once = len(watched.tenants) / watched.per_second
    await steadily(server, watched, seconds=once)
    for name, other in loads.items():
        receiver.ask("forget")
        cpu, began = server.cpu_seconds(), time.monotonic()
        sent, _ = await asyncio.gather(
            steadily(server, watched, seconds=seconds), steadily(server, other, seconds=seconds)
        )
        over = time.monotonic()
        used = (server.cpu_seconds() - cpu) / (over - began)
        figures = judged(sent, await arrivals(receiver, sent), began=began, over=over)
        figures |= {"server_load": used, "rss_mib": server.resident_mib()}
        report.add(name, figures)
    first, *_, last = loads
    for name, key, wanted in (
        ("p99", "p99_ms", "2 or less"),
        ("throughput", "per_second", "0.95 or more"),
    ):
        report.ratio(f"{name}, {last} / {first} (wanted: {wanted})", (last, key), (first, key))


async def steadily(server: Server, load: Load, *, seconds: float) -> dict[str, float]:
    """Publish at this rate; return when each event was published."""
    sent: dict[str, float] = {}
    calls: list[asyncio.Task[None]] = []
    turn, began = itertools.cycle(load.tenants), time.monotonic()
    for number in range(int(load.per_second * seconds / CALL)):
        due = began + number * CALL / load.per_second
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        batch = PublishRequest(events=[event(next(turn)) for _ in range(CALL)])
        sent |= dict.fromkeys((one.event_id for one in batch.events), time.monotonic())
        calls.append(asyncio.create_task(publish(server, batch)))
    await asyncio.gather(*calls)
    return sent


async def publish(server: Server, batch: PublishRequest) -> None:
    await server.events.Publish(batch)


async def arrivals(receiver: Receiver, sent: Mapping[str, float]) -> dict[str, float]:
    limit = time.monotonic() + LATECOMERS_SECONDS
    while True:
        times: dict[str, float] = receiver.ask("times")
        if sent.keys() <= times.keys() or time.monotonic() > limit:
            return times
        await asyncio.sleep(0.5)


def judged(
    sent: Mapping[str, float], came: Mapping[str, float], *, began: float, over: float
) -> dict[str, float]:
    """Return how long events took, and how many arrived while they were published."""
    end = max([over, *came.values()])
    in_time = sum(at <= over for name, at in came.items() if name in sent)
    figures = percentiles([came.get(name, end) - at for name, at in sent.items()])
    return {
        "published": len(sent),
        "missing": len(sent.keys() - came.keys()),
        "per_second": in_time / (over - began),
        **figures,
    }


async def waiting(
    report: Report, server: Server, tenant: str, *, count: int, seconds: float
) -> None:
    """Let so many deliveries wait for a dead endpoint, and look at the server meanwhile."""
    batches = iter(range(count // 100))

    async def work() -> None:
        for _ in batches:
            await publish(server, PublishRequest(events=[event(tenant) for _ in range(100)]))

    await asyncio.gather(*(work() for _ in range(4)))
    await asyncio.sleep(5)
    resident, cpu, began = [server.resident_mib()], server.cpu_seconds(), time.monotonic()
    for _ in range(6):
        await asyncio.sleep(seconds / 6)
        resident.append(server.resident_mib())
    used = (server.cpu_seconds() - cpu) / (time.monotonic() - began)
    name = f"one dead endpoint, {count:,} waiting"
    report.add(f"{name}: CPU (wanted: less than 5)", {"percent_of_a_core": used * 100})
    memory = {f"mib_{number}": size for number, size in enumerate(resident)}
    growth = {"growth_mib": resident[-1] - resident[0]}
    report.add(f"{name}: memory over time (wanted: flat)", {**memory, **growth})
