"""When an endpoint is to be suspended, counted from what it answered and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import SuspensionReason


@dataclass
class Failures:
    """When attempts failed since the last success, and in the last ones in a row were forbidden."""

    times: list[datetime] = field(default_factory=list)
    forbidden: list[datetime] = field(default_factory=list)

    def hear(self, outcome: Outcome, *, now: datetime) -> None:
        """Take in how an attempt ended."""
        if outcome is Outcome.SUCCEEDED:
            self.times, self.forbidden = [], []
            return
        self.times.append(now)
        self.forbidden = [*self.forbidden, now] if outcome is Outcome.FORBIDDEN else []

    def crash(self) -> None:
        """Forget what a process need not keep: failures that all came within one hour."""
        if self.times and self.times[-1] - self.times[0] < timedelta(hours=1):
            self.times, self.forbidden = [], []

    def reasons(self, status_code: int, *, now: datetime) -> set[SuspensionReason]:
        """Return what speaks for a suspension now that an attempt ended with this status."""
        reasons = set()
        if status_code == 410:
            reasons.add(SuspensionReason.ENDPOINT_GONE)
        if len(self.forbidden) >= 10 and now - self.forbidden[0] >= timedelta(hours=1):
            reasons.add(SuspensionReason.ENDPOINT_FORBIDDEN)
        if (
            len(self.times) >= 10
            and now - self.times[0] >= timedelta(days=5)
            and now - self.times[-2] <= timedelta(hours=12)
        ):
            reasons.add(SuspensionReason.ENDPOINT_FAILING)
        return reasons
