"""Runs alone in a namespace in which this machine answers for every address, and for all names.

Starts the real service without `--dev`, subscribes the endpoints named in the JSON object on
standard input (`zone`: a name's addresses, or null for a server that stays silent), publishes
one event, and writes the outcome of each first attempt and the addresses connected to.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import trustme

from signalpost.v1.delivery_pb2 import DeliveryAttempt
from tests.e2e.service import Service, connected
from tests.sender.internet import PORT, noting
from tests.sender.names import NameServer


async def first_outcomes(service: Service, names: list[str]) -> dict[str, str]:
    """Wait for an attempt of each name's delivery."""
    while True:
        outcomes = {
            delivery.subscription_id: DeliveryAttempt.Outcome.Name(delivery.last_attempt.outcome)
            for delivery in await service.list_deliveries()
            if delivery.attempt_count
        }
        if outcomes.keys() >= set(names):
            return outcomes
        await asyncio.sleep(0.1)


async def visit(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.pem"))
    hits: list[str] = []
    zone: dict[str, list[str] | None] = task["zone"]
    names = NameServer({f"{name}.test": known for name, known in zone.items()})
    names.start(port=53)
    for host in ("0.0.0.0", "::"):  # noqa: S104
        await asyncio.start_server(noting(hits), host, PORT)
    service = await Service(folder, folder / "ca.pem", options=tuple(task["options"])).start()
    for name in zone:
        await service.subscribe(f"https://{name}.test/", subscription_id=name)
    await service.publish(connected("event"))
    outcomes = await first_outcomes(service, [name for name, known in zone.items() if known])
    code = await service.stop()
    return {"outcomes": outcomes, "hits": sorted(set(hits)), "code": code}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        json.dump(asyncio.run(visit(json.load(sys.stdin), Path(place))), sys.stdout)
