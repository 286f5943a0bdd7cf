"""What the pruner of `delivery` asks of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from signalpost.domain.retention import Retention


class Prunable(Enum):
    """What is removed after its retention. Deliveries go with their attempts."""

    DELIVERIES = "deliveries"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Expired:
    """Rows that are kept no longer, up to and with the row `reached`.

    `more` says whether there may be further ones behind it.
    """

    rows: Sequence[int]
    reached: int
    more: bool


class RetentionStore(Protocol):
    """Removes what is kept no longer, in the order in which it was accepted."""

    async def find_expired(
        self, kind: Prunable, *, after: int, retention: Retention, now: datetime
    ) -> Expired:
        """Look at a bounded number of rows behind `after`; find few of those to remove."""
        ...

    async def prune(
        self, kind: Prunable, rows: Sequence[int], *, retention: Retention, now: datetime
    ) -> int:
        """Remove those of these rows that are still to be removed; return how many.

        An event goes with the last of its deliveries, but not before its own retention is
        over; one that has none goes by that alone. Its ID is free from then on.
        """
        ...
