"""What an operator can set: flags first, then environment variables, then defaults.

The only reader of the environment. All mistakes are reported at once.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from signalpost import failpoints
from signalpost.domain.egress_ports import DEFAULT_PORTS, Ports, parse_ports
from signalpost.domain.handshake import DEFAULT_ORIGIN, parse_origin
from signalpost.domain.lane import DEFAULT_LANE_LIMIT
from signalpost.domain.retention import DEFAULT_FAILED_RETENTION, DEFAULT_RETENTION, Retention
from signalpost.domain.subscription import IpNetwork

T = TypeVar("T")

DEFAULT_LISTEN = "127.0.0.1:50051"
DEFAULT_DATABASE = "sqlite:///signalpost.db"
DEFAULT_HTTP = "127.0.0.1:9464"
DEFAULT_WATCH_LIMIT = 200
DEFAULT_HOST_CONCURRENCY = 256
DEFAULT_HOST_FAILURE_RATE = 10
DEFAULT_LOG_LEVEL = "info"
_LOG_LEVELS = ("debug", "info", "warning", "error")
_PREFIX = "SIGNALPOST_"
_CLOSE = 0.8
_LINK = re.compile("(tcp|udp|sctp)://")
"""How a variable begins by which Kubernetes tells of a service, such as `signalpost-egress`."""
MASTER_KEY_BYTES = 32
"""Length of the master key: AES-256."""
_KEY_FILE_BYTES = 4096
"""More than a key and any white space around it: what is named may have no end."""


class SettingsInvalid(Exception):
    """Settings cannot be used; the message has one line for each that is at fault."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as it is set: `host:port`, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can connect."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, checked. Names, flags and variables are in the README."""

    listen: Address
    database: str
    http: Address
    egress_allow: tuple[IpNetwork, ...]
    egress_ports: Ports
    egress_ca: Path | None
    handshake_origin: str
    host_concurrency: int
    host_failure_rate: int
    watch_limit: int
    reflection: bool
    log_level: str
    retention: Retention
    lane_limit: int
    dev: bool
    master_key: bytes | None = field(repr=False)
    failpoint: str | None = None


Heeds = Callable[[str], bool]
"""Tells whether what a variable holds is read."""


def heeds_all(_: str) -> bool:
    """Read every variable."""
    return True


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], *, heeds: Heeds = heeds_all
) -> Settings:
    """Read the settings. `flags` holds those given on the command line, by field name.

    Misspelt variables are found also among those that it does not heed. Raises SettingsInvalid
    with everything that is wrong.
    """
    source = _Source(flags, environment, heeds)
    dev = source.read("dev", "DEV", default=False, parse=_boolean)
    settings = Settings(
        listen=source.read("listen", "LISTEN", default=_listen(DEFAULT_LISTEN), parse=_listen),
        database=source.read("database", "DATABASE_URL", default=DEFAULT_DATABASE, parse=str),
        http=source.read("http", "HTTP", default=_http(DEFAULT_HTTP), parse=_http),
        egress_allow=source.read("egress-allow", "EGRESS_ALLOW", default=(), parse=_networks),
        egress_ports=source.read(
            "egress-ports", "EGRESS_PORTS", default=DEFAULT_PORTS, parse=_ports
        ),
        egress_ca=source.read("egress-ca", "EGRESS_CA", default=None, parse=_file),
        handshake_origin=source.read(
            "handshake-origin", "HANDSHAKE_ORIGIN", default=DEFAULT_ORIGIN, parse=parse_origin
        ),
        host_concurrency=source.count("host-concurrency", default=DEFAULT_HOST_CONCURRENCY),
        host_failure_rate=source.count("host-failure-rate", default=DEFAULT_HOST_FAILURE_RATE),
        watch_limit=source.count("watch-limit", default=DEFAULT_WATCH_LIMIT),
        reflection=source.read("reflection", "REFLECTION", default=dev, parse=_boolean),
        log_level=source.read(
            "log-level", "LOG_LEVEL", default=DEFAULT_LOG_LEVEL, parse=_log_level
        ),
        retention=_retention(source),
        lane_limit=source.count("lane-limit", default=DEFAULT_LANE_LIMIT),
        dev=dev,
        master_key=_master_key(source),
        failpoint=source.read(None, "FAILPOINT", default=None, parse=_failpoint),
    )
    source.find_misspelt()
    if source.problems:
        raise SettingsInvalid("\n".join(source.problems))
    return settings


class _Source:
    """Reads one setting after the other and collects what is wrong with them."""

    def __init__(
        self, flags: Mapping[str, object], environment: Mapping[str, str], heeds: Heeds
    ) -> None:
        self._flags = flags
        self._environment = environment
        self._heeds = heeds
        self._names: list[str] = []
        self.problems: list[str] = []

    def count(self, flag: str, *, default: int) -> int:
        """Read a number of 1 or more; its variable has the name of its flag."""
        name = flag.replace("-", "_").upper()
        return self.read(flag, name, default=default, parse=_positive)

    def read(self, flag: str | None, name: str, *, default: T, parse: Callable[[str], T]) -> T:
        self._names.append(name)
        text = self.text(flag, name)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.refuse(flag, name, str(error))
            return default

    def text(self, flag: str | None, name: str) -> str:
        """Return what is given for a setting, "" for nothing."""
        given = self._flags.get(flag.replace("-", "_")) if flag else None
        if given is not None:
            return _text(given)
        variable = _PREFIX + name
        return self._environment.get(variable, "") if self._heeds(variable) else ""

    def refuse(self, flag: str | None, name: str, problem: str) -> None:
        """Add what is wrong with a setting."""
        place = f"--{flag} ({_PREFIX}{name})" if flag else _PREFIX + name
        self.problems.append(f"{place}: {problem}")

    def find_misspelt(self) -> None:
        """Add variables that look like one that was read; an orchestrator may set others."""
        for variable, text in self._environment.items():
            name = variable.removeprefix(_PREFIX)
            if name == variable or name in self._names or _LINK.match(text):
                continue
            for meant in get_close_matches(name, self._names, n=1, cutoff=_CLOSE):
                problem = f"there is no such setting; did you mean {_PREFIX}{meant}?"
                self.problems.append(f"{variable}: {problem}")


def _retention(source: _Source) -> Retention:
    return Retention(
        delivered=source.read("retention", "RETENTION", default=DEFAULT_RETENTION, parse=_duration),
        failed=source.read(
            "failed-retention",
            "FAILED_RETENTION",
            default=DEFAULT_FAILED_RETENTION,
            parse=_duration,
        ),
    )


def _master_key(source: _Source) -> bytes | None:
    """Read the master key itself, or the file that it lies in."""
    flag, name = "master-key-file", "MASTER_KEY_FILE"
    key = source.read(None, "MASTER_KEY", default=None, parse=_key)
    kept = source.read(flag, name, default=None, parse=_key_in)
    if source.text(None, "MASTER_KEY") and source.text(flag, name):
        source.refuse(flag, name, f"{_PREFIX}MASTER_KEY is set, too: give one of them")
    return key or kept


def _text(given: object) -> str:
    if isinstance(given, (tuple, list)):
        return ",".join(str(part) for part in given)
    return str(given)


def _boolean(text: str) -> bool:
    match text.strip().lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
    raise ValueError(f"{text!r} is neither true nor false")


def _log_level(text: str) -> str:
    level = text.strip().lower()
    if level not in _LOG_LEVELS:
        raise ValueError(f"{text!r} is not one of {', '.join(_LOG_LEVELS)}")
    return level


def _address(text: str, *, example: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port, such as {example}")
    host = host.removeprefix("[").removesuffix("]")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{host!r} is not an IP address or localhost") from None
    return Address(host, int(port))


def _http(text: str) -> Address:
    return _address(text, example=DEFAULT_HTTP)


def _listen(text: str) -> Address:
    address = _address(text, example=DEFAULT_LISTEN)
    if not address.is_loopback:
        raise ValueError(
            f"{address} can be reached from other machines, and this version cannot"
            " authenticate callers yet; listen on 127.0.0.1 or [::1]"
        )
    return address


def _networks(text: str) -> tuple[IpNetwork, ...]:
    return tuple(_network(item) for item in _items(text))


def _ports(text: str) -> Ports:
    return parse_ports(_items(text))


def _items(text: str) -> list[str]:
    """Return what is separated by commas; `@file` stands for what is in a file."""
    found: list[str] = []
    for item in filter(None, map(str.strip, text.split(","))):
        found += _items_of(item[1:]) if item.startswith("@") else [item]
    return found


def _items_of(name: str) -> list[str]:
    """Read a file of items, separated by commas or in lines, with comments after `#`."""
    try:
        lines = Path(name).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the file {name!r}: {_told(error)}") from None
    items = ",".join(line.partition("#")[0] for line in lines).split(",")
    return [item.strip() for item in items if item.strip()]


def _told(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or "it is not text"


def _network(text: str) -> IpNetwork:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address range such as 10.1.0.0/16 (all host bits zero)"
        ) from None


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smhd])", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a duration such as 7d, 12h, 30m or 90s")
    return int(found[1]) * _UNITS[found[2]]


_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _file(text: str) -> Path:
    path = Path(text)
    try:
        found = path.is_file()
    except OSError as error:  # such as a folder that may not be entered
        raise ValueError(f"cannot read the file {text!r}: {_told(error)}") from None
    if not found:
        raise ValueError(f"there is no file {text!r}")
    return path


def _key(text: str | bytes) -> bytes:
    # No complaint may show what is in it.
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raise ValueError("is not Base64") from None
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError(f"must be the Base64 of {MASTER_KEY_BYTES} bytes, not of {len(key)}")
    return key


def _key_in(name: str) -> bytes:
    """Read a file with a key, also one that ends only when its writer closes it."""
    try:
        with Path(name).open("rb") as file:
            content = file.read(_KEY_FILE_BYTES)
    except OSError as error:
        raise ValueError(f"cannot read the file {name!r}: {_told(error)}") from None
    try:
        return _key(content)
    except ValueError as error:
        raise ValueError(f"what is in the file {name!r} {error}") from None


def _failpoint(text: str) -> str:
    failpoints.parse(text)
    return text
