"""Signing as Standard Webhooks defines it.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from functools import lru_cache
from typing import assert_never

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from signalpost.domain.subscription import Algorithm, SigningKey

SECRET_PREFIX = "whsec_"
PUBLIC_KEY_PREFIX = "whpk_"
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
NEW_SECRET_BYTES = 32
"""Of either algorithm: a private key of Ed25519 has as many (RFC 8032, section 5.1.5)."""


def sign(keys: Iterable[SigningKey], *, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature a key, separated by spaces.

    `timestamp` are the Unix seconds of the attempt, `body` the bytes on the wire.
    """
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return " ".join(_signature(key, content) for key in keys)


def _signature(key: SigningKey, content: bytes) -> str:
    match key.algorithm:
        case Algorithm.HMAC_SHA256:
            version, signature = "v1", _hmac(key.secret, content)
        case Algorithm.ED25519:
            version, signature = "v1a", _private_key(key.secret).sign(content)
        case _:
            assert_never(key.algorithm)
    return f"{version},{base64.b64encode(signature).decode()}"


def _hmac(secret: bytes, content: bytes) -> bytes:
    keyed = _keyed(secret).copy()
    keyed.update(content)
    return keyed.finalize()


# To take in a key takes as long as signing with it, and `hmac.digest` lets go of the interpreter.
@lru_cache(maxsize=4096)
def _keyed(secret: bytes) -> HMAC:
    return HMAC(secret, SHA256())


# Reading a key takes as long as signing with it.
@lru_cache(maxsize=4096)
def _private_key(secret: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(secret)


@lru_cache(maxsize=4096)
def _public_bytes(secret: bytes) -> bytes:
    return _private_key(secret).public_key().public_bytes_raw()


def public_key(key: SigningKey) -> str:
    """Write what receivers verify an Ed25519 key's signatures by; empty for an HMAC key."""
    if key.algorithm is not Algorithm.ED25519:
        return ""
    return PUBLIC_KEY_PREFIX + base64.b64encode(_public_bytes(key.secret)).decode()


def shown_secret(key: SigningKey) -> str:
    """Write an HMAC key's secret as its owner sees it; empty for one whose secret never leaves."""
    return format_secret(key.secret) if key.algorithm is Algorithm.HMAC_SHA256 else ""


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
