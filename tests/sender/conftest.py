import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
import uvloop

from signalpost.domain.address import EgressPolicy
from signalpost.domain.ids import LaneId
from signalpost.domain.subscription import IpNetwork
from signalpost.ports import Sender, WebhookRequest
from signalpost.sender import sender as sender_module
from signalpost.sender.guard import Listener
from signalpost.sender.resolver import Resolver
from signalpost.sender.sender import HttpSender
from tests.sender.names import NameServer
from tests.sender.receivers import Receivers

NAME = "receiver.example"
DEVELOPMENT = EgressPolicy(loopback=True)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on both loops: their sockets, TLS and errors differ."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def receivers() -> AsyncIterator[Receivers]:
    started = Receivers()
    yield started
    await started.stop()


@pytest_asyncio.fixture
async def names() -> AsyncIterator[NameServer]:
    """A name server that knows the name of a receiver on loopback, and one below it."""
    server = NameServer({NAME: ["127.0.0.1"], f"deep.{NAME}": ["127.0.0.1"]})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", autouse=True)
def system_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustme.CA]:
    """The one root of the system: to read its 150 anew takes longer than most tests.

    Tests elsewhere have those of the real system: they also fetch what they build.
    """
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("system")
    authority.cert_pem.write_to_path(str(folder / "roots.pem"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "roots.pem"))
        patch.setenv("SSL_CERT_DIR", str(folder))
        yield authority


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Iterator[Path]:
    with authority.cert_pem.tempfile(dir=str(tmp_path)) as path:
        yield Path(path)


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert(NAME))


@pytest.fixture
def rsa_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate with which every way of exchanging keys is possible."""
    return server_context(authority.issue_cert(NAME, key_type=trustme.KeyType.RSA))


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not read on for a whole second where a body does not end."""
    monkeypatch.setattr(sender_module, "RESPONSE_READ_LIMIT", timedelta(seconds=0.2))


class Senders:
    """Makes senders that use the test's name server and roots, and closes them."""

    def __init__(self, names: NameServer, ca_file: Path) -> None:
        self._names = names
        self._ca_file = ca_file
        self._made: list[HttpSender] = []

    def make(
        self,
        policy: EgressPolicy = DEVELOPMENT,
        own_listeners: tuple[Listener, ...] = (),
    ) -> HttpSender:
        sender: Sender = HttpSender(
            policy=policy,
            own_listeners=lambda: own_listeners,
            resolver=Resolver([self._names.address]),
            ca_file=self._ca_file,
        )
        assert isinstance(sender, HttpSender)
        self._made.append(sender)
        return sender

    async def close(self) -> None:
        for sender in self._made:
            await sender.aclose()


@pytest_asyncio.fixture
async def senders(names: NameServer, ca_file: Path) -> AsyncIterator[Senders]:
    made = Senders(names, ca_file)
    yield made
    await made.close()


@pytest.fixture
def sender(senders: Senders) -> HttpSender:
    return senders.make()


def webhook(
    uri: str,
    *,
    lane: int = 1,
    headers: dict[str, str] | None = None,
    body: bytes = b'{"event_id":"evt_1"}',
    seconds: float = 10,
    ranges: tuple[IpNetwork, ...] = (),
) -> WebhookRequest:
    return WebhookRequest(
        lane_id=LaneId(lane),
        endpoint_uri=uri,
        headers={"content-type": "application/json", "accept-encoding": "identity"}
        | (headers or {}),
        body=body,
        timeout=timedelta(seconds=seconds),
        allowed_ip_ranges=ranges,
    )
