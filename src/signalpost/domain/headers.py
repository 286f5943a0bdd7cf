"""Which headers a customer may have sent along with an event.

Checked when a subscription is made: what passes can be sent, neither changes how a request is
framed nor overrides a header of ours. Source: RFC 9110, sections 5 and 7.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

MAX_HEADERS = 32
MAX_HEADER_BYTES = 8 * 1024
"""Names and values together."""

_MOST_NAMED = 1000
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")

RESERVED_NAMES = frozenset(
    {
        "accept-encoding",
        "alt-svc",
        "baggage",
        "connection",
        "cookie",
        "cookie2",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
"""Headers that frame a request, belong to one connection only, or are set by the service."""

RESERVED_PREFIXES = ("content-", "proxy-", "webhook-")


def header_violations(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what is wrong with a customer's headers: pairs of a name and an explanation.

    The name is empty if the headers as a whole are at fault. No explanation repeats a value.
    Of far too many that is all that is said.
    """
    if len(headers) > _MOST_NAMED:
        return _too_much(headers)
    found = [
        (name, wrong)
        for name, value in headers.items()
        if (wrong := _wrong_with_name(name) or _wrong_with_value(value))
    ]
    return found + _repeated(headers) + _too_much(headers)


def are_sendable(headers: Mapping[str, str]) -> bool:
    """Tell whether headers that are stored stay within their lines of a request.

    Those that passed do, whatever was refused at that time.
    """
    return all(
        _TOKEN.fullmatch(name) and not _CONTROL.search(value) for name, value in headers.items()
    )


def _wrong_with_name(name: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "is not a header name: letters, digits and !#$%&'*+-.^_`|~ only"
    lowered = name.lower()
    if lowered in RESERVED_NAMES or lowered.startswith(RESERVED_PREFIXES):
        return "is set by the service itself"
    return None


def _wrong_with_value(value: str) -> str | None:
    if not value:
        return "has an empty value"
    if not _VALUE.fullmatch(value):
        return "has a value that is not printable ASCII without spaces at its ends"
    return None


def _repeated(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    counts = Counter(name.lower() for name in headers)
    return [
        (name, "is there more than once: upper and lower case are the same")
        for name in headers
        if counts[name.lower()] > 1
    ]


def _too_much(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    found = []
    if len(headers) > MAX_HEADERS:
        found.append(("", f"at most {MAX_HEADERS} headers, not {len(headers)}"))
    size = sum(
        len(text.encode("utf-8", "surrogatepass")) for item in headers.items() for text in item
    )
    if size > MAX_HEADER_BYTES:
        found.append(("", f"at most {MAX_HEADER_BYTES} bytes of names and values, not {size}"))
    return found
