"""Encrypts what must not lie in the database in the clear.

A sealed value is one byte for the format, four for the master key, 12 of nonce, and
AES-256-GCM of the content. What it belongs to is authenticated with it: copied elsewhere, it
does not open.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from signalpost.ports import SecretUnreadable

KEY_BYTES = 32

_FORMAT = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_NONCE_AT = len(_FORMAT) + _KEY_ID_BYTES
_CONTENT_AT = _NONCE_AT + _NONCE_BYTES


def derive(master_key: bytes, purpose: str, *, length: int = KEY_BYTES) -> bytes:
    """Return a key for one purpose alone (HKDF-SHA256, RFC 5869)."""
    return HKDF(SHA256(), length=length, salt=None, info=purpose.encode()).derive(master_key)


class Sealer:
    """Seals and opens with one master key of 32 bytes."""

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(derive(master_key, "signalpost sealing"))
        key_id = derive(master_key, "signalpost master key id", length=_KEY_ID_BYTES)
        self._prefix = _FORMAT + key_id

    def seal(self, content: bytes, *belongs_to: str) -> bytes:
        """Encrypt; `belongs_to` names the purpose first, then what the content is of."""
        nonce = os.urandom(_NONCE_BYTES)
        head = self._prefix + nonce
        return head + self._cipher.encrypt(nonce, content, _bound(head, belongs_to))

    def open(self, sealed: bytes, *belongs_to: str) -> bytes:
        """Decrypt what `seal` made for the same owner. Raises SecretUnreadable."""
        if not sealed.startswith(self._prefix):
            raise SecretUnreadable(f"{belongs_to[0]}: sealed with another master key")
        nonce = sealed[_NONCE_AT:_CONTENT_AT]
        head = sealed[:_CONTENT_AT]
        try:
            return self._cipher.decrypt(nonce, sealed[_CONTENT_AT:], _bound(head, belongs_to))
        except (InvalidTag, ValueError):
            raise SecretUnreadable(f"{belongs_to[0]}: damaged, or of another owner") from None


def _bound(head: bytes, belongs_to: tuple[str, ...]) -> bytes:
    parts = [part.encode() for part in belongs_to]
    return head + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
