"""A control group of Linux, of either version, that bounds the memory of what runs in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

_ROOT = Path("/sys/fs/cgroup")


def can_bound_memory() -> bool:
    """Tell whether a group can be made on this machine."""
    return _parent() is not None and os.access(str(_parent()), os.W_OK)


def _parent() -> Path | None:
    """Return where groups that bound memory are made, None if nowhere."""
    if (_ROOT / "memory" / "memory.limit_in_bytes").exists():
        return _ROOT / "memory"
    offered = _ROOT / "cgroup.subtree_control"
    return _ROOT if offered.exists() and "memory" in offered.read_text().split() else None


@dataclass(frozen=True)
class MemoryGroup:
    """What runs `within` it may have so much memory, the pages of its files among it."""

    folder: Path

    @classmethod
    @contextmanager
    def of(cls, limit_bytes: int) -> Iterator[Self]:
        parent = _parent()
        assert parent is not None
        group = cls(parent / f"signalpost-test-{uuid4().hex}")
        group.folder.mkdir()
        try:
            group._first("memory.limit_in_bytes", "memory.max").write_text(str(limit_bytes))
            yield group
        finally:
            group.folder.rmdir()

    @property
    def within(self) -> tuple[str, ...]:
        """The command that runs another one in it."""
        join = f'echo $$ >{self.folder}/cgroup.procs && exec "$@"'
        return ("sh", "-c", join, "sh")

    def kills(self) -> int:
        """Return how often the system ended a process for want of memory."""
        lines = self._first("memory.oom_control", "memory.events").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def _first(self, *names: str) -> Path:
        return next(self.folder / name for name in names if (self.folder / name).exists())
