from __future__ import annotations

import signal
import socket
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.cli.processes import Running, run, running

SECRET = "whsec_c2VjcmV0IG9mIGEgdGVzdCwgbG9uZyBlbm91Z2g="
OTHER = "whsec_YW5vdGhlciBzZWNyZXQsIGFsc28gbG9uZyBlbm91Z2g="
BODY = (
    '{"event_id":"e1","event_type":"account.connected","timestamp":"2026-05-06T12:00:00Z",'
    '"resource":{"type":"account","id":"acc_42"},"payload":{"integration":"gmail"}}'
)


def greeted(listening: Running) -> tuple[str, Path]:
    """The address and the authority that it prints."""
    url = listening.wait_for(r"^Listening on +(\S+)$")[1]
    return url, Path(listening.wait_for(r"^Authority +(\S+)$")[1])


def post(url: str, authority: Path, *, signed_with: str | None = SECRET) -> int:
    now = datetime.now(UTC)
    headers = {"webhook-id": "e1"}
    if signed_with:
        headers["webhook-timestamp"] = str(int(now.timestamp()))
        headers["webhook-signature"] = Webhook(signed_with).sign("e1", now, BODY)
    tls = ssl.create_default_context(cafile=authority)
    with httpx.Client(verify=tls, timeout=60) as client:
        return client.post(url, content=BODY, headers=headers).status_code


def test_a_signed_webhook_is_verified_and_shown(tmp_path: Path) -> None:
    with running("listen", "--port", "0", "--secret", SECRET, cwd=tmp_path) as listening:
        url, authority = greeted(listening)
        assert post(url, authority) == 200
        line = listening.wait_for(r"account\.connected .*$")[0]
        assert line == "account.connected  e1  account acc_42  verified  answered 200"
        listening.wait_for(r'^ +"integration": "gmail"$')
        assert listening.end() == (0, "")
    assert not authority.exists(), "the temporary folder was left"
    assert SECRET not in listening.seen


def test_another_secret_is_not_verified(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--secret", SECRET, "--secret", OTHER)
    with running("listen", *arguments, cwd=tmp_path) as listening:
        url, authority = greeted(listening)
        post(url, authority, signed_with=OTHER)
        listening.wait_for(r"  verified  ")
        post(url, authority, signed_with="whsec_" + "A" * 32)
        listening.wait_for(r"NOT verified \(no signature matches a given secret\)")
        post(url, authority, signed_with=None)
        listening.wait_for(r"NOT verified \(the header webhook-timestamp is missing\)")


def test_without_a_secret_nothing_is_verified(tmp_path: Path) -> None:
    with running("listen", "--port", "0", cwd=tmp_path) as listening:
        url, authority = greeted(listening)
        post(url, authority)
        listening.wait_for(r"  unverified \(no secret was given\)")


def test_failure_can_be_rehearsed(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--answer", "503", "--delay", "0.01")
    with running("listen", *arguments, cwd=tmp_path) as listening:
        url, authority = greeted(listening)
        listening.wait_for(r"Answering +503, after 0\.01 s")
        assert post(url, authority) == 503
        listening.wait_for(r"answered 503")


def test_a_named_folder_keeps_the_authority_between_starts(tmp_path: Path) -> None:
    authorities = set()
    for _ in range(2):
        with running("listen", "--port", "0", "--dir", "certificates", cwd=tmp_path) as listening:
            url, authority = greeted(listening)
            assert authority == tmp_path / "certificates" / "ca.pem"
            assert post(url, authority) == 200
            assert listening.end(signal.SIGINT) == (0, "")
        authorities.add(authority.read_bytes())
    assert len(authorities) == 1
    key = tmp_path / "certificates" / "server.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("listen", "--port", port, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    ended = run("listen", "--port", "0", "--dir", folder, cwd=tmp_path)
    assert ended.returncode in (1, 2)
    assert folder in ended.stderr
    assert "Traceback" not in ended.stderr
