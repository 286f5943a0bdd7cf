"""The clocks of one process, set by tests while it runs."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_SOURCE = Path(__file__).with_name("wall_clock.c")
_LIBRARY = "wall_clock.so"
_OFFSETS = "wall_clock.offsets"


def has_compiler() -> bool:
    """Tell whether one can be made on this machine."""
    return shutil.which("cc") is not None


@dataclass(frozen=True)
class WallClock:
    """What the process with this `environment` takes for the time is off by what was set.

    Its monotonic clock is so only by what was skipped.
    """

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
            "SIGNALPOST_TEST_WALL_CLOCK": str(self.folder / _OFFSETS),
        }

    def set_off(self, seconds: int) -> None:
        """Set the wall clock, and the other one as it was, while the process runs, too."""
        self._write(seconds, 0)

    def skip(self, seconds: int) -> None:
        """Let so much time go by at once, as it does for a process that is stopped for so long."""
        self._write(0, seconds)

    def _write(self, *seconds: int) -> None:
        file = self.folder / _OFFSETS
        # In place, for the process has it mapped.
        mode = "r+b" if file.exists() else "wb"
        with file.open(mode) as offsets:
            offsets.write(struct.pack("qq", *seconds))
