"""Work that goes on beside deliveries without getting in their way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from signalpost.delivery.patience import patiently

_PERIOD: Final = timedelta(minutes=1)

_SHORTEST_PAUSE_SECONDS: Final = 0.01
_PAUSE_FACTOR: Final = 4


async def keep_up(stretch: Callable[[], Awaitable[bool]]) -> None:
    """Work for ever, a round a minute: stretch by stretch, while `stretch` says it goes on.

    After each it rests four times as long as that took, waiting for storage included: a busy
    service is left alone.
    """
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        if await patiently(stretch):
            took = loop.time() - began
            await asyncio.sleep(max(_SHORTEST_PAUSE_SECONDS, _PAUSE_FACTOR * took))
        else:
            await asyncio.sleep(_PERIOD.total_seconds())
