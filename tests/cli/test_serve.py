from __future__ import annotations

import json
import signal
import socket
import struct
from pathlib import Path

import grpc
import httpx
import pytest

from signalpost.v1.event_service_pb2 import ListEventsRequest
from signalpost.v1.event_service_pb2_grpc import EventServiceStub
from tests.cli.processes import clean_environment, command, run, running, started

FREE = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_announces_itself_serves_and_ends_with_zero(tmp_path: Path, number: int) -> None:
    with running("serve", *FREE, cwd=tmp_path) as served:
        address = served.wait_for(r"gRPC +(\S+)$")[1]
        health_url = served.wait_for(r"health +(\S+), /readyz and /metrics$")[1]
        assert served.wait_for(r"database +(\S+)$")[1] == "sqlite:///signalpost.db"
        with grpc.insecure_channel(address) as channel:
            answer = EventServiceStub(channel).ListEvents(ListEventsRequest(), timeout=30)
        assert not answer.events
        assert httpx.get(health_url, timeout=30).status_code == 200
        code, errors = served.end(number)
    assert code == 0, errors
    assert '"message":"stopped"' in errors.splitlines()[-1]
    assert "--dev" not in served.seen
    assert "Traceback" not in errors


def test_dev_is_said_at_start(tmp_path: Path) -> None:
    flags = ("--dev", "--egress-allow", "10.0.0.0/8", "--egress-allow", "fd00::/8")
    ports = ("--egress-ports", "443,8000-8999")
    with running("serve", *FREE, *flags, *ports, cwd=tmp_path) as served:
        served.wait_for(r"gRPC .*\(reflection on\)$")
        served.wait_for(r"egress +public addresses, and 10\.0\.0\.0/8, fd00::/8$")
        served.wait_for(r"ports +only 443, 8000-8999$")
        served.wait_for(r"--dev .*plain http.*for development only$")


def test_of_many_ranges_and_ports_the_first_are_said_and_how_many_there_are(tmp_path: Path) -> None:
    (tmp_path / "ranges").write_text("".join(f"10.{number}.0.0/16\n" for number in range(200)))
    ports = ",".join(map(str, range(2000, 2010)))
    flags = ("--egress-allow", "@ranges", "--egress-ports", ports)
    with running("serve", *FREE, *flags, cwd=tmp_path) as served:
        served.wait_for(
            r"egress +public addresses, and 10\.0\.0\.0/16, .*, 10\.4\.0\.0/16 and 195 more$"
        )
        served.wait_for(r"ports +only 2000, 2001, 2002, 2003, 2004 and 5 more$")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    ended = run(
        "serve",
        "--listen",
        "0.0.0.0:50051",
        "--egress-allow",
        "10.0.0.1/8",
        cwd=tmp_path,
        environment={"SIGNALPOST_HTTP": "nonsense", "SIGNALPOST_MASTER_KEY": "c2hvcnQ="},
    )
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == 4
    for line, place in zip(
        lines, ["--listen", "--http", "--egress-allow", "SIGNALPOST_MASTER_KEY"], strict=True
    ):
        assert line.startswith(place)
    assert "c2hvcnQ" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("serve", "--listen", address, "--http", "127.0.0.1:0", cwd=tmp_path)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()[-1:]
    assert line == (
        f"--listen (SIGNALPOST_LISTEN): cannot listen on {address}: Address already in use"
    )
    # Besides what the first start on a database logs there is nothing.
    assert not [other for other in ended.stderr.splitlines()[:-1] if not other.startswith("{")]


def test_a_database_in_use_is_refused(tmp_path: Path) -> None:
    with running("serve", *FREE, cwd=tmp_path) as served:
        served.wait_for(r"gRPC +\S+$")
        ended = run("serve", *FREE, cwd=tmp_path)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line == (
        f"--database (SIGNALPOST_DATABASE_URL): {tmp_path}/signalpost.db is in use by another"
        " process"
    )


def test_a_master_key_that_is_missing_is_not_laid_on_the_database(tmp_path: Path) -> None:
    with running("serve", *FREE, cwd=tmp_path) as served:
        served.wait_for(r"gRPC +\S+$")
    (tmp_path / "signalpost.db.key").unlink()
    ended = run("serve", *FREE, cwd=tmp_path)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("secrets in ")


