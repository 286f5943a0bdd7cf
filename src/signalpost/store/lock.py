"""Keeps a second process away from a database file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from signalpost.store.refusal import DatabaseRefused


class DatabaseLock:
    """Holds `<database>.lock` for as long as this process uses the database.

    The database itself must not be opened for that: closing any descriptor of it would drop
    the locks that SQLite holds on it.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DatabaseRefused(f"cannot open {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise DatabaseRefused(f"{database} is in use by another process") from None

    def release(self) -> None:
        """Let others use the database. The file stays: removing it would race with them."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
