"""How a command runs: until it is done, or until somebody ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvloop

from signalpost import signals


def run(work: Coroutine[Any, Any, int], *, when_interrupted: int) -> int:
    """Run a command to its end and return its exit code.

    SIGINT or SIGTERM cancels it, so that it cleans up; the exit code then is
    `when_interrupted`. A second signal ends the process at once.
    """
    return uvloop.run(_guarded(work, when_interrupted=when_interrupted))


async def _guarded(work: Coroutine[Any, Any, int], *, when_interrupted: int) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        signals.let_end(loop)
        task.cancel()

    signals.heed(loop, dict.fromkeys(signals.ENDING, interrupt))
    try:
        return await task
    except asyncio.CancelledError:
        if not interrupted:
            raise
        return when_interrupted
