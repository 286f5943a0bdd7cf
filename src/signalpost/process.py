"""What the process asks of the system and the interpreter, and what there is to share out."""

from __future__ import annotations

import gc
import resource
from dataclasses import dataclass
from typing import Final, Self

_ENOUGH_FILES: Final = 65_536
_FEWEST: Final = 8
_NEW_OBJECTS_A_COLLECTION: Final = 20_000


@dataclass(frozen=True, slots=True)
class Share:
    """How many attempts may be under way at once, and how many connections may be kept.

    A connection is an open file. Without any left neither callers nor endpoints can be connected
    to, and nothing says whose fault that is: so there are never more than there are files for.
    """

    attempts: int
    kept: int

    @classmethod
    def of(cls, limit: int, *, attempts: int, kept: int) -> Self:
        """Return as many as are wanted of either, or a quarter of all files that may be open.

        The other half is for callers, storage, logs, and what is about to be closed.
        """
        quarter = max(_FEWEST, limit // 4)
        return cls(min(attempts, quarter), min(kept, quarter))


def raise_limit() -> int:
    """Let the process open as many files as it is allowed to ask for; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _ENOUGH_FILES if soft == resource.RLIM_INFINITY else soft


def spare_the_collector() -> None:
    """Let the collector of garbage pass over what is there now, for most of that stays.

    Nearly all of what comes and goes later is freed without it, so it need not look often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS_A_COLLECTION)
