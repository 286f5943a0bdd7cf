"""Why two threads that share one interpreter should share a core, and how they come to."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

TOGETHER_SECONDS: Final = 1.0
"""How long both stay where they are."""

APART_SECONDS: Final = 0.02
"""How long the system may then move them to cores that have less to do."""

_ALL: Final = frozenset(range(1024))
"""Cores, whether or not they are there: the system takes those of them that it allows."""

_THREADS: Final = Path("/proc/self/task")
_PROCESSOR: Final = 36
"""Where a `stat` says on which core a thread ran last, counted from what follows the name."""


def stand_back() -> None:
    """Let the calling thread not interrupt another one when it is woken.

    It has as much of a core as before. But a thread that takes the core at once from the one
    that woke it, and then has to wait for the interpreter that this one holds, helps nobody.
    """
    with suppress(AttributeError, OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class SameCore:
    """Keeps the calling thread and another one on one core while both have much to do.

    Only one of them at a time has the interpreter. Each time that the one lets go of it for a
    moment, the other, if it waits on a core of its own, is woken in vain more often than not:
    that costs more than the second core does for them. It is always the core that the system
    has chosen for the other thread, and it may choose anew every second. Where it knows nothing
    of cores, or does not allow it, nothing is done.
    """

    def __init__(self, other: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`other` is the native id of the other thread."""
        self._other = other
        self._monotonic = monotonic
        self._possible = hasattr(os, "sched_setaffinity")
        self._core: int | None = None
        self._anywhere: Collection[int] = frozenset()
        self._others: Sequence[int] = ()
        self._until = 0.0

    @property
    def is_shared(self) -> bool:
        """Tell whether both are kept on one core now."""
        return self._core is not None

    def join(self) -> None:
        """Keep both on one core from now on, or let them go for a moment if it is time to."""
        if self.is_shared:
            self.part()
        elif self._possible and (now := self._monotonic()) >= self._until:
            self._until = now + TOGETHER_SECONDS
            self._bind()

    def part(self) -> None:
        """Let both go for a moment, if they are together and it is time to."""
        if self.is_shared and (now := self._monotonic()) >= self._until:
            self.leave()
            self._until = now + APART_SECONDS

    def leave(self) -> None:
        """Let both run where they could before."""
        if self._core is None:
            return
        core, self._core, self._until = self._core, None, 0.0
        if self._others and all(_is_kept_on(core, thread) for thread in self._others):
            # They were not put there by this: somebody wants the whole process there.
            return
        # A thread that was started meanwhile has its limits from the one that started it. The
        # two come first, so that they start no other such thread while those are looked for.
        for thread in chain((self._other, 0), _threads()):
            if _is_kept_on(core, thread):
                with suppress(OSError):
                    os.sched_setaffinity(thread, self._anywhere)

    def _bind(self) -> None:
        try:
            anywhere, core = os.sched_getaffinity(self._other), _core_of(self._other)
        except (OSError, ValueError, IndexError):
            return
        # Where it ran last may be where it must not run any more.
        if len(anywhere) == 1 or core not in anywhere:
            return
        self._anywhere, self._core = anywhere, core
        own = (self._other, threading.get_native_id())
        self._others = [thread for thread in _threads() if thread not in own]
        try:
            os.sched_setaffinity(0, _ALL)
            if os.sched_getaffinity(0) == anywhere:
                # Nothing but the system bounds it. Should that allow more later, so do these two.
                self._anywhere = _ALL
            os.sched_setaffinity(0, {core})
            os.sched_setaffinity(self._other, {core})
        except OSError:
            until = self._until
            self.leave()
            self._until = until


def _core_of(thread: int) -> int:
    """Return on which core a thread of this process ran last.

    Raises OSError, ValueError or IndexError where the system does not tell.
    """
    stat = (_THREADS / str(thread) / "stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[_PROCESSOR])


def _is_kept_on(core: int, thread: int) -> bool:
    """Tell whether a thread may run on this core only; one that has ended may not."""
    try:
        return os.sched_getaffinity(thread) == {core}
    except OSError:
        return False


def _threads() -> Iterator[int]:
    try:
        yield from (int(thread.name) for thread in _THREADS.iterdir())
    except OSError:
        return