def test_a_key_file_opens_a_database_from_another_place_and_may_go_once_it_serves(
    tmp_path: Path,
) -> None:
    with running("serve", *FREE, cwd=tmp_path) as served:
        served.wait_for(r"gRPC +\S+$")
        served.wait_until_logged("name that in SIGNALPOST_MASTER_KEY_FILE")
        assert served.end()[0] == 0
    moved = (tmp_path / "signalpost.db.key").rename(tmp_path / "secret")
    with running("serve", *FREE, "--master-key-file", "secret", cwd=tmp_path) as served:
        served.wait_for(r"gRPC +\S+$")
        moved.unlink()
        served.send(signal.SIGHUP)
        served.wait_until_logged("the egress settings")
        code, errors = served.end()
    assert code == 0, errors
    assert "read the egress settings anew" in errors
    assert "stay as they were" not in errors


def reloaded(folder: Path, *flags: str) -> dict[str, object]:
    """What the log tells of settings that were read anew."""
    with running("serve", *FREE, *flags, cwd=folder) as served:
        served.wait_for(r"gRPC +\S+$")
        served.send(signal.SIGHUP)
        served.wait_until_logged("read the egress settings anew")
        _, errors = served.end()
    [line] = [line for line in errors.splitlines() if "read the egress settings anew" in line]
    return dict(json.loads(line))


def test_what_was_read_anew_is_told_so_that_a_person_can_read_it(tmp_path: Path) -> None:
    told = reloaded(tmp_path, "--egress-allow", "10.1.0.0/16")
    assert (told["allowed"], told["ports"]) == ("10.1.0.0/16", "the default ones")
    ranges, ports = tmp_path / "ranges", tmp_path / "ports"
    ranges.write_text("".join(f"10.{number}.0.0/16\n" for number in range(200)))
    ports.write_text("".join(f"{number}\n" for number in range(2000, 2010)))
    told = reloaded(tmp_path, "--egress-allow", f"@{ranges}", "--egress-ports", f"@{ports}")
    assert told["ports"] == "2000, 2001, 2002, 2003, 2004, 2005, 2006, 2007, 2008, 2009"
    assert str(told["allowed"]).startswith("10.0.0.0/16, 10.1.0.0/16, ")
    assert str(told["allowed"]).endswith("10.9.0.0/16 and 190 more")


def test_a_file_without_certificates_is_said_without_the_words_of_a_library(
    tmp_path: Path,
) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    ended = run("serve", *FREE, "--egress-ca", "ca.pem", cwd=tmp_path)
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert line == "--egress-ca (SIGNALPOST_EGRESS_CA): ca.pem holds no certificates (PEM)"


def test_probes_may_ask_for_the_head_alone_and_learn_no_versions(tmp_path: Path) -> None:
    with running("serve", *FREE, cwd=tmp_path) as served:
        url = served.wait_for(r"health +(\S+), /readyz and /metrics$")[1]
        shown, head = httpx.get(url, timeout=30), httpx.head(url, timeout=30)
        posted = httpx.post(url, timeout=30)
    assert (shown.status_code, shown.text) == (200, "ok\n")
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-length"] == shown.headers["content-length"]
    assert "python" not in str([*shown.headers.items(), *posted.headers.items()]).lower()
    assert posted.status_code == 501
    assert "<" not in posted.text


def test_a_probe_that_only_connects_and_resets_leaves_no_trace(tmp_path: Path) -> None:
    with running("serve", *FREE, cwd=tmp_path) as served:
        url = httpx.URL(served.wait_for(r"health +(\S+), /readyz and /metrics$")[1])
        for sent in (b"", b"GET /hea", b"GET /metrics HTTP/1.0\r\n\r\n"):
            with socket.create_connection((url.host, url.port)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                probe.sendall(sent)
        assert httpx.get(url, timeout=30).status_code == 200
        code, errors = served.end()
    assert code == 0
    assert [line for line in errors.splitlines() if not line.startswith('{"time"')] == []


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="/proc tells which files are open"
)


@needs_proc
@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", ">/dev/full"])
def test_standard_files_that_are_closed_or_full_do_not_end_it(tmp_path: Path, closed: str) -> None:
    """Connections would have their numbers, and what is printed would go to a customer."""
    words = ["/bin/sh", "-c", f'exec "$0" "$@" {closed}', *command("serve", *FREE)]
    with started(words, tmp_path, clean_environment()) as served:
        served.wait_until_logged('"message":"serving"')
        names = {served.file(number) for number in range(2)}
        code, errors = served.end()
    assert code == 0, errors
    assert "Traceback" not in errors
    assert not [name for name in names if name.startswith(("socket:", "anon_inode:"))]


@needs_proc
def test_it_serves_without_standard_error(tmp_path: Path) -> None:
    words = ["/bin/sh", "-c", 'exec "$0" "$@" 2>&-', *command("serve", *FREE)]
    with started(words, tmp_path, clean_environment()) as served:
        served.wait_for(r"gRPC +\S+$")
        assert served.file(2) == "/dev/null"
        assert served.end()[0] == 0
