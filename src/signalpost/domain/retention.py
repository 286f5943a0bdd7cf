"""How long what is over stays on record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from signalpost.domain.delivery import DeliveryState

DEFAULT_RETENTION: Final = timedelta(days=7)
DEFAULT_FAILED_RETENTION: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a delivery is kept after its end: `failed` if it failed, otherwise `delivered`.

    An event is kept as long as any of its deliveries, and for `delivered` after it was
    published.
    """

    delivered: timedelta = DEFAULT_RETENTION
    failed: timedelta = DEFAULT_FAILED_RETENTION

    @property
    def shortest(self) -> timedelta:
        """What is younger than this is kept, whatever it is."""
        return min(self.delivered, self.failed)

    def keeps(self, state: DeliveryState, *, end_time: datetime | None, now: datetime) -> bool:
        """Tell whether a delivery is still to be kept."""
        if end_time is None or state is DeliveryState.PENDING:
            return True
        period = self.failed if state is DeliveryState.FAILED else self.delivered
        return now - end_time < period
