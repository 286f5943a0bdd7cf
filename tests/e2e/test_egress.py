"""The operator changes where webhooks may go, and whom they trust, while the service runs."""

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme

from signalpost.v1.delivery_pb2 import DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

THIS_MACHINE = "127.0.0.0/8 # this machine\n"
ELSEWHERE = "10.0.0.0/8\n"


@dataclass
class Files:
    """What the service is told to read."""

    ca: Path
    ranges: Path
    ports: Path

    def options(self) -> tuple[str, ...]:
        return ("--egress-allow", f"@{self.ranges}", "--egress-ports", f"@{self.ports}")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(*(tmp_path / name for name in ("ca.pem", "ranges", "ports")))
    found.ranges.write_text(THIS_MACHINE)
    found.ports.write_text("443\n1024-65535\n")
    return found


@pytest.fixture
async def service(tmp_path: Path, files: Files) -> AsyncIterator[Service]:
    """A service that reads these files; it is not started yet."""
    service = Service(tmp_path, files.ca, files.options())
    yield service
    if service.process is not None and service.process.returncode is None:
        await service.kill()


def trusted(files: Files) -> ssl.SSLContext:
    """A certificate of an authority that the service is told to trust from now on."""
    ca = trustme.CA()
    files.ca.write_bytes(ca.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def attempted(service: Service, event_id: str) -> DeliveryAttempt:
    """Publish an event and return the one attempt that was made for it."""
    await service.publish(connected(event_id))
    found = {delivery.event_id: delivery for delivery in await service.drained()}
    request = GetDeliveryRequest(delivery_id=found[event_id].delivery_id)
    [attempt] = (await service.deliveries.GetDelivery(request)).delivery.attempts
    return attempt


async def two_on_one_connection(service: Service, receiver: Receiver) -> str:
    """Prove that connections are kept; return the endpoint."""
    uri = f"https://127.0.0.1:{receiver.port}/"
    await service.subscribe(uri, max_attempts=1)
    for event_id in ("first", "second"):
        attempt = await attempted(service, event_id)
        assert attempt.outcome == DeliveryAttempt.SUCCEEDED
    assert (receiver.connections, receiver.closed) == (1, 0)
    return uri


@pytest.mark.parametrize(
    ("name", "denying", "allowing"),
    [("ranges", ELSEWHERE, THIS_MACHINE), ("ports", "443\n8443", "1024-65535")],
)
async def test_a_kept_connection_does_not_outlive_what_allowed_it(
    service: Service, files: Files, name: str, denying: str, allowing: str
) -> None:
    async with Receiver(trusted(files)) as receiver:
        await service.start()
        uri = await two_on_one_connection(service, receiver)
        getattr(files, name).write_text(denying)
        await service.reload()
        await receiver.until(lambda: receiver.closed == 1)
        attempt = await attempted(service, "denied")
        assert attempt.outcome == DeliveryAttempt.FORBIDDEN
        assert attempt.error_code == attempt.error_message == attempt.remote_address == ""
        with pytest.raises(grpc.aio.AioRpcError, match="does not connect to"):
            await service.subscribe(uri)
        assert (len(receiver.requests), receiver.connections) == (2, 1)
        getattr(files, name).write_text(allowing)
        await service.reload()
        attempt = await attempted(service, "allowed")
        assert attempt.outcome == DeliveryAttempt.SUCCEEDED
        assert receiver.connections == 2
        assert await service.stop() == 0


async def test_an_authority_that_is_not_trusted_any_more_is_refused_on_the_next_attempt(
    service: Service, files: Files
) -> None:
    async with Receiver(trusted(files)) as receiver:
        await service.start()
        await two_on_one_connection(service, receiver)
        async with Receiver(trusted(files)) as other:
            await service.reload()
            await receiver.until(lambda: receiver.closed == 1)
            attempt = await attempted(service, "after")
            assert attempt.outcome == DeliveryAttempt.TLS_FAILED
            assert attempt.error_code == "UNKNOWN_CA"
            assert len(receiver.requests) == 2
            uri = f"https://127.0.0.1:{other.port}/"
            await service.subscribe(uri, subscription_id="other", max_attempts=1)
            await service.publish(connected("now_trusted"))
            await other.until(lambda: other.requests)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("ranges", "10.1.2.3/16", "'10.1.2.3/16' is not an address range"),
        ("ports", "443,http", "'http' is not a port"),
        ("ports", "# none", "names no port"),
        ("ca", "-----BEGIN CERTIFICATE-----\nnonsense", "holds no certificates (PEM)"),
        ("ca", None, "there is no file"),
        ("ranges", None, "cannot read the file"),
    ],
)
async def test_what_cannot_be_used_leaves_everything_as_it_was(
    service: Service, files: Files, name: str, content: str | None, problem: str
) -> None:
    async with Receiver(trusted(files)) as receiver:
        await service.start()
        await two_on_one_connection(service, receiver)
        files.ports.write_text("443")
        file: Path = getattr(files, name)
        file.unlink() if content is None else file.write_text(content)
        lines = len(service.log)
        await service.reload()
        [line] = service.log[lines:]
        entry = json.loads(line)
        assert entry["level"] == "error"
        assert problem in entry["message"]
        assert (await attempted(service, "after")).outcome == DeliveryAttempt.SUCCEEDED
        assert (receiver.connections, receiver.closed) == (1, 0)
