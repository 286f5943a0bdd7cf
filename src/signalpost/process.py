"""What the process asks of the system and the interpreter, and what there is to share out."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_ENOUGH_FILES: Final = 65_536
_FEWEST: Final = 8
_NEW_OBJECTS_A_COLLECTION: Final = 20_000

_MIB: Final = 2**20
_OWN_BYTES: Final = 160 * _MIB
"""What the process needs with nothing to do, and for what it is told."""

_ATTEMPT_BYTES: Final = _MIB // 2
"""A body as large as may be, what of it is being written, TLS, and the answer."""

_KEPT_BYTES: Final = _MIB // 8

_LITTLE_BYTES: Final = 1024 * _MIB
_LARGE_BLOCK_BYTES: Final = _MIB // 8
_M_MMAP_THRESHOLD: Final = -3

_MOST_REQUEST_BYTES: Final = 256 * _MIB

_BYTES_A_CALLER: Final = _MIB // 2
"""What gRPC takes in of a request that nobody reads yet, and the call, are half of it."""

_BYTES_A_CALL: Final = _MIB // 4
"""A call that is not begun, with what gRPC takes in of its request."""

_FEWEST_PENDING: Final = 1000
_MOST_PENDING: Final = 4096

_BYTES_A_STREAM: Final = 1 * _MIB
"""As large as a request may be: few of them are at once."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many attempts may be under way, how many connections kept, and how large caches may be.

    `pending` calls may wait to be begun, the requests of `callers` to be read, and large ones of
    `request_bytes` to be worked on; `streams` may publish at once; `memory` is all there is.

    A connection is an open file. Without any left neither callers nor endpoints can be connected
    to, and nothing says whose fault that is; without memory the system ends the process, and the
    next one after it. So there are never more than there are files and memory for.
    """

    attempts: int
    kept: int
    cache_bytes: int
    request_bytes: int
    pending: int
    callers: int
    streams: int
    memory: int

    @classmethod
    def of(cls, *, files: int, memory: int, attempts: int, kept: int) -> Self:
        """Return as many attempts and connections as are wanted, or as can be had.

        Either may have a quarter of all files that may be open. The other half is for callers,
        storage, logs, and what is about to be closed. Of the memory that the process does not
        need for itself, attempts have a half, and connections and caches a quarter each.
        """
        quarter, spare = files // 4, max(0, memory - _OWN_BYTES)
        return cls(
            min(attempts, max(_FEWEST, min(quarter, spare // 2 // _ATTEMPT_BYTES))),
            min(kept, max(_FEWEST, min(quarter, spare // 4 // _KEPT_BYTES))),
            max(_MIB, spare // 4),
            min(_MOST_REQUEST_BYTES, memory // 16),
            min(_MOST_PENDING, max(_FEWEST_PENDING, memory // _BYTES_A_CALL)),
            max(_FEWEST, memory // _BYTES_A_CALLER),
            max(_FEWEST, memory // _BYTES_A_STREAM),
            memory,
        )


def resident_bytes() -> int:
    """Return how much memory the process has; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def memory_limit(root: Path = Path("/")) -> int:
    """Return how much memory the process may have: that of the machine or of a control group."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        groups = os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines()
    except OSError:
        return machine
    return min([machine, *(limit for group in groups for limit in _limits(root, group))])


def _limits(root: Path, group: str) -> Iterator[int]:
    """Yield the limits of a control group of either version, and of those it is in."""
    controllers, _, name = group.partition(":")[2].partition(":")
    if controllers == "":
        base, file = root / "sys/fs/cgroup", "memory.max"
    elif "memory" in controllers.split(","):
        base, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
    else:
        return
    folder = base / name.lstrip("/")
    # In a container the name may be that of the machine, of which only its end is seen.
    for place in (folder, *folder.parents):
        if not place.is_relative_to(base):
            return
        try:
            limit = (place / file).read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():
            yield int(limit)


def raise_limit() -> int:
    """Let the process open as many files as it is allowed to ask for; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _ENOUGH_FILES if soft == resource.RLIM_INFINITY else soft


def settle_down() -> None:
    """Let the collector of garbage pass over what is there now, once all is there that stays.

    Nearly all of what comes and goes later is freed without it, so it need not look often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS_A_COLLECTION)


def spare_memory(memory: int) -> None:
    """Have the C library give large blocks back to the system once they are free, if it is little.

    It would learn from the first of them to keep those that follow, in pieces, for each thread
    apart: memory for several times as many requests as there were. This costs some speed.
    """
    if memory >= _LITTLE_BYTES:
        return
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
