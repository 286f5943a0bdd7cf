"""The clocks of the machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

_SLEW: Final = 1 / 32
"""How much faster or slower the steady clock goes at most, to catch up with the other one."""

_LOOK_EVERY_SECONDS: Final = 1.0
_CATCH_UP_SECONDS: Final = 10.0
_WORTH_TELLING_SECONDS: Final = 60.0

_logger: Final = logging.getLogger(__name__)


class SystemClock:
    """Reads the machine's wall clock."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        return datetime.now(UTC)


class SteadyClock:
    """Tells the time by how much of it has passed, whatever is done to the wall clock meanwhile.

    It begins with what the wall clock says, and then draws near to that again as slowly as is
    needed for no lease and no delay to be off by more than a thirty-second part: small
    corrections are soon made up for, and one of years never is. It never runs back.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._elapsed = elapsed
        since = elapsed()
        # One value, so that a reader in another thread sees all of it or nothing.
        self._course = (wall(), since, 1.0, since + _LOOK_EVERY_SECONDS)
        self._is_off = False

    def now(self) -> datetime:
        """Return the aware UTC time."""
        elapsed = self._elapsed()
        origin, since, rate, look_at = self._course
        seconds = origin + (elapsed - since) * rate
        if elapsed >= look_at:
            self._steer(seconds, elapsed)
        return datetime.fromtimestamp(seconds, UTC)

    def wall(self) -> datetime:
        """Return what the wall clock says, for those who compare it with their own."""
        return datetime.fromtimestamp(self._wall(), UTC)

    def _steer(self, seconds: float, elapsed: float) -> None:
        behind = self._wall() - seconds
        slew = max(-_SLEW, min(_SLEW, behind / _CATCH_UP_SECONDS))
        self._course = (seconds, elapsed, 1.0 + slew, elapsed + _LOOK_EVERY_SECONDS)
        was_off, self._is_off = self._is_off, abs(behind) > _WORTH_TELLING_SECONDS
        if self._is_off and not was_off:
            _logger.warning(
                "the machine's clock was set, or the machine slept; times on record go on as"
                " before, and catch up by a thirty-second part, or at the next start",
                extra={"seconds": round(behind)},
            )
