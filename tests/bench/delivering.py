"""From a Publish in batches of 100 to the arrival at the receiver, through the whole service."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import PublishRequest
from tests.bench.figures import Figures, loads, percentiles
from tests.bench.publishing import BATCH, event
from tests.bench.receiver import Receiver
from tests.bench.server import Server


@dataclass(frozen=True)
class Case:
    """Endpoints that belong to so many tenants in equal parts. An event goes to all of one."""

    endpoints: int
    tenants: int = 1
    unsampled: bool = False

    @property
    def fan_out(self) -> int:
        return self.endpoints // self.tenants

    def __str__(self) -> str:
        """Name it as the figures do."""
        who = "endpoint" if self.endpoints == 1 else "endpoints"
        turns = " by turns" if self.tenants > 1 else ""
        how = ", unsampled" * self.unsampled
        return f"{self.endpoints} {who}{turns}{how}"


async def flat_out(
    server: Server, receiver: Receiver, case: Case, *, deliveries: int, tenant: str = "t"
) -> Figures:
    """Publish as fast as it goes, wait for the last arrival, and count per delivery."""
    numbers = range(deliveries // case.fan_out)
    events = [event(f"{tenant}{number % case.tenants}") for number in numbers]
    receiver.ask("forget")
    cpu, receiver_cpu = await server.settled(), receiver.ask("cpu")
    began, publisher_cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(_publish(server, batch) for batch in _batches(events)))
    await asyncio.to_thread(receiver.wait_for, deliveries)
    elapsed = max(receiver.ask("times").values()) - began
    publisher_used = time.process_time() - publisher_cpu
    receiver_used = receiver.ask("cpu") - receiver_cpu
    used = await server.settled() - cpu
    return {
        "deliveries_per_second": deliveries / elapsed,
        "cpu_us": used / deliveries * 1e6,
    } | loads(elapsed, server=used, receiver=receiver_used, publisher=publisher_used)


async def paced(
    server: Server, receiver: Receiver, case: Case, *, per_second: float, seconds: float
) -> dict[str, float]:
    """Publish at a steady pace, and time each event to its last arrival.

    `per_second` counts deliveries; a batch makes about a hundred of them.
    """
    size = max(1, BATCH // case.fan_out)
    batches_per_second = per_second / (size * case.fan_out)
    published: dict[str, float] = {}
    receiver.ask("forget")
    calls: list[asyncio.Task[None]] = []
    began = time.monotonic()
    for number in range(int(batches_per_second * seconds)):
        due = began + number / batches_per_second
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        batch = [event(f"t{(number * size + n) % case.tenants}") for n in range(size)]
        published |= dict.fromkeys((one.event_id for one in batch), time.monotonic())
        calls.append(asyncio.create_task(_publish(server, batch)))
    await asyncio.gather(*calls)
    await asyncio.to_thread(receiver.wait_for, len(published) * case.fan_out)
    times = receiver.ask("times")
    return percentiles([times[name] - sent for name, sent in published.items()])


def _batches(events: Sequence[Event]) -> list[Sequence[Event]]:
    return [events[at : at + BATCH] for at in range(0, len(events), BATCH)]


async def _publish(server: Server, events: Sequence[Event]) -> None:
    await server.events.Publish(PublishRequest(events=events))
