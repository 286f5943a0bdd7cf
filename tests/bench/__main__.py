"""`make bench`: what the way of an event costs, in figures of one run that can be compared.

Machines differ and are shared: only ratios within a run mean something. Nothing is asserted
about time. Receiver and server are processes of their own; where one of them is the bottleneck
its load is near 1, and the figures say so.
"""

import sys
import tempfile
from pathlib import Path

import trustme
import uvloop

from tests.bench import delivering, loops, publishing
from tests.bench.figures import Report
from tests.bench.receiver import Receiver
from tests.bench.server import Server

BARE_REQUESTS = 8_000
DEFAULT_HTTPX_REQUESTS = 600
UNARY_CALLS = 3_000
BATCH_CALLS = 150
DELIVERIES = 8_000


async def bare_loops(report: Report, receiver: Receiver, scheme: str, ca: Path) -> None:
    uri = f"{scheme}://localhost:{receiver.port}/"
    name = f"bare loop, {scheme}"
    report.add(f"{name}: own transport", **await loops.own_transport(uri, ca, BARE_REQUESTS))
    report.add(f"{name}: raw aiohttp", **await loops.raw_aiohttp(uri, ca, BARE_REQUESTS))


async def publish(report: Report, folder: Path, ca: Path) -> None:
    server = await Server(folder, ca).start()
    report.add("publish: unary", **await publishing.unary(server, UNARY_CALLS))
    report.add("publish: batches of 100", **await publishing.batches(server, BATCH_CALLS))
    report.add("publish: stream", **await publishing.stream(server, BATCH_CALLS))
    await server.stop()


async def deliver(
    report: Report, receiver: Receiver, scheme: str, *, folder: Path, ca: Path, endpoints: int
) -> None:
    folder.mkdir()
    server = await Server(folder, ca).start()
    for number in range(endpoints):
        uri = f"{scheme}://localhost:{receiver.port}/{number}"
        await server.subscribe(uri, tenant_id=f"t{number}")
    warm = await delivering.flat_out(server, receiver, endpoints=endpoints, deliveries=1_000)
    figures = await delivering.flat_out(
        server, receiver, endpoints=endpoints, deliveries=DELIVERIES
    )
    half = min(figures["deliveries_per_second"], warm["deliveries_per_second"]) / 2
    figures |= await delivering.paced(
        server, receiver, endpoints=endpoints, per_second=half, seconds=3
    )
    report.add(f"end to end, {scheme}, {endpoints} endpoints", **figures)
    await server.stop()


async def main(folder: Path) -> None:
    report = Report()
    ca = trustme.CA()
    ca_file, certificate = folder / "ca.pem", folder / "server.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    with Receiver(certificate) as https, Receiver(None) as http:
        for scheme, receiver in (("http", http), ("https", https)):
            await bare_loops(report, receiver, scheme, ca_file)
        uri = f"http://localhost:{http.port}/"
        default = await loops.default_httpx(uri, ca_file, DEFAULT_HTTPX_REQUESTS)
        report.add("bare loop, http: default httpx.AsyncClient", **default)
        await publish(report, folder, ca_file)
        cases = [
            ("http", http, 10),
            ("https", https, 1),
            ("https", https, 10),
            ("https", https, 100),
        ]
        for scheme, receiver, endpoints in cases:
            place = folder / f"{scheme}-{endpoints}"
            await deliver(report, receiver, scheme, folder=place, ca=ca_file, endpoints=endpoints)
    ratios(report)
    report.show()


def ratios(report: Report) -> None:
    for scheme in ("http", "https"):
        bare, ours = f"bare loop, {scheme}: own transport", f"end to end, {scheme}, 10 endpoints"
        report.ratio(
            f"{scheme} CPU of a request, own transport / raw aiohttp",
            (bare, "cpu_us"),
            (f"bare loop, {scheme}: raw aiohttp", "cpu_us"),
        )
        report.ratio(
            f"{scheme} CPU of a delivery / of the bare loop",
            (ours, "server_cpu_us"),
            (bare, "cpu_us"),
        )
    report.ratio(
        "rate end to end / default httpx.AsyncClient",
        ("end to end, http, 10 endpoints", "deliveries_per_second"),
        ("bare loop, http: default httpx.AsyncClient", "per_second"),
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        uvloop.run(main(Path(place)))
    sys.exit(0)
