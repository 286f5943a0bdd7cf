"""What becomes of deliveries that were under way when the process died.

A crash interrupts many, one of which may have caused it. Whatever was under way in one crash
only goes again at once. What was under way in two in a row goes again one after the other,
so that the next crash finds few of them under way, and the more crashes there were, the farther
apart. What was in three may be given up, but of those only the one that was claimed last, and
only if that was clearly after the others: a crash costs one delivery at most, and one that
kills the process soon after it was claimed is the one that goes. One that was in so few may
have met as many others that kill. So it goes only if nothing at all was claimed since shortly
before it; where something always is, it takes five crashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from signalpost.domain.delivery import FailureReason
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.verdict import GiveUp, RetryAt

MOST_CRASHES: Final = 3
"""How many crashes in a row a delivery is under way in before it may be given up."""

_BEYOND_CHANCE: Final = 5
"""After how many nothing else that was claimed along with it can excuse it."""

SPACING: Final = timedelta(seconds=1)
"""How far apart those go again that were under way in two crashes in a row; twice as far after
each further one, for a slow start lets those go together whose time passed meanwhile."""

LONGEST_ROW: Final = 7
"""So many crashes in a row are told apart."""

_CLEARLY: Final = SPACING / 2

UNKNOWN: Final = AttemptResult(
    outcome=Outcome.INTERRUPTED,
    latency=timedelta(0),
    error_code="OUTCOME_UNKNOWN",
    error_message="the service stopped before the outcome was known",
)
"""The result of an attempt that was under way when the process died."""

QUARANTINED: Final = AttemptResult(
    outcome=Outcome.INTERRUPTED,
    latency=timedelta(0),
    error_code="QUARANTINED",
    error_message=f"the service died in at least {MOST_CRASHES} attempts in a row: it is the last",
)
"""The result of such an attempt where it was one too many."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Interrupted:
    """A delivery that was under way: since when, its number, and in how many crashes in a row."""

    claim_time: datetime
    key: int
    crashes: int


Consequence = tuple[AttemptResult, RetryAt | GiveUp]


def take_up(interrupted: Sequence[Interrupted], *, now: datetime) -> list[Consequence]:
    """Decide for all that one crash interrupted, in their order."""
    last = _last_by_far(interrupted)
    due, decided = now, list[Consequence]()
    for one in interrupted:
        if one is last:
            decided.append((QUARANTINED, GiveUp(FailureReason.INTERNAL)))
        elif one.crashes == 1:
            decided.append((UNKNOWN, RetryAt(now, charged=False)))
        else:
            decided.append((UNKNOWN, RetryAt(due, charged=False)))
            due += SPACING * 2 ** (one.crashes - 2)
    return decided


def _last_by_far(interrupted: Sequence[Interrupted]) -> Interrupted | None:
    """Return the suspect that was claimed clearly after the others; None if none was."""
    suspects = [one for one in interrupted if one.crashes >= MOST_CRASHES]
    if not suspects:
        return None
    last = max(suspects)
    others = suspects if last.crashes >= _BEYOND_CHANCE else interrupted
    before = last.claim_time - _CLEARLY
    return last if all(one is last or one.claim_time <= before for one in others) else None
