import base64
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from signalpost.domain.egress_ports import DEFAULT_PORTS
from signalpost.domain.retention import Retention
from signalpost.settings import Address, SettingsInvalid, load


def test_without_anything_set_every_setting_has_its_default() -> None:
    settings = load({}, {})
    assert settings.listen == Address("127.0.0.1", 50051)
    assert settings.database == "sqlite:///signalpost.db"
    assert settings.http == Address("127.0.0.1", 9464)
    assert settings.egress_allow == ()
    assert (settings.host_concurrency, settings.host_failure_rate) == (256, 10)
    assert settings.watch_limit == 200
    assert (settings.dev, settings.reflection, settings.master_key) == (False, False, None)


def test_a_flag_comes_before_its_variable() -> None:
    environment = {"SIGNALPOST_LISTEN": "127.0.0.1:1", "SIGNALPOST_HTTP": "127.0.0.1:2"}
    settings = load({"listen": "127.0.0.1:3"}, environment)
    assert (settings.listen.port, settings.http.port) == (3, 2)


def test_retention_is_a_number_with_a_unit() -> None:
    assert load({}, {}).retention == Retention(
        delivered=timedelta(days=7), failed=timedelta(days=30)
    )
    environment = {"SIGNALPOST_FAILED_RETENTION": "36h"}
    assert load({"retention": "90s"}, environment).retention == Retention(
        delivered=timedelta(seconds=90), failed=timedelta(hours=36)
    )


