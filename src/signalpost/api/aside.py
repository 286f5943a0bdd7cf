"""Where a request is looked through that is too large to hold up all others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

LARGE_BYTES: Final = 128 * 1024

_Found = TypeVar("_Found")


class Aside:
    """Does lengthy work in a thread, one piece after the other, while the event loop goes on."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="requests")

    async def do(self, work: Callable[[], _Found], *, size: int) -> _Found:
        """Return what `work` does with so many bytes; what is small is done at once."""
        if size <= LARGE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
