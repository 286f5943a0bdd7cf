"""TLS: whose certificate holds, what is spoken, and what an endpoint learns before that."""

import asyncio
import datetime
import shutil
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from signalpost.domain.outcome import Outcome
from signalpost.sender.sender import HttpSender
from signalpost.sender.tls import client_context
from tests.conftest import Require
from tests.sender.conftest import NAME, server_context, webhook
from tests.sender.names import NameServer
from tests.sender.receivers import OK, Conversation, Receivers, answering, free_port
from tests.sender.tls_server import TlsServer, answer_once, break_tls

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
FAR_FUTURE = datetime.datetime(2101, 1, 1, tzinfo=datetime.UTC)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(PAST)
        .not_valid_after(FUTURE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "self-signed.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def bad_contexts(authority: trustme.CA, tmp_path: Path) -> dict[str, ssl.SSLContext]:
    issue = authority.issue_cert
    return {
        "expired": server_context(issue(NAME, not_after=PAST)),
        "not yet valid": server_context(issue(NAME, not_before=FUTURE, not_after=FAR_FUTURE)),
        "other host": server_context(issue("other.example")),
        "common name only": server_context(issue(common_name=NAME)),
        "address as common name": server_context(issue(common_name="127.0.0.1")),
        "wildcard two levels up": server_context(issue("*.example")),
        "unknown authority": server_context(trustme.CA().issue_cert(NAME)),
        "self-signed": self_signed(tmp_path),
    }


@pytest.mark.parametrize(
    "case",
    [
        ("expired", NAME, "CERTIFICATE_EXPIRED"),
        ("not yet valid", NAME, "CERTIFICATE_NOT_YET_VALID"),
        ("other host", NAME, "HOSTNAME_MISMATCH"),
        ("other host", "127.0.0.1", "IP_ADDRESS_MISMATCH"),
        ("common name only", NAME, "HOSTNAME_MISMATCH"),
        ("common name only", "127.0.0.1", "IP_ADDRESS_MISMATCH"),
        ("wildcard two levels up", f"deep.{NAME}", "HOSTNAME_MISMATCH"),
        ("address as common name", "127.0.0.1", "IP_ADDRESS_MISMATCH"),
        ("unknown authority", NAME, "UNKNOWN_CA"),
        ("self-signed", NAME, "SELF_SIGNED"),
    ],
    ids=lambda case: f"{case[0]}, {case[1]}",
)
async def test_a_certificate_that_does_not_hold_gets_no_byte_of_the_request(
    sender: HttpSender,
    receivers: Receivers,
    bad_contexts: dict[str, ssl.SSLContext],
    case: tuple[str, str, str],
) -> None:
    kind, host, code = case
    receiver = await receivers.start(answering(OK), tls=bad_contexts[kind])
    result = await sender.send(webhook(f"https://{host}:{receiver.port}/"))
    assert (result.outcome, result.error_code) == (Outcome.TLS_FAILED, code)
    assert result.error_message
    assert result.timings.write is None
    # It was asked for the right name. Then there was no connection: nothing to read from.
    assert receiver.server_names == [None if host == "127.0.0.1" else host]
    assert (receiver.connections, receiver.requests) == (0, [])


async def test_the_roots_of_the_system_hold_beside_a_file_of_others(
    sender: HttpSender, receivers: Receivers, system_authority: trustme.CA
) -> None:
    context = server_context(system_authority.issue_cert(NAME))
    receiver = await receivers.start(answering(OK), tls=context)
    result = await sender.send(webhook(f"https://{NAME}:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED


def only(version: ssl.TLSVersion, *, suites: str = "") -> Callable[[ssl.SSLContext], None]:
    """Let a server speak this version only, and of TLS 1.2 these suites."""

    def limit(context: ssl.SSLContext) -> None:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = version
        if suites:
            context.set_ciphers(f"{suites}:@SECLEVEL=0")

    return limit


def wants_a_certificate(version: ssl.TLSVersion) -> Callable[[ssl.SSLContext], None]:
    def limit(context: ssl.SSLContext) -> None:
        only(version)(context)
        context.verify_mode = ssl.CERT_REQUIRED

    return limit


def knows_no_name(context: ssl.SSLContext) -> None:
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (only(ssl.TLSVersion.TLSv1, suites="ALL"), "TLS_VERSION"),
        (only(ssl.TLSVersion.TLSv1_1, suites="ALL"), "TLS_VERSION"),
        (only(TLS_1_2, suites="kRSA"), "HANDSHAKE_REFUSED"),
        (only(TLS_1_2, suites="NULL"), "HANDSHAKE_REFUSED"),
        (only(TLS_1_2, suites="aNULL"), "HANDSHAKE_REFUSED"),
        (only(TLS_1_2, suites="ECDHE-RSA-AES128-SHA"), "HANDSHAKE_REFUSED"),
        (wants_a_certificate(TLS_1_2), "HANDSHAKE_REFUSED"),
        (wants_a_certificate(TLS_1_3), "CLIENT_CERTIFICATE_REQUIRED"),
        (knows_no_name, "SERVER_NAME_UNKNOWN"),
    ],
    ids=[
        "TLS 1.0",
        "TLS 1.1",
        "RSA key exchange",
        "no encryption",
        "no authentication",
        "SHA-1",
        "client certificate, 1.2",
        "client certificate, 1.3",
        "unknown name",
    ],
)
async def test_what_an_endpoint_wants_and_does_not_get_is_told_apart(
    sender: HttpSender,
    rsa_tls: ssl.SSLContext,
    limit: Callable[[ssl.SSLContext], None],
    code: str,
) -> None:
    limit(rsa_tls)
    async with TlsServer(rsa_tls, answer_once) as server:
        result = await sender.send(webhook(f"https://{NAME}:{server.port}/"))
    assert (result.outcome, result.error_code) == (Outcome.TLS_FAILED, code)
    assert server.read == b""


def test_no_suite_is_offered_without_forward_secrecy_or_sound_ciphers() -> None:
    """Also those that no server of this machine can speak any more, such as RC4."""
    offered = client_context(None, max_sessions=1).get_ciphers()
    assert {suite["protocol"] for suite in offered} == {"TLSv1.2", "TLSv1.3"}
    for suite in offered:
        assert suite["kea"] in {"kx-any", "kx-ecdhe", "kx-dhe"}, suite["name"]
        assert suite["auth"] in {"auth-any", "auth-rsa", "auth-ecdsa"}, suite["name"]
        assert suite["symmetric"].startswith(("aes-", "chacha20-")), suite["name"]
        assert suite["digest"] in {None, "sha256", "sha384"}, suite["name"]


@pytest.mark.parametrize(
    "limit",
    [
        only(TLS_1_3),
        only(TLS_1_2),
        only(TLS_1_2, suites="ECDHE+AESGCM"),
        only(TLS_1_2, suites="ECDHE+CHACHA20"),
        only(TLS_1_2, suites="ECDHE-RSA-AES128-SHA256"),
    ],
    ids=["1.3", "1.2", "GCM", "ChaCha20", "CBC"],
)
async def test_tls_1_3_and_forward_secret_1_2_are_spoken(
    sender: HttpSender, rsa_tls: ssl.SSLContext, limit: Callable[[ssl.SSLContext], None]
) -> None:
    limit(rsa_tls)
    async with TlsServer(rsa_tls, answer_once) as server:
        result = await sender.send(webhook(f"https://{NAME}:{server.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert server.read.startswith(b"POST / HTTP/1.1\r\n")


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
async def test_tls_that_breaks_under_a_request_loses_the_connection(
    sender: HttpSender, tls: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    only(version)(tls)
    async with TlsServer(tls, break_tls) as server:
        result = await sender.send(webhook(f"https://{NAME}:{server.port}/"))
    assert (result.outcome, result.error_code) == (Outcome.CONNECTION_LOST, "TLS_BROKEN")
    assert len(sender._transport._pool) == 0


async def test_a_server_that_negotiates_anew_gets_nowhere(
    sender: HttpSender, authority: trustme.CA, tmp_path: Path, require: Require
) -> None:
    require(shutil.which("openssl"), "needs the command openssl")
    path = tmp_path / "server.pem"
    authority.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(str(path))
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-tls1_2", "-accept", f"127.0.0.1:{port}", "-cert", str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin
    assert server.stdout
    await server.stdout.readuntil(b"ACCEPT\n")
    attempt = asyncio.create_task(sender.send(webhook(f"https://{NAME}:{port}/", seconds=30)))
    await server.stdout.readuntil(b"POST / HTTP/1.1")
    server.stdin.write(b"R\n")  # a command: ask the client to negotiate anew
    result = await attempt
    server.kill()
    await server.communicate()
    assert result.outcome is Outcome.CONNECTION_LOST


async def test_the_name_is_shown_to_a_pinned_address(
    sender: HttpSender, receivers: Receivers, tls: ssl.SSLContext
) -> None:
    receiver = await receivers.start(answering(OK), tls=tls)
    result = await sender.send(webhook(f"https://{NAME.upper()}:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert receiver.server_names == [NAME]
    assert result.remote_address == f"127.0.0.1:{receiver.port}"


IDNA_2003 = {
    "xn--strae-oqa.example": "strasse.example",
    "xn--nxasmm1c.example": "xn--nxasmq6b.example",
}


@pytest.mark.parametrize("name", IDNA_2003)
async def test_a_name_is_that_of_idna_2008_and_not_what_idna_2003_made_of_it(
    sender: HttpSender, receivers: Receivers, names: NameServer, authority: trustme.CA, name: str
) -> None:
    former = IDNA_2003[name]
    names.zone |= {name: ["127.0.0.1"], former: ["127.0.0.1"]}
    right = await receivers.start(answering(OK), tls=server_context(authority.issue_cert(name)))
    wrong = await receivers.start(answering(OK), tls=server_context(authority.issue_cert(former)))
    taken = await sender.send(webhook(f"https://{name}:{right.port}/"))
    refused = await sender.send(webhook(f"https://{name}:{wrong.port}/"))
    assert (taken.outcome, taken.error_code) == (Outcome.SUCCEEDED, "")
    assert (refused.outcome, refused.error_code) == (Outcome.TLS_FAILED, "HOSTNAME_MISMATCH")
    assert right.server_names == wrong.server_names == [name]
    assert wrong.requests == []
    assert not names.asked[former]


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"garbage" * 100, b""])
async def test_what_does_not_speak_tls_fails_the_handshake(
    sender: HttpSender, receivers: Receivers, said: bytes
) -> None:
    async def behave(conversation: Conversation) -> None:
        await conversation.reader.read(1)
        await conversation.say(said)

    receiver = await receivers.start(behave)
    result = await sender.send(webhook(f"https://{NAME}:{receiver.port}/"))
    assert (result.outcome, result.error_code) == (Outcome.TLS_FAILED, "HANDSHAKE_FAILED")
