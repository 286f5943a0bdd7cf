"""Room that is kept for outcomes, for the time when the disk is full."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 8 * 1024 * 1024
"""Enough for the outcomes of all attempts that can be under way, many times over."""

_CHUNK: Final = bytes(1024 * 1024)

_logger: Final = logging.getLogger(__name__)


class Reserve:
    """A file beside the database that is given up when there is no room left.

    From then on what could wait is refused, so that the room serves what must be kept, until
    the file can be made again, with as much left. Where there never was such room, the store
    does without.
    """

    def __init__(self, database: Path) -> None:
        self._file = database.with_name(database.name + ".reserve")
        self._held = False
        self._released = False

    def hold(self) -> bool:
        """Make the file if it is not there; False while what could wait is to be refused."""
        if not self._held:
            self._held = self._fill()
            if self._held and self._released:
                _logger.warning("there is room again: events are accepted")
            self._released = self._released and not self._held
        return not self._released

    def release(self) -> bool:
        """Give the room up; False if it was given up before, or cannot be."""
        if not self._held:
            return False
        try:
            self._file.unlink(missing_ok=True)
        except OSError:
            return False
        self._held, self._released = False, True
        _logger.error("storage is full: events are refused, outcomes of deliveries are kept")
        return True

    def _fill(self) -> bool:
        try:
            if self._file.exists() and self._file.stat().st_size == RESERVE_BYTES:
                return True
            free = shutil.disk_usage(self._file.parent).free
            if free < 2 * RESERVE_BYTES:
                return False
            self._file.touch(mode=0o600)
            with self._file.open("wb", buffering=0) as file:
                while file.tell() < RESERVE_BYTES:
                    file.write(_CHUNK)
        except OSError:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
            return False
        return True
