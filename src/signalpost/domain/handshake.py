"""Asking an endpoint for its consent, and reading its answer.

Source: HTTP 1.1 Web Hooks for Event Delivery 1.0.2 (CloudEvents), section 4, abuse protection.
Its callback, by which consent could come later, is not offered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

DEFAULT_ORIGIN: Final = "signalpost"

REQUEST_ORIGIN: Final = "webhook-request-origin"
REQUEST_RATE: Final = "webhook-request-rate"
ALLOWED_ORIGIN: Final = "webhook-allowed-origin"
ALLOWED_RATE: Final = "webhook-allowed-rate"

MAX_RATE_A_MINUTE: Final = (1 << 31) - 1
"""More than this is no limit."""

_RATE: Final = re.compile(r"0{0,20}[1-9][0-9]{0,20}")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MAX_ORIGIN_LENGTH: Final = 253


@dataclass(frozen=True, slots=True)
class Consent:
    """An endpoint's leave to send to it: as whom, and how much a minute; None is unlimited."""

    origin: str
    attempts_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no consent; `problem` says why, and repeats nothing of the answer."""

    problem: str


def question(origin: str, *, max_attempts_per_second: float | None) -> dict[str, str]:
    """Return the headers that ask for consent. A wish of less than one a minute asks for one."""
    asked = {REQUEST_ORIGIN: origin}
    if max_attempts_per_second is not None:
        asked[REQUEST_RATE] = str(math.ceil(max_attempts_per_second * 60))
    return asked


def judge(
    status_code: int, headers: Iterable[tuple[str, str]], *, origin: str
) -> Consent | Refusal:
    """Read an answer. Names of headers and origins are the same in upper and lower case.

    An answer without a rate sets no limit, also where it was asked for one.
    """
    if not 200 <= status_code <= 299:
        return Refusal(f"it answered OPTIONS with {status_code}")
    found = _collected(headers)
    allowed = found.get(ALLOWED_ORIGIN)
    if allowed is None:
        return Refusal("its answer to OPTIONS has no WebHook-Allowed-Origin")
    if allowed != "*" and allowed.lower() != origin.lower():
        return Refusal(f'its WebHook-Allowed-Origin is neither "{origin}" nor "*"')
    rate = found.get(ALLOWED_RATE, "*")
    if rate == "*":
        return Consent(origin)
    if not _RATE.fullmatch(rate):
        return Refusal('its WebHook-Allowed-Rate is neither a number of 1 or more nor "*"')
    number = int(rate)
    return Consent(origin, number if number <= MAX_RATE_A_MINUTE else None)


def lane_rate(chosen: float | None, allowed_per_minute: int | None) -> float | None:
    """Return the attempts a second that hold: the lower one; None is unlimited."""
    if allowed_per_minute is None:
        return chosen
    allowed = allowed_per_minute / 60
    return allowed if chosen is None else min(chosen, allowed)


def parse_origin(text: str) -> str:
    """Read the name that endpoints are asked in: a DNS name. Raises ValueError."""
    origin = text.strip().lower()
    labels = origin.split(".")
    if len(origin) > _MAX_ORIGIN_LENGTH or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{text!r} is not a DNS name such as webhooks.example.com")
    return origin


def _collected(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return headers by lower-cased name, different values of one joined (RFC 9110, 5.3)."""
    values: dict[str, dict[str, None]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), {})[value.strip(" \t")] = None
    return {name: ", ".join(different) for name, different in values.items()}
