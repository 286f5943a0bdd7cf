"""The URI of a customer's endpoint, in one spelling that every parser reads alike.

Whatever two programs could read differently is refused, not repaired: an address must not be
judged as one host and dialled as another. Sources: RFC 3986, RFC 5891 (IDNA 2008), RFC 5952,
RFC 6761.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna

from signalpost.domain.address import IpAddress

MAX_URI_LENGTH: Final = 2048
DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<authority>[^/?]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PATH = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})+")
_ENCODED_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_ENCODED_DOT = re.compile(r"%2[Ee]")
_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0\s]")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOKS_LIKE_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}
_OTHER_DOTS = re.compile("[\u3002\uff0e\uff61]")

PRIVATE_SUFFIXES: Final = frozenset({"home.arpa", "internal", "local", "localdomain", "localhost"})
"""Names under these mean something else on every network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint: `uri` is its canonical text, the other fields are what that consists of.

    `host` is an IP address (without brackets) or a name in lower case A-labels; `target` is
    path and query. `address` is set if the host is an IP address, to be judged by the caller.
    """

    uri: str
    scheme: str
    host: str
    port: int
    target: str
    address: IpAddress | None


class EndpointInvalid(ValueError):
    """A URI cannot be an endpoint; the message completes "endpoint_uri ..."."""


def parse_endpoint(uri: str, *, dev: bool) -> Endpoint:
    """Read the URI of an endpoint. Raises EndpointInvalid.

    `dev` admits the host `localhost`, and plain http to loopback hosts. Store `Endpoint.uri`,
    not what came in.
    """
    _check_text(uri)
    parts = _PARTS.fullmatch(uri)
    if parts is None:
        raise EndpointInvalid("must be an absolute URI such as https://example.com/webhooks")
    scheme = parts["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise EndpointInvalid("must begin with https://")
    host, address, port = _parse_authority(parts["authority"], dev=dev)
    if scheme == "http" and not (dev and _is_loopback(host, address)):
        raise EndpointInvalid("must begin with https://")
    target = _parse_target(parts["path"], parts["query"])
    port = port or DEFAULT_PORTS[scheme]
    return Endpoint(
        uri=_write(scheme, host, port, target),
        scheme=scheme,
        host=host,
        port=port,
        target=target,
        address=address,
    )


def _check_text(uri: str) -> None:
    if not uri:
        raise EndpointInvalid("must not be empty")
    if len(uri) > MAX_URI_LENGTH:
        raise EndpointInvalid(f"must be at most {MAX_URI_LENGTH} characters, not {len(uri)}")
    if _SPACE_OR_CONTROL.search(uri):
        raise EndpointInvalid("must not contain spaces or control characters")
    if "\\" in uri:
        raise EndpointInvalid("must not contain a backslash")
    if "#" in uri:
        raise EndpointInvalid("must not have a fragment (#)")


def _parse_authority(authority: str, *, dev: bool) -> tuple[str, IpAddress | None, int | None]:
    if "@" in authority:
        raise EndpointInvalid("must not hold a user name or password (@)")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise EndpointInvalid("has a malformed host or port")
    port = None if match["port"] is None else _parse_port(match["port"])
    host = match["host"]
    if not host:
        raise EndpointInvalid("must name a host")
    if "%" in host:
        raise EndpointInvalid("must not have a % in its host: no escapes and no zone")
    if host.startswith("["):
        six = _parse_ipv6(host[1:-1])
        return str(six), six, port
    name = _parse_name(host)
    four = _parse_ipv4(name)
    if four is None:
        _check_public(name, dev=dev)
    return name, four, port


def _parse_port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise EndpointInvalid("must have a port from 1 to 65535 after the colon")
    return int(text)


def _parse_ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise EndpointInvalid("must have an IPv6 address in its brackets") from None
    if address.ipv4_mapped is not None:
        raise EndpointInvalid(f"must name the host as {address.ipv4_mapped}")
    if str(address) != text.lower():
        raise EndpointInvalid(f"must name the host as [{address}]")
    return address


def _parse_name(host: str) -> str:
    """Return the host in lower case, its labels as A-labels."""
    if _OTHER_DOTS.search(host):
        raise EndpointInvalid("must have plain dots in its host name")
    if host.endswith("."):
        raise EndpointInvalid("must not have a dot at the end of its host name")
    name = ".".join(_parse_label(label) for label in host.split("."))
    if len(name) > 253:
        raise EndpointInvalid("has a host name of more than 253 characters")
    return name


def _parse_label(label: str) -> str:
    label = label.translate(_LOWER)
    if label.isascii():
        if not _LABEL.fullmatch(label):
            raise EndpointInvalid(
                "has a malformed host name: 1 to 63 letters, digits and inner hyphens"
                " between its dots"
            )
        if not label.startswith("xn--"):
            return label
    try:
        encoded = idna.alabel(idna.ulabel(label)).decode("ascii")
    except UnicodeError:
        encoded = ""
    if not encoded or (label.isascii() and encoded != label):
        raise EndpointInvalid("has a host name that IDNA 2008 does not allow")
    return encoded


def _parse_ipv4(name: str) -> IPv4Address | None:
    """Return the address if a name is one; some programs read any name that ends in a number so."""
    if not _LOOKS_LIKE_NUMBER.fullmatch(name.rpartition(".")[2]):
        return None
    try:
        return IPv4Address(name)
    except AddressValueError:
        raise EndpointInvalid(
            "must spell an IPv4 address as four decimal numbers without leading zeros"
        ) from None


def _check_public(name: str, *, dev: bool) -> None:
    if dev and name == "localhost":
        return
    if any(name == suffix or name.endswith("." + suffix) for suffix in PRIVATE_SUFFIXES):
        raise EndpointInvalid("must name a host of the Internet, not of a local network")
    if "." not in name:
        raise EndpointInvalid("must have a full host name, with a dot")


def _is_loopback(host: str, address: IpAddress | None) -> bool:
    return address.is_loopback if address is not None else host == "localhost"


def _parse_target(path: str, query: str | None) -> str:
    if not _PATH.fullmatch(path):
        raise EndpointInvalid("has a path with characters that must be percent-encoded")
    if any(_ENCODED_DOT.sub(".", part) in {".", ".."} for part in path.split("/")):
        raise EndpointInvalid("must not have . or .. in its path")
    if query is not None and not _QUERY.fullmatch(query):
        raise EndpointInvalid(
            "has a query that is empty or has characters that must be percent-encoded"
        )
    target = (path or "/") + ("" if query is None else "?" + query)
    if _ENCODED_CONTROL.search(target):
        raise EndpointInvalid("must not contain encoded control characters")
    return target


def _write(scheme: str, host: str, port: int, target: str) -> str:
    authority = f"[{host}]" if ":" in host else host
    if port != DEFAULT_PORTS[scheme]:
        authority += f":{port}"
    uri = f"{scheme}://{authority}{target}"
    if len(uri) > MAX_URI_LENGTH:
        raise EndpointInvalid(f"must be at most {MAX_URI_LENGTH} characters in IDNA form")
    return uri
