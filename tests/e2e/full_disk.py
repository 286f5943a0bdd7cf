"""Fills the disk of a real service while deliveries are under way, and frees it again.

Runs in a mount namespace of its own: `python full_disk.py <empty folder>`.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import grpc.aio
import trustme
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_service_pb2 import ListEventsRequest
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

IN_FLIGHT = 40
MANY = 200


def issue(folder: Path) -> tuple[Path, ssl.SSLContext]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    file = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return file, context


def fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def publish_until_full(service: Service, acknowledged: set[str]) -> grpc.aio.AioRpcError:
    for number in range(10_000):
        names = [f"e{number}-{place}" for place in range(20)]
        try:
            await service.publish(*(connected(name) for name in names))
        except grpc.aio.AioRpcError as error:
            return error
        acknowledged.update(names)
    raise AssertionError("the disk was never full")


def check_refusal(error: grpc.aio.AioRpcError) -> None:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    info, retry = ErrorInfo(), RetryInfo()
    first, second = Status.FromString(raw).details
    assert first.Unpack(info)
    assert second.Unpack(retry)
    assert info.reason == "STORAGE_FULL"
    assert retry.retry_delay.seconds > 0


async def stored(service: Service) -> set[str]:
    found: set[str] = set()
    request = ListEventsRequest(page_size=1000)
    while True:
        page = await service.events.ListEvents(request)
        found |= {event.event_id for event in page.events}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def main(folder: Path) -> None:
    ca, context = issue(folder)
    answer = asyncio.Event()

    async def hold(_: Request) -> int:
        await answer.wait()
        return 200

    service = Service(folder, ca)
    reserve = folder / "signalpost.db.reserve"
    async with Receiver(context, answer=hold) as receiver:
        await service.start()
        await service.subscribe(receiver.url(), event_types=["account.connected"])
        acknowledged = {f"first-{number}" for number in range(IN_FLIGHT)}
        await service.publish(*(connected(name) for name in sorted(acknowledged)))
        await receiver.until(lambda: receiver.requests)
        assert reserve.exists()
        fill(folder / "ballast")
        check_refusal(await publish_until_full(service, acknowledged))
        assert not reserve.exists()
        answer.set()
        deliveries = await service.drained()
        assert {one.state for one in deliveries} == {Delivery.SUCCEEDED}
        assert {one.event_id for one in deliveries} == acknowledged
        check_refusal(await publish_until_full(service, acknowledged))
        assert await stored(service) == acknowledged
        (folder / "ballast").unlink()
        names = [f"last-{number}" for number in range(MANY)]
        await service.publish(*(connected(name) for name in names))
        acknowledged.update(names)
        assert reserve.exists()
        await service.drained()
        assert await stored(service) == acknowledged
        assert {request.event_id for request in receiver.requests} == acknowledged
        assert len(receiver.requests) == len(acknowledged)
        assert await service.stop() == 0
    sys.stdout.write("full, went on with outcomes, freed, went on with all\n")


if __name__ == "__main__":
    disk = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    asyncio.run(main(disk))
