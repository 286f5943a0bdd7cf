"""Finds the master key, or makes one."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path

from signalpost.store.refusal import MasterKeyInvalid
from signalpost.store.sealing import KEY_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKey:
    """The key of 32 bytes. `path` is the file it lies in, `made` whether that was made just now."""

    value: bytes = field(repr=False)
    path: Path | None
    made: bool


def load_or_make(database: Path, *, given: bytes | None, sealed: bool) -> MasterKey:
    """Return the key that is given, else that of `<database>.key`, else make that file.

    None is made if the database is `sealed` already: the key that it needs is another one.
    The file has mode 0600 and holds the Base64 of the key. Raises MasterKeyInvalid.
    """
    if given is not None:
        return MasterKey(value=_checked(given, "the master key"), path=None, made=False)
    path = database.with_name(database.name + ".key")
    try:
        return MasterKey(value=_load(path), path=path, made=False)
    except FileNotFoundError:
        if sealed:
            raise MasterKeyInvalid(
                f"secrets in {database} are sealed with a master key, and none is in "
                f"SIGNALPOST_MASTER_KEY, SIGNALPOST_MASTER_KEY_FILE or {path}"
            ) from None
    key = os.urandom(KEY_BYTES)
    try:
        _write(path, base64.b64encode(key) + b"\n")
    except OSError as error:
        raise MasterKeyInvalid(f"cannot write {path}: {error.strerror}") from None
    return MasterKey(value=key, path=path, made=True)


def _checked(key: bytes, name: str) -> bytes:
    if len(key) != KEY_BYTES:
        raise MasterKeyInvalid(f"{name} must be {KEY_BYTES} bytes, not {len(key)}")
    return key


def _load(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MasterKeyInvalid(f"cannot read {path}: {error.strerror}") from None
    try:
        return _checked(base64.b64decode(content.strip(), validate=True), f"the key in {path}")
    except binascii.Error:
        raise MasterKeyInvalid(f"{path} does not hold the Base64 of a key") from None


def _write(path: Path, content: bytes) -> None:
    # Nothing may be sealed with a key that a power cut can still take away.
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600, exist_ok=False)
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
