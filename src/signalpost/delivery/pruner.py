"""Removes what is over, once it was kept for long enough."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from signalpost.delivery.upkeep import keep_up
from signalpost.domain.retention import Retention
from signalpost.domain.statistics import KEPT
from signalpost.ports import Clock
from signalpost.ports.retention import Prunable, RetentionStore
from signalpost.ports.statistics import StatisticsStore

_ROUNDS_PER_PASS: Final = 60
_MOST_COUNTS: Final = 250
_KINDS: Final = tuple(Prunable)

_logger: Final = logging.getLogger(__name__)


class Pruner:
    """Walks through what is old enough, in the order of acceptance, a small stretch at a time.

    A round goes on where the last one ended, and so sees what has grown old since then; each
    hour one begins at the first row, for what ended late or is kept for longer. Old counts go
    at the end of a round.
    """

    def __init__(
        self,
        store: RetentionStore,
        *,
        counts: StatisticsStore,
        clock: Clock,
        retention: Retention,
    ) -> None:
        self._store = store
        self._counts = counts
        self._clock = clock
        self._retention = retention
        self._after = dict.fromkeys(_KINDS, 0)
        self._kind = 0
        self._rounds = 0
        self._pruned = 0

    async def run(self, *, hold: timedelta) -> None:
        """Prune for ever, once `hold` is over."""
        await keep_up(self.run_once, hold=hold)

    async def run_once(self) -> bool:
        """Prune the next stretch; tell whether the round goes on."""
        kind = _KINDS[self._kind]
        now = self._clock.now()
        found = await self._store.find_expired(
            kind, after=self._after[kind], retention=self._retention, now=now
        )
        if found.rows:
            self._pruned += await self._store.prune(
                kind, found.rows, retention=self._retention, now=now
            )
        self._after[kind] = found.reached
        if not found.more:
            self._kind = (self._kind + 1) % len(_KINDS)
            if self._kind == 0:
                self._end_round()
                return await self._prune_counts(before=now - KEPT)
        return True

    async def _prune_counts(self, *, before: datetime) -> bool:
        """Prune some; tell whether there may be more."""
        pruned = await self._counts.prune_statistics(before=before, limit=_MOST_COUNTS)
        return pruned == _MOST_COUNTS

    def _end_round(self) -> None:
        if self._pruned:
            _logger.info("pruned", extra={"rows": self._pruned})
        self._pruned = 0
        self._rounds += 1
        if self._rounds % _ROUNDS_PER_PASS == 0:
            self._after = dict.fromkeys(_KINDS, 0)
