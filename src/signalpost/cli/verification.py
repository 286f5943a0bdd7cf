"""What a receiver does with the signature of a webhook, as Standard Webhooks defines it.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
It shares no code with the side that signs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

TOLERANCE = timedelta(minutes=5)
"""How far the time of a webhook may be from ours, so that an old one cannot be sent again."""

_MAX_SIGNATURES = 32
_MAX_TIMESTAMP_DIGITS = 15


class Result(Enum):
    """What is known of a signature. The value is the word for people."""

    VERIFIED = "verified"
    NOT_VERIFIED = "NOT verified"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class Verification:
    """The result, and the reason of any but VERIFIED."""

    result: Result
    reason: str = ""


def verify(
    headers: Mapping[str, str], body: bytes, *, secrets: Sequence[bytes], now: datetime
) -> Verification:
    """Check the signatures over the raw bytes of a body.

    `headers` have lower-case names; `secrets` are raw keys, of which one must have signed;
    without any the webhook stays UNVERIFIED. Comparison takes constant time.
    """
    if not secrets:
        return Verification(Result.UNVERIFIED, "no secret was given")
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        if not headers.get(name):
            return Verification(Result.NOT_VERIFIED, f"the header {name} is missing")
    timestamp = headers["webhook-timestamp"]
    problem = _problem_of_time(timestamp, now=now)
    if problem:
        return Verification(Result.NOT_VERIFIED, problem)
    content = f"{headers['webhook-id']}.{timestamp}.".encode() + body
    if not _signed(headers["webhook-signature"], content, secrets=secrets):
        return Verification(Result.NOT_VERIFIED, "no signature matches a given secret")
    return Verification(Result.VERIFIED)


def _problem_of_time(timestamp: str, *, now: datetime) -> str:
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > _MAX_TIMESTAMP_DIGITS:
        return "webhook-timestamp is not a number of seconds"
    age = now.timestamp() - int(timestamp)
    if age > TOLERANCE.total_seconds():
        return "webhook-timestamp is more than 5 minutes old"
    if -age > TOLERANCE.total_seconds():
        return "webhook-timestamp is more than 5 minutes in the future"
    return ""


def _signed(header: str, content: bytes, *, secrets: Sequence[bytes]) -> bool:
    given = [
        signature.encode()
        for version, _, signature in (item.partition(",") for item in header.split())
        if version == "v1"
    ][:_MAX_SIGNATURES]
    found = False
    for secret in secrets:
        expected = base64.b64encode(hmac.digest(secret, content, hashlib.sha256))
        for signature in given:
            found |= hmac.compare_digest(expected, signature)
    return found
