"""Signing as Standard Webhooks defines it.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from signalpost.domain.subscription import Algorithm, SigningKey

SECRET_PREFIX = "whsec_"
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
NEW_SECRET_BYTES = 32


def sign(keys: Iterable[SigningKey], *, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature a key, separated by spaces.

    `timestamp` are the Unix seconds of the attempt, `body` the bytes on the wire.
    """
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return " ".join(_signature(key, content) for key in keys)


def _signature(key: SigningKey, content: bytes) -> str:
    if key.algorithm is not Algorithm.HMAC_SHA256:
        raise ValueError(f"{key.algorithm.name} is not supported by this version")
    digest = hmac.digest(key.secret, content, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def format_secret(secret: bytes) -> str:
    """Write an HMAC secret as its owner sees it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def parse_secret(text: str) -> bytes:
    """Read an HMAC secret: `whsec_` and the Base64 of 24 to 64 bytes.

    Raises ValueError, whose message says what is wrong without repeating the secret.
    """
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(f"must begin with {SECRET_PREFIX!r}")
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be Base64 after its prefix") from None
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"must be {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, not {len(secret)}"
        )
    return secret
