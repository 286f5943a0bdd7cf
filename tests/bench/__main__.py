"""`make bench`: what the way of an event costs, in figures of one run that can be compared.

Machines differ and are shared: only ratios within a run mean something. Nothing is asserted
about time. Publisher, server and receiver are processes of their own; a figure of which one of
them was the limit says so.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import trustme
import uvloop

from tests.bench import delivering, loops, publishing
from tests.bench.delivering import Case
from tests.bench.figures import Figures, Report
from tests.bench.receiver import Receiver
from tests.bench.server import Baseline, Server

BARE_REQUESTS = 8_000
DEFAULT_HTTPX_REQUESTS = 400
UNARY_CALLS = 2_000
BATCH_CALLS = 100
WARM_UP = 1_000
DELIVERIES = 10_000

TEN = Case(10)
TEN_BY_TURNS = Case(10, tenants=10)
TEN_UNSAMPLED = Case(10, unsampled=True)
# There is an exporter, but nothing is sampled.
UNSAMPLED = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_TRACES_SAMPLER": "always_off",
}
CASES = (
    ("https", Case(1)),
    ("https", TEN),
    ("https", Case(100)),
    ("https", TEN_BY_TURNS),
    ("https", TEN_UNSAMPLED),
    ("http", TEN),
)


async def bare_loops(report: Report, receiver: Receiver, scheme: str, ca: Path) -> None:
    uri = f"{scheme}://localhost:{receiver.port}/"
    name = f"bare loop, {scheme}"
    report.add(f"{name}: own transport", await loops.own_transport(uri, ca, BARE_REQUESTS))
    report.add(f"{name}: raw aiohttp", await loops.raw_aiohttp(uri, ca, BARE_REQUESTS))


async def publish(report: Report, folder: Path, ca: Path) -> None:
    for name, server in (("floor", Baseline(folder, ca)), ("publish", Server(folder, ca))):
        await server.start()
        await publishing.unary(server, UNARY_CALLS // 4)
        report.add(f"{name}: unary", await publishing.unary(server, UNARY_CALLS))
        report.add(f"{name}: batches of 100", await publishing.batches(server, BATCH_CALLS))
        if name == "publish":
            report.add(f"{name}: stream", await publishing.stream(server, BATCH_CALLS))
        await server.stop()


def _rate(figures: Figures) -> float:
    return float(figures["deliveries_per_second"])


async def deliver(
    report: Report, receiver: Receiver, scheme: str, *, folder: Path, ca: Path, case: Case
) -> None:
    folder.mkdir()
    server = Server(folder, ca)
    if case.unsampled:
        server.environment |= UNSAMPLED
    await server.start()
    for number in range(case.endpoints):
        uri = f"{scheme}://localhost:{receiver.port}/{number}"
        await server.subscribe(uri, tenant_id=f"t{number % case.tenants}")
    warm = await delivering.flat_out(server, receiver, case, deliveries=WARM_UP)
    figures = await delivering.flat_out(server, receiver, case, deliveries=DELIVERIES)
    half = min(_rate(figures), _rate(warm)) / 2
    figures |= await delivering.paced(server, receiver, case, per_second=half, seconds=3)
    report.add(f"end to end, {scheme}, {case}", figures)
    await server.stop()


async def main(folder: Path, *, only_deliveries: bool) -> None:
    report = Report()
    ca = trustme.CA()
    ca_file, certificate = folder / "ca.pem", folder / "server.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    with Receiver(certificate) as https, Receiver(None) as http:
        receivers = {"https": https, "http": http}
        for scheme, receiver in receivers.items():
            await bare_loops(report, receiver, scheme, ca_file)
        if not only_deliveries:
            uri = f"https://localhost:{https.port}/"
            default = await loops.default_httpx(uri, ca_file, DEFAULT_HTTPX_REQUESTS)
            report.add("bare loop, https: default httpx.AsyncClient", default)
            await publish(report, folder, ca_file)
        for scheme, case in CASES:
            place = folder / f"{scheme} {case}"
            await deliver(report, receivers[scheme], scheme, folder=place, ca=ca_file, case=case)
    ratios(report, only_deliveries=only_deliveries)
    report.show()


def ratios(report: Report, *, only_deliveries: bool) -> None:
    for scheme in ("https", "http"):
        bare = (f"bare loop, {scheme}: own transport", "cpu_us")
        report.ratio(
            f"CPU of a request, own transport / raw aiohttp, {scheme}",
            bare,
            (f"bare loop, {scheme}: raw aiohttp", "cpu_us"),
        )
        for case in (case for of, case in CASES if of == scheme):
            report.ratio(
                f"server CPU of a delivery / of the bare loop, {scheme}, {case}",
                (f"end to end, {scheme}, {case}", "server_cpu_us"),
                bare,
            )
    report.ratio(
        "server CPU of a delivery, tracing with nothing sampled / without tracing",
        (f"end to end, https, {TEN_UNSAMPLED}", "server_cpu_us"),
        (f"end to end, https, {TEN}", "server_cpu_us"),
    )
    if only_deliveries:
        return
    report.ratio(
        "rate end to end / default httpx.AsyncClient, https, 10 endpoints",
        (f"end to end, https, {TEN}", "deliveries_per_second"),
        ("bare loop, https: default httpx.AsyncClient", "per_second"),
    )
    for way in ("unary", "batches of 100"):
        report.ratio(
            f"rate of publish / of its floor, {way}",
            (f"publish: {way}", "events_per_second"),
            (f"floor: {way}", "events_per_second"),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only-deliveries", action="store_true", help="leave out publishing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        uvloop.run(main(Path(place), only_deliveries=arguments.only_deliveries))
    sys.exit(0)
