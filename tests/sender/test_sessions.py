"""Sessions of TLS: taken up again with the same host, for a while, and of so many hosts."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from signalpost.domain.outcome import Outcome
from signalpost.sender import tls as tls_module
from signalpost.sender.sender import HttpSender
from signalpost.sender.tls import ClientContext, client_context
from tests.sender.conftest import DEVELOPMENT, NAME, server_context, webhook
from tests.sender.tls_server import Serve, TlsServer

OTHER = f"deep.{NAME}"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert(NAME, OTHER))


def noting(resumed: list[bool | None]) -> Serve:
    def serve(connection: ssl.SSLSocket, _: TlsServer) -> None:
        with connection:
            resumed.append(connection.session_reused)
            connection.recv(65536)
            connection.sendall(LAST)

    return serve


async def call(sender: HttpSender, host: str, server: TlsServer) -> None:
    result = await sender.send(webhook(f"https://{host}:{server.port}/"))
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_taken_up_with_its_host_only(
    sender: HttpSender, context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    context.maximum_version = version
    resumed = list[bool | None]()
    async with TlsServer(context, noting(resumed)) as server:
        for host in (NAME, NAME, OTHER, OTHER, NAME):
            await call(sender, host, server)
    assert resumed == [False, True, False, True, True]


async def test_what_was_agreed_upon_under_other_roots_is_agreed_upon_anew(
    sender: HttpSender, context: ssl.SSLContext, ca_file: Path
) -> None:
    resumed = list[bool | None]()
    async with TlsServer(context, noting(resumed)) as server:
        await call(sender, NAME, server)
        await sender.adopt(DEVELOPMENT, ca_file=ca_file)
        await call(sender, NAME, server)
        await sender.adopt(DEVELOPMENT, ca_file=None)
        refused = await sender.send(webhook(f"https://{NAME}:{server.port}/"))
    assert resumed == [False, False]
    assert (refused.outcome, refused.error_code) == (Outcome.TLS_FAILED, "UNKNOWN_CA")


async def test_a_session_is_not_taken_up_when_it_is_old(
    sender: HttpSender, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "SESSION_SECONDS", 0.0)
    resumed = list[bool | None]()
    async with TlsServer(context, noting(resumed)) as server:
        await call(sender, NAME, server)
        await call(sender, NAME, server)
    assert resumed == [False, False]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_is_verified_again_however_often_its_session_was_taken_up(
    sender: HttpSender, context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    context.maximum_version = version
    sessions = sender._transport._dialer._context._sessions
    resumed = list[bool | None]()
    async with TlsServer(context, noting(resumed)) as server:
        for _ in range(5):
            await call(sender, NAME, server)
            made_at, session = sessions[NAME]
            sessions[NAME] = (made_at - 0.6 * tls_module.SESSION_SECONDS, session)
    assert resumed == [False, True, False, True, False]


@pytest.fixture
def met(context: ssl.SSLContext) -> Callable[[ClientContext], ssl.SSLObject]:
    """Shakes hands in memory."""

    def shake(client_side: ClientContext) -> ssl.SSLObject:
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_side.wrap_bio(to_client, to_server, server_hostname=NAME)
        server = context.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):
            for one in (client, server):
                with suppress(ssl.SSLWantReadError):
                    one.do_handshake()
        server.write(b"x")
        client.read(1)
        return client

    return shake


def test_sessions_of_the_hosts_last_met_are_kept_and_no_old_ones(
    met: Callable[[ClientContext], ssl.SSLObject],
    ca_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client_side = client_context(ca_file, max_sessions=2)
    for host in ("a", "b", "a", "c"):
        client_side.remember(host, met(client_side))
    assert list(client_side._sessions) == ["a", "c"]
    monkeypatch.setattr(tls_module, "SESSION_SECONDS", 0.0)
    client_side.remember("d", met(client_side))
    assert list(client_side._sessions) == []
