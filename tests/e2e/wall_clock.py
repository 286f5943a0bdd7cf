"""The wall clock of one process, set by tests; its monotonic clock stays as it is."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_SOURCE = Path(__file__).with_name("wall_clock.c")
_LIBRARY = "wall_clock.so"
_OFFSET = "wall_clock.offset"


def has_compiler() -> bool:
    """Tell whether one can be made on this machine."""
    return shutil.which("cc") is not None


@dataclass(frozen=True)
class WallClock:
    """What the process with this `environment` takes for the time is off by what was set."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        library = folder / _LIBRARY
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        clock = cls(folder)
        clock.set_off(0)
        return clock

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.folder / _LIBRARY),
            "SIGNALPOST_TEST_WALL_CLOCK": str(self.folder / _OFFSET),
        }

    def set_off(self, seconds: int) -> None:
        """Set it, while the process runs, too."""
        file = self.folder / _OFFSET
        mode = "r+b" if file.exists() else "wb"
        with file.open(mode) as offset:
            offset.write(struct.pack("q", seconds))
