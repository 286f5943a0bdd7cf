"""`make bench`: what the way of an event costs, in figures of one run that can be compared.

Machines differ and are shared: only ratios within a run mean something. Nothing is asserted
about time. Publisher, server and receiver are processes of their own; a figure of which one of
them was the limit says so.
"""

import argparse
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
import uvloop

from tests.bench import delivering, loops, publishing
from tests.bench.delivering import Case
from tests.bench.figures import Figures, Report, Turns
from tests.bench.receiver import Receiver
from tests.bench.server import Baseline, Server

BARE_REQUESTS = 4_000
DEFAULT_HTTPX_REQUESTS = 400
UNARY_CALLS = 1_000
BATCH_CALLS = 40
WARM_UP = 1_000
DELIVERIES = 10_000
DELIVERIES_A_TURN = 4_000
TURNS = 5
"""What is divided by each other is measured by turns, for the machine is not always as fast."""

TEN = Case(10)
TEN_UNSAMPLED = Case(10, unsampled=True)
# There is an exporter, but nothing is sampled.
UNSAMPLED = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_TRACES_SAMPLER": "always_off",
}
CASES = (Case(1), Case(100), Case(10, tenants=10))


@dataclass(frozen=True)
class Bench:
    """Where things are."""

    report: Report
    folder: Path
    ca: Path

    def place(self) -> Path:
        """Return an empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @asynccontextmanager
    async def server(self, uri: str, case: Case) -> AsyncIterator[Server]:
        """Start a server with warm connections to the endpoints of a case."""
        server = Server(self.place(), self.ca)
        if case.unsampled:
            server.environment |= UNSAMPLED
        await server.start()
        for number in range(case.endpoints):
            await server.subscribe(f"{uri}{number}", tenant_id=f"t{number % case.tenants}")
        yield server
        await server.stop()


async def by_turns(bench: Bench, receiver: Receiver, scheme: str) -> None:
    """Measure what a delivery costs beside a request without all that is around it."""
    uri = f"{scheme}://localhost:{receiver.port}/"
    turns = Turns(bench.report)
    async with AsyncExitStack() as stack:
        servers = {
            case: await stack.enter_async_context(bench.server(uri, case))
            for case in (TEN, TEN_UNSAMPLED)
        }
        for case, server in servers.items():
            await delivering.flat_out(server, receiver, case, deliveries=WARM_UP)
        for _ in range(TURNS):
            turns.add("own transport", await loops.own_transport(uri, bench.ca, BARE_REQUESTS))
            turns.add("raw aiohttp", await loops.raw_aiohttp(uri, bench.ca, BARE_REQUESTS))
            for case, server in servers.items():
                figures = await delivering.flat_out(
                    server, receiver, case, deliveries=DELIVERIES_A_TURN
                )
                turns.add(f"end to end, {case}", figures)
        half = turns.median(f"end to end, {TEN}", "deliveries_per_second") / 2
        latency = await delivering.paced(servers[TEN], receiver, TEN, per_second=half, seconds=3)
    turns.report(scheme)
    bench.report.add(f"{scheme}: end to end, {TEN}, at half load", latency)
    for name, above, below in (
        ("CPU of a request, own transport / raw aiohttp", "own transport", "raw aiohttp"),
        ("server CPU of a delivery / of the bare loop", f"end to end, {TEN}", "own transport"),
        (
            "server CPU of a delivery, tracing with nothing sampled / without tracing",
            f"end to end, {TEN_UNSAMPLED}",
            f"end to end, {TEN}",
        ),
    ):
        turns.ratio(f"{scheme}: {name}", (above, "cpu_us"), (below, "cpu_us"))


async def publish(bench: Bench) -> None:
    """Measure how fast events become durable, beside a floor without validation and rendering."""
    turns = Turns(bench.report)
    floor, server = Baseline(bench.place(), bench.ca), Server(bench.place(), bench.ca)
    both = {"floor": floor, "publish": server}
    for one in both.values():
        await one.start()
        await publishing.unary(one, UNARY_CALLS // 4)
    for _ in range(TURNS):
        for name, one in both.items():
            turns.add(f"{name}, unary", await publishing.unary(one, UNARY_CALLS))
            turns.add(f"{name}, batches of 100", await publishing.batches(one, BATCH_CALLS))
        turns.add("publish, stream", await publishing.stream(server, BATCH_CALLS))
    for one in both.values():
        await one.stop()
    turns.report("")
    for way in ("unary", "batches of 100"):
        turns.ratio(
            f"rate of publish / of its floor, {way}",
            (f"publish, {way}", "events_per_second"),
            (f"floor, {way}", "events_per_second"),
        )


async def deliver(bench: Bench, receiver: Receiver, case: Case) -> None:
    """Measure another number of endpoints."""
    async with bench.server(f"https://localhost:{receiver.port}/", case) as server:
        warm = await delivering.flat_out(server, receiver, case, deliveries=WARM_UP)
        figures = await delivering.flat_out(server, receiver, case, deliveries=DELIVERIES)
        rate = min(_rate(figures), _rate(warm))
        figures |= await delivering.paced(server, receiver, case, per_second=rate / 2, seconds=3)
    bench.report.add(f"https: end to end, {case}", figures)


def _rate(figures: Figures) -> float:
    return float(figures["deliveries_per_second"])


async def main(folder: Path, *, only_deliveries: bool) -> None:
    report = Report()
    ca = trustme.CA()
    ca_file, certificate = folder / "ca.pem", folder / "server.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    bench = Bench(report, folder, ca_file)
    with Receiver(certificate) as https, Receiver(None) as http:
        await by_turns(bench, https, "https")
        await by_turns(bench, http, "http")
        if not only_deliveries:
            uri = f"https://localhost:{https.port}/"
            default = await loops.default_httpx(uri, ca_file, DEFAULT_HTTPX_REQUESTS)
            report.add("https: default httpx.AsyncClient", default)
            report.ratio(
                "https: rate end to end, 10 endpoints / default httpx.AsyncClient",
                (f"https: end to end, {TEN}", "deliveries_per_second"),
                ("https: default httpx.AsyncClient", "per_second"),
            )
            await publish(bench)
        for case in CASES:
            await deliver(bench, https, case)
    report.show()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only-deliveries", action="store_true", help="leave out publishing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        uvloop.run(main(Path(place), only_deliveries=arguments.only_deliveries))
    sys.exit(0)
