"""`make bench-backlog`: whether it matters how much waits.

The same ten thousand lanes of a hundred tenants drain with two deliveries waiting in each,
and with a hundred. Then events go to ten endpoints end to end beside an empty store, and
beside what is left in those lanes while they are paused. Nothing is asserted about time.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import trustme
import uvloop

from signalpost.domain.event import Event, Resource
from signalpost.domain.ids import EventId, KeyId, SubscriptionId, TenantId
from signalpost.domain.subscription import Algorithm, SigningKey, State, Subscription
from signalpost.ports import PageRequest, SubscriptionQuery
from signalpost.store import Store
from tests.bench import delivering
from tests.bench.delivering import Case
from tests.bench.figures import Figures, Report
from tests.bench.loops import BODY
from tests.bench.receiver import Receiver
from tests.bench.server import Server

TENANTS = 100
LANES_OF_A_TENANT = 100
LANES = TENANTS * LANES_OF_A_TENANT
FEW, MANY = 2 * LANES, 100 * LANES
FIRST, MEASURED = 2_000, 12_000
TEN = Case(10)


async def fill(folder: Path, *, port: int, waiting: int) -> None:
    """Make a store with the lanes, and so many deliveries in all."""
    store = await open_store(folder)
    now = datetime.now(UTC)
    for tenant in range(TENANTS):
        numbers = range(tenant * LANES_OF_A_TENANT, (tenant + 1) * LANES_OF_A_TENANT)
        await asyncio.gather(
            *(store.create(subscription(number, port=port, now=now)) for number in numbers)
        )
    for _ in range(waiting // (TENANTS * LANES_OF_A_TENANT)):
        await store.accept([event(tenant, now=now) for tenant in range(TENANTS)], now=now)
    await store.aclose()


async def pause_all(folder: Path) -> None:
    store = await open_store(folder)
    now = datetime.now(UTC)
    after: str | None = None
    while True:
        page = PageRequest(size=LANES_OF_A_TENANT, after=after)
        found = await store.list_subscriptions(SubscriptionQuery(tenant_id=None), page)
        paused = (
            replace(one, state=State.PAUSED, stop_time=now)
            for one in found.items
            if isinstance(one, Subscription)
        )
        await asyncio.gather(*(store.replace(one, now=now) for one in paused))
        if (after := found.next_after) is None:
            break
    await store.aclose()


async def open_store(folder: Path) -> Store:
    return await Store.open(f"sqlite:///{folder / 'signalpost.db'}", master_key=None)


def subscription(number: int, *, port: int, now: datetime) -> Subscription:
    key = SigningKey(
        key_id=KeyId("key"), algorithm=Algorithm.HMAC_SHA256, secret=bytes(32), create_time=now
    )
    return Subscription(
        subscription_id=SubscriptionId(f"s{number}"),
        tenant_id=TenantId(f"t{number // LANES_OF_A_TENANT}"),
        endpoint_uri=f"http://localhost:{port}/{number}",
        signing_keys=(key,),
        create_time=now,
        update_time=now,
    )


def event(tenant: int, *, now: datetime) -> Event:
    return Event(
        event_id=EventId(uuid4().hex),
        tenant_id=TenantId(f"t{tenant}"),
        event_type="account.connected",
        resource=Resource("account", "acc_42"),
        body=BODY,
        digest=bytes(32),
        traceparent="",
        publish_time=now,
    )


async def drain(server: Server, receiver: Receiver) -> Figures:
    """Start on what waits, and see how fast it goes out."""
    receiver.ask("forget")
    began = time.monotonic()
    await server.start()
    serving = time.monotonic()
    await asyncio.to_thread(receiver.wait_for, 1)
    first = time.monotonic()
    await asyncio.to_thread(receiver.wait_for, FIRST)
    cpu, counted = server.cpu_seconds(), time.monotonic()
    await asyncio.to_thread(receiver.wait_for, FIRST + MEASURED)
    elapsed = time.monotonic() - counted
    figures: Figures = {
        "deliveries_per_second": MEASURED / elapsed,
        "cpu_us": (server.cpu_seconds() - cpu) / MEASURED * 1e6,
        "start_to_serving_s": serving - began,
        "start_to_first_attempt_s": first - began,
        "peak_rss_mib": server.peak_rss_mib(),
    }
    await server.kill()
    return figures


async def end_to_end(server: Server, receiver: Receiver) -> Figures:
    """Publish to ten endpoints beside what waits."""
    await server.start()
    for number in range(TEN.endpoints):
        await server.subscribe(f"http://localhost:{receiver.port}/{number}", tenant_id="live0")
    await delivering.flat_out(server, receiver, TEN, deliveries=1_000, tenant="live")
    figures = await delivering.flat_out(server, receiver, TEN, deliveries=MEASURED, tenant="live")
    figures["peak_rss_mib"] = server.peak_rss_mib()
    await server.kill()
    return figures


async def main(place: Path) -> None:
    report = Report()
    ca = place / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    folders = {name: place / name for name in ("few", "many", "empty")}
    for folder in folders.values():
        folder.mkdir()
    with Receiver(None) as receiver:
        for name, waiting in (("few", FEW), ("many", MANY)):
            sys.stderr.write(f"{waiting:,} deliveries are put into {LANES:,} lanes ...\n")
            await fill(folders[name], port=receiver.port, waiting=waiting)
            server = Server(folders[name], ca)
            report.add(f"drain, {waiting:,} waiting", await drain(server, receiver))
        await pause_all(folders["many"])
        for name in ("empty", "many"):
            server = Server(folders[name], ca)
            what = "an empty store" if name == "empty" else f"about {MANY:,} waiting"
            report.add(f"end to end, {what}", await end_to_end(server, receiver))
    ratios(report, ((f"drain, {MANY:,} waiting", f"drain, {FEW:,} waiting"),))
    ratios(report, ((f"end to end, about {MANY:,} waiting", "end to end, an empty store"),))
    report.show()


def ratios(report: Report, pairs: Iterable[tuple[str, str]]) -> None:
    for above, below in pairs:
        report.ratio(
            f"rate, {above} / {below} (wanted: 0.8 or more)",
            (above, "deliveries_per_second"),
            (below, "deliveries_per_second"),
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder_name:
        uvloop.run(main(Path(folder_name)))
