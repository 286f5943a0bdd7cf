"""The clock of the machine."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """Reads the machine's wall clock."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        return datetime.now(UTC)
