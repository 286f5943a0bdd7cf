"""What the network did in an attempt, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum

MAX_RESPONSE_READ = 64 * 1024
"""Bytes of an answer's body that are read at most."""

MAX_RESPONSE_KEPT = 4 * 1024
"""Bytes of an answer's body that are kept."""

RESPONSE_READ_LIMIT = timedelta(seconds=1)
"""How long the body of an answer is read at most."""


class Outcome(IntEnum):
    """How an attempt ended. Numbers as in `DeliveryAttempt.Outcome` of the contract."""

    SUCCEEDED = 1
    REJECTED = 2
    TIMED_OUT = 3
    DNS_FAILED = 4
    CONNECTION_FAILED = 5
    CONNECTION_LOST = 6
    TLS_FAILED = 7
    PROTOCOL_ERROR = 8
    FORBIDDEN = 9
    INTERRUPTED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long the phases of an attempt took; None for one that did not take place."""

    dns: timedelta | None = None
    connect: timedelta | None = None
    tls: timedelta | None = None
    write: timedelta | None = None
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """The outcome of one HTTP request and what is known about it.

    `status_code` is 0 without an answer; `response_body` are its first 4 KiB, raw;
    `error_code` is machine-readable, such as "CERTIFICATE_EXPIRED"; `latency` runs to the
    status line or to the failure; `retry_after` is that header of a refusal, as it came.
    """

    outcome: Outcome
    latency: timedelta
    timings: Timings = field(default_factory=Timings)
    status_code: int = 0
    response_body: bytes = b""
    response_truncated: bool = False
    retry_after: str = ""
    error_code: str = ""
    error_message: str = ""
    remote_address: str = ""


def outcome_of_status(status_code: int) -> Outcome:
    """Tell what an HTTP status means: 2xx took the event, everything else did not."""
    return Outcome.SUCCEEDED if 200 <= status_code <= 299 else Outcome.REJECTED
