"""The server under test: `signalpost serve` as a process of its own, its CPU time and its stubs."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.service import Service

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server(Service):
    """A service whose consumption can be read."""

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far, of all its threads."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    async def settled(self) -> float:
        """Wait until it is idle; return the CPU time used until then."""
        while True:
            before = self.cpu_seconds()
            await asyncio.sleep(0.3)
            if (after := self.cpu_seconds()) - before <= 0.02:
                return after
