from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from signalpost.cli.certificates import LIFETIME, Certificates, provide

NOW = datetime.now(UTC)


def handshake(certificates: Certificates, *, name: str) -> None:
    """Shake hands in memory, as strictly as the newest Python does by default."""
    client_context = ssl.create_default_context(cafile=certificates.ca_file)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = certificates.server_context().wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert not waiting


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_connects_by_every_local_name(
    tmp_path: Path, name: str
) -> None:
    handshake(provide(tmp_path, now=NOW), name=name)


def test_no_other_name_is_certified(tmp_path: Path) -> None:
    certificates = provide(tmp_path, now=NOW)
    handshake(certificates, name="localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(certificates, name="example.com")


def test_nobody_trusts_the_certificate_without_the_authority(tmp_path: Path) -> None:
    mine = provide(tmp_path / "mine", now=NOW)
    other = provide(tmp_path / "other", now=NOW)
    mine.ca_file.write_bytes(other.ca_file.read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(mine, name="localhost")


def test_a_later_start_keeps_the_certificates(tmp_path: Path) -> None:
    first = provide(tmp_path, now=NOW).ca_file.read_bytes()
    again = provide(tmp_path, now=NOW + LIFETIME - timedelta(days=2))
    assert again.ca_file.read_bytes() == first
    late = provide(tmp_path, now=NOW + LIFETIME)
    assert late.ca_file.read_bytes() != first


@pytest.mark.parametrize("file", ["ca.pem", "server.pem", "server.key"])
def test_a_damaged_folder_is_made_anew(tmp_path: Path, file: str) -> None:
    provide(tmp_path, now=NOW)
    (tmp_path / file).write_text("damaged")
    handshake(provide(tmp_path, now=NOW), name="localhost")


def test_an_authority_of_another_start_is_not_mixed_in(tmp_path: Path) -> None:
    mine = provide(tmp_path / "mine", now=NOW)
    other = provide(tmp_path / "other", now=NOW)
    mine.ca_file.write_bytes(other.ca_file.read_bytes())
    handshake(provide(tmp_path / "mine", now=NOW), name="localhost")


def test_the_key_is_for_its_owner_only_and_the_authority_has_none(tmp_path: Path) -> None:
    certificates = provide(tmp_path, now=NOW)
    assert stat.S_IMODE(certificates.key_file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ca.pem",
        "server.key",
        "server.pem",
    ]
