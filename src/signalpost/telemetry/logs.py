"""Logs: one JSON object a line on standard error."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TextIO

import orjson

_FLUSH_SECONDS = 0.05
# A record has its own fields first, then those of the caller.
_STANDARD = len(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, its extra fields beside the standard ones.

    Control characters are escaped by JSON, so that no foreign text reaches a terminal raw.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= islice(vars(record).items(), _STANDARD, None)
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(fields, default=str).decode()
        except orjson.JSONEncodeError:  # such as half of a character in the name of a file
            return json.dumps(fields, default=str)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes what an event loop logs within a moment at once, warnings and errors immediately.

    A system call for each line would cost more than all else about it.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._scheduled = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        super().emit(record)
        if record.levelno >= logging.WARNING:
            self._flush_now()

    def flush(self) -> None:
        """See to it that what was written gets out soon; outside of an event loop, at once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush_now()
            return
        if not self._scheduled:
            self._scheduled = True
            loop.call_later(_FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        self._scheduled = False
        # On a full disk, or where nobody reads on, whoever has something to say goes on.
        with suppress(OSError):
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name elsewhere
        """Tell of what cannot be written, unless that is because nothing can be."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure(*, level: str = "info") -> None:
    """Send the logs of this process to standard error; `level` is the least that is written."""
    stream = io.TextIOWrapper(sys.stderr.buffer, encoding="utf-8", errors="backslashreplace")
    handler = _Handler(stream)
    handler.setFormatter(JsonFormatter())
    least = logging.getLevelNamesMapping()[level.upper()]
    # Others have their say only where something may be wrong, or is.
    logging.basicConfig(level=max(least, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("signalpost").setLevel(least)
    # It tells of its own workings; `store` says what became of a database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
