"""Waiting for storage that is busy, full or away, instead of losing what must be stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from signalpost.domain.errors import Retryable

T = TypeVar("T")

_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 5.0

_logger = logging.getLogger(__name__)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call of the store until it answers; waits longer after each failure, to 5 s."""
    delay = _FIRST_DELAY_SECONDS
    while True:
        try:
            return await call()
        except Retryable as error:
            _logger.warning("waiting for storage: %s", error)
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