@pytest.mark.parametrize("text", ["7", "d", "0d", "-7d", "7 d", "1.5d", "123456d", "7d1h", "7D"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"--retention .* not a duration such as 7d"):
        load({"retention": text}, {})


def test_the_limit_of_lanes_is_a_whole_number_from_one_up() -> None:
    assert load({}, {}).lane_limit == 1_000_000
    assert load({"lane_limit": "5"}, {}).lane_limit == 5
    for text in ("0", "-1", "1.5", "many", "1e6", "٣"):
        with pytest.raises(SettingsInvalid, match="--lane-limit"):
            load({"lane_limit": text}, {})


@pytest.mark.parametrize("flag", ["host_concurrency", "host_failure_rate", "watch_limit"])
def test_what_bounds_something_is_a_whole_number_from_one_up(flag: str) -> None:
    assert getattr(load({flag: "1"}, {}), flag) == 1
    assert getattr(load({}, {f"SIGNALPOST_{flag.upper()}": "77"}), flag) == 77
    for text in ("0", "-1", "0.5", "1e3", "\u0663", "none"):
        with pytest.raises(SettingsInvalid, match=f"--{flag.replace('_', '-')} .* 1 or more"):
            load({flag: text}, {})


def test_the_name_for_handshakes_is_a_dns_name() -> None:
    assert load({}, {}).handshake_origin == "signalpost"
    environment = {"SIGNALPOST_HANDSHAKE_ORIGIN": "Webhooks.Example.COM"}
    assert load({}, environment).handshake_origin == "webhooks.example.com"
    for text in ("https://example.com", "example.com:443", "example.com.", "a_b", "-a", "é.com"):
        with pytest.raises(SettingsInvalid, match=r"--handshake-origin .* is not a DNS name"):
            load({"handshake_origin": text}, {})


def test_reflection_follows_dev_unless_it_is_set() -> None:
    assert load({"dev": True}, {}).reflection
    assert not load({"dev": True, "reflection": False}, {}).reflection
    assert load({}, {"SIGNALPOST_REFLECTION": "1"}).reflection


def test_ranges_come_as_repeated_flags_or_separated_by_commas() -> None:
    ranges = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert load({"egress_allow": ("10.1.0.0/16", "fd00::/8")}, {}).egress_allow == ranges
    environment = {"SIGNALPOST_EGRESS_ALLOW": "10.1.0.0/16, fd00::/8"}
    assert load({}, environment).egress_allow == ranges


def test_ports_are_numbers_and_ranges_that_replace_the_default() -> None:
    assert load({}, {}).egress_ports == DEFAULT_PORTS
    assert load({"egress_ports": "443,8000-8999"}, {}).egress_ports == (
        range(443, 444),
        range(8000, 9000),
    )
    environment = {"SIGNALPOST_EGRESS_PORTS": " 80 , 65535 "}
    assert load({}, environment).egress_ports == (range(80, 81), range(65535, 65536))


@pytest.mark.parametrize(
    "text",
    ["0", "65536", "-1", "1-", "-", "9-8", "0-9", "1-65536", "https", "1.5", "1e3", "٣", ",", " "],
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"--egress-ports \(SIGNALPOST_EGRESS_PORTS\)"):
        load({"egress_ports": text}, {})


def test_a_file_stands_for_what_is_in_it(tmp_path: Path) -> None:
    ranges = tmp_path / "ranges"
    ranges.write_text("# ours\n10.1.0.0/16, 10.2.0.0/16\n\n  fd00::/8 # theirs\n")
    flags = {"egress_allow": ("10.9.0.0/16", f"@{ranges}")}
    assert load(flags, {}).egress_allow == tuple(
        map(ip_network, ("10.9.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "fd00::/8"))
    )
    ports = tmp_path / "ports"
    ports.write_text("443\n8000-8999")
    environment = {"SIGNALPOST_EGRESS_PORTS": f"@{ports},80"}
    assert load({}, environment).egress_ports == (
        range(443, 444),
        range(8000, 9000),
        range(80, 81),
    )
    ranges.write_text("")
    assert load({"egress_allow": (f"@{ranges}",)}, {}).egress_allow == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read the file .*: No such file"),
        (b"\xff\xfe", "cannot read the file .*: it is not text"),
        (b"10.1.2.3/16", "'10.1.2.3/16' is not an address range"),
        (b"@ranges", "'@ranges' is not an address range"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "ranges"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsInvalid, match=rf"--egress-allow .*: {problem}"):
        load({"egress_allow": (f"@{file}",)}, {})


@pytest.mark.parametrize(
    ("name", "problem"),
    [("missing.pem", "there is no file"), ("x" * 300, "cannot read the file .*: File name too")],
)
def test_authorities_that_are_not_to_be_had_are_a_mistake(name: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid, match=rf"--egress-ca .*: {problem}"):
        load({"egress_ca": name}, {})


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    environment = {
        "SIGNALPOST_LISTEN": "0.0.0.0:50051",
        "SIGNALPOST_HTTP": "9464",
        "SIGNALPOST_EGRESS_ALLOW": "10.1.2.3/16",
        "SIGNALPOST_EGRESS_PORTS": "443,0",
        "SIGNALPOST_EGRESS_CA": str(tmp_path / "missing.pem"),
        "SIGNALPOST_HOST_CONCURRENCY": "0",
        "SIGNALPOST_LOG_LEVEL": "loud",
        "SIGNALPOST_DEV": "perhaps",
        "SIGNALPOST_MASTER_KEY": base64.b64encode(b"too short").decode(),
        "SIGNALPOST_FAILPOINT": "nowhere:kill",
    }
    with pytest.raises(SettingsInvalid) as refusal:
        load({}, environment)
    lines = str(refusal.value).splitlines()
    assert [next(name for name in environment if name in line) for line in lines] == [
        "SIGNALPOST_DEV",
        "SIGNALPOST_LISTEN",
        "SIGNALPOST_HTTP",
        "SIGNALPOST_EGRESS_ALLOW",
        "SIGNALPOST_EGRESS_PORTS",
        "SIGNALPOST_EGRESS_CA",
        "SIGNALPOST_HOST_CONCURRENCY",
        "SIGNALPOST_LOG_LEVEL",
        "SIGNALPOST_MASTER_KEY",
        "SIGNALPOST_FAILPOINT",
    ]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SIGNALPOST_RETENTON", "SIGNALPOST_RETENTION"),
        ("SIGNALPOST_DATABASE", "SIGNALPOST_DATABASE_URL"),
        ("SIGNALPOST_EGRESS_PORT", "SIGNALPOST_EGRESS_PORTS"),
        ("SIGNALPOST_MASTERKEY", "SIGNALPOST_MASTER_KEY"),
    ],
)
def test_a_misspelt_variable_is_not_passed_over(variable: str, meant: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load({}, {variable: "hunter2"})
    assert str(caught.value) == f"{variable}: there is no such setting; did you mean {meant}?"


def test_variables_that_an_orchestrator_sets_are_no_mistakes() -> None:
    names = ["PORT", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_9464_TCP_ADDR"]
    variables = {f"SIGNALPOST_{name}": "x" for name in names}
    # What is told of a service that is called signalpost-egress.
    variables["SIGNALPOST_EGRESS_PORT"] = "tcp://10.0.0.1:3128"
    assert load({}, variables) == load({}, {})


@pytest.mark.parametrize(("flag", "example"), [("listen", "50051"), ("http", "9464")])
@pytest.mark.parametrize("text", ["nonsense", "127.0.0.1", "127.0.0.1:65536"])
def test_what_is_no_address_is_told_with_an_example_of_its_own(
    flag: str, example: str, text: str
) -> None:
    with pytest.raises(
        SettingsInvalid, match=rf"is not host:port, such as 127\.0\.0\.1:{example}$"
    ):
        load({flag: text}, {})


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051"])
def test_callers_of_other_machines_are_shut_out(address: str) -> None:
    with pytest.raises(SettingsInvalid, match="cannot authenticate callers"):
        load({"listen": address}, {})


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:50051", "localhost:50051"])
def test_loopback_addresses_are_taken_as_they_are_written(address: str) -> None:
    assert str(load({"listen": address}, {}).listen) == address


def test_the_master_key_hides_from_repr_and_from_complaints() -> None:
    key = base64.b64encode(b"k" * 32).decode()
    settings = load({}, {"SIGNALPOST_MASTER_KEY": key})
    assert settings.master_key == b"k" * 32
    assert "kkkk" not in repr(settings)
    with pytest.raises(SettingsInvalid) as refusal:
        load({}, {"SIGNALPOST_MASTER_KEY": "c2VjcmV0"})
    assert "c2VjcmV0" not in str(refusal.value)


KEY = base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize("content", [KEY, f"\n {KEY}\r\n\n"])
def test_the_master_key_may_lie_in_a_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    for settings in (
        load({"master_key_file": str(file)}, {}),
        load({}, {"SIGNALPOST_MASTER_KEY_FILE": str(file)}),
    ):
        assert settings.master_key == b"k" * 32


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read the file .*: No such file or directory"),
        (b"", "what is in the file .* must be the Base64 of 32 bytes, not of 0"),
        (b"aHVudGVyMg==", "what is in the file .* must be the Base64 of 32 bytes, not of 7"),
        (KEY.encode() * 2, "what is in the file .* is not Base64"),
        (b"hunter2hunter2 *", "what is in the file .* is not Base64"),
        (b"k" * 31 + b"\xff", "what is in the file .* is not Base64"),
        ("hunter2é".encode(), "what is in the file .* is not Base64"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_refused_without_what_is_in_it(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    place = r"--master-key-file \(SIGNALPOST_MASTER_KEY_FILE\)"
    with pytest.raises(SettingsInvalid, match=rf"^{place}: {problem}$") as refusal:
        load({"master_key_file": str(file)}, {})
    assert "hunter2" not in str(refusal.value)


def test_a_folder_and_a_device_are_no_key_files(tmp_path: Path) -> None:
    for name, problem in ((str(tmp_path), "Is a directory"), ("/dev/zero", "is not Base64")):
        with pytest.raises(SettingsInvalid, match=f"{problem}$"):
            load({"master_key_file": name}, {})


def test_the_master_key_is_given_in_one_way(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    with pytest.raises(SettingsInvalid) as refusal:
        load({"master_key_file": str(file)}, {"SIGNALPOST_MASTER_KEY": KEY})
    assert str(refusal.value) == (
        "--master-key-file (SIGNALPOST_MASTER_KEY_FILE): SIGNALPOST_MASTER_KEY is set, too:"
        " give one of them"
    )
    empty = {"SIGNALPOST_MASTER_KEY": "", "SIGNALPOST_MASTER_KEY_FILE": str(file)}
    assert load({}, empty).master_key == b"k" * 32


def test_a_master_key_in_other_letters_is_not_base64() -> None:
    with pytest.raises(SettingsInvalid, match=r"^SIGNALPOST_MASTER_KEY: is not Base64$"):
        load({}, {"SIGNALPOST_MASTER_KEY": "ключ"})
