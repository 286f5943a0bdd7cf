"""`make bench-isolation`: what a dead endpoint costs those that are alive.

The real service, a thousand endpoints, a steady load: first to the healthy ones alone, then to
all. A tenth of the endpoints does not accept connections or accepts them and says nothing; the
names of another tenth belong to a server that never answers. Each part lasts until every
connection to a healthy endpoint was made anew once. Then some of the healthy alone, and beside
a tenant that publishes a hundred times as much as all of them. At last, alone on a server, one
dead endpoint for which a hundred thousand deliveries wait.

It runs in a namespace in which it is the server of all names; nothing leaves the machine.
Nothing is asserted: what is wanted stands beside what was measured.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme
import uvloop

from tests.bench.figures import Report
from tests.bench.neighbours import (
    Endpoints,
    Load,
    alive_and_dead,
    quiet_and_loud,
    subscribe,
    waiting,
)
from tests.bench.receiver import Receiver
from tests.bench.server import Server
from tests.sender.names import NameServer

DOMAIN = "bench.test"
QUIET = 50
LOUD_ENDPOINTS = 2
"""Each event of the loud one goes to so many."""

ROOT = Path(__file__).parents[2]
SETUP = (
    'ip link set lo up && echo nameserver 127.0.0.1 >"$1/names"'
    ' && mount --bind "$1/names" /etc/resolv.conf && exec "$0" -m tests.bench.isolation "$@"'
)
OPTIONS = ("--egress-allow", "127.0.0.0/8")


@contextmanager
def dead_ports() -> Iterator[tuple[int, int]]:
    """Yield a port that answers no connection request, and one that accepts and says nothing."""
    waiting = []
    with socket.socket() as full, socket.create_server(("127.0.0.1", 0), backlog=4096) as mute:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(full.getsockname())
            waiting.append(client)
        yield full.getsockname()[1], mute.getsockname()[1]
        for client in waiting:
            client.close()


def endpoints(count: int, healthy: int, dead: tuple[int, int]) -> Endpoints:
    """Name the endpoints: a tenth each are black holes, and names that are never resolved."""
    tenth = count // 10
    holes = {f"hole{n}": dead[n % 2] for n in range(tenth)}
    silent = {f"silent{n}": healthy for n in range(tenth)}
    alive = {f"alive{n}": healthy for n in range(count - 2 * tenth)}
    return Endpoints(
        alive={name: f"https://{name}.{DOMAIN}:{port}/" for name, port in alive.items()},
        dead={name: f"https://{name}.{DOMAIN}:{port}/" for name, port in (holes | silent).items()},
    )


def name_server(places: Endpoints) -> NameServer:
    zone: dict[str, list[str] | str | None] = {}
    for name in (*places.alive, *places.dead):
        zone[f"{name}.{DOMAIN}"] = None if name.startswith("silent") else ["127.0.0.1"]
    return NameServer(zone)


async def main(folder: Path, given: argparse.Namespace) -> None:
    report = Report()
    ca = trustme.CA()
    ca_file, certificate = folder / "ca.pem", folder / "server.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    issued = ca.issue_cert(f"*.{DOMAIN}").private_key_and_cert_chain_pem
    issued.write_to_path(str(certificate))
    with Receiver(certificate) as receiver, dead_ports() as dead:
        places = endpoints(given.endpoints, receiver.port, dead)
        names = name_server(places)
        names.start(port=53)
        server = await Server(folder, ca_file, options=OPTIONS).start()
        await subscribe(server, {**places.alive, **places.dead})
        await alive_and_dead(
            report, server, receiver, places, rate=given.rate, seconds=given.seconds
        )
        if given.times:
            await loudly(report, server, receiver, places, given)
        await server.stop()
        alone = folder / "alone"
        alone.mkdir()
        server = await Server(alone, ca_file, options=OPTIONS).start()
        await subscribe(server, {"hole0": places.dead["hole0"]})
        await waiting(report, server, "hole0", count=given.waiting, seconds=given.seconds)
        await server.stop()
        names.stop()
    report.show()


async def loudly(
    report: Report, server: Server, receiver: Receiver, places: Endpoints, given: argparse.Namespace
) -> None:
    quiet = list(places.alive)[:QUIET]
    for number in range(LOUD_ENDPOINTS):
        uri = f"https://alive{number}.{DOMAIN}:{receiver.port}/loud"
        await server.subscribe(uri, tenant_id="loud")
    each = given.rate / given.endpoints
    watched = Load(quiet, each * len(quiet))
    loud = Load(["loud"], given.times * watched.per_second)
    await quiet_and_loud(report, server, receiver, (watched, loud), seconds=given.seconds)


def enter(folder: str, arguments: list[str]) -> int:
    """Run again in a namespace of its own."""
    command = ["unshare", "--net", "--mount"]
    if os.geteuid() != 0:
        command.append("--map-root-user")
    done = subprocess.run(
        [*command, "sh", "-c", SETUP, sys.executable, folder, *arguments], cwd=ROOT, check=False
    )
    if done.returncode:
        sys.stderr.write("This needs Linux, `unshare` and `ip`, and may need root.\n")
    return done.returncode


def parsed() -> tuple[str | None, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.isolation")
    parser.add_argument("folder", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=100, help="events a second, to all endpoints")
    parser.add_argument("--seconds", type=float, default=70, help="length of each measurement")
    parser.add_argument(
        "--times", type=float, default=100, help="as loud as all of the quiet; 0: leave it out"
    )
    parser.add_argument("--waiting", type=int, default=100_000, help="deliveries to one dead one")
    given = parser.parse_args()
    return given.folder, given


if __name__ == "__main__":
    inside, options = parsed()
    if inside:
        uvloop.run(main(Path(inside), options))
        sys.exit(0)
    with tempfile.TemporaryDirectory() as place:
        sys.exit(enter(place, sys.argv[1:]))
