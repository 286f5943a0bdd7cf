"""Work that goes on beside deliveries without getting in their way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from signalpost.delivery.patience import patiently

_LONGEST_QUIET: Final = timedelta(days=30)
_HOLD: Final = timedelta(hours=1)
_WORTH_TELLING: Final = timedelta(days=1)

_PERIOD: Final = timedelta(minutes=1)
_SHORTEST_PAUSE_SECONDS: Final = 0.01
_PAUSE_FACTOR: Final = 4

_logger: Final = logging.getLogger(__name__)


def hold_after(*, last: datetime | None, now: datetime) -> timedelta:
    """Return for how long nothing may go for its age, where the last event is of that time.

    A clock that is wrong makes everything old at once. Operators have that time to see it. What
    was accepted by a clock that was ahead is told, too: its numbers, and those of all that
    follows, say that it is young until then.
    """
    if last is not None and last - now > _WORTH_TELLING:
        _logger.warning(
            "the newest event was accepted by a clock that was ahead: until that time, nothing that"
            " is accepted from then on is removed for its age",
            extra={"days": (last - now).days},
        )
    if last is None or now - last <= _LONGEST_QUIET:
        return timedelta()
    _logger.warning(
        "nothing was published for long, by the machine's clock: if that is wrong, stop this"
        " service and set it; in an hour, what is older than its retention will be removed",
        extra={"days": (now - last).days},
    )
    return _HOLD


async def keep_up(stretch: Callable[[], Awaitable[bool]], *, hold: timedelta) -> None:
    """Work for ever, a round a minute: stretch by stretch, while `stretch` says it goes on.

    It begins after `hold`. After each stretch it rests four times as long as that took, waiting
    for storage included: a busy service is left alone.
    """
    loop = asyncio.get_running_loop()
    await asyncio.sleep(hold.total_seconds())
    while True:
        began = loop.time()
        if await patiently(stretch):
            took = loop.time() - began
            await asyncio.sleep(max(_SHORTEST_PAUSE_SECONDS, _PAUSE_FACTOR * took))
        else:
            await asyncio.sleep(_PERIOD.total_seconds())
