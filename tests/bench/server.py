"""The server under test: `signalpost serve` as a process of its own, its CPU time and its stubs."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc.aio

from signalpost.v1.event_service_pb2_grpc import EventServiceStub
from tests.e2e.service import Service

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server(Service):
    """A service whose consumption can be read. All of its endpoints may be on one host."""

    environment: dict[str, str] = field(
        default_factory=lambda: {"SIGNALPOST_HOST_CONCURRENCY": "100000"}
    )

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far, of all its threads."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_rss_mib(self) -> float:
        """Return how much memory it had at most."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def resident_mib(self) -> float:
        """Return how much memory it has."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def settled(self) -> float:
        """Wait until it is idle; return the CPU time used until then."""
        while True:
            before = self.cpu_seconds()
            await asyncio.sleep(0.3)
            if (after := self.cpu_seconds()) - before <= 0.02:
                return after


@dataclass
class Baseline(Server):
    """The floor under a publish, in the place of the service."""

    async def start(self, *, failpoint: str = "") -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.baseline"),
            f"sqlite:///{self.folder / 'baseline.db'}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.address = f"127.0.0.1:{json.loads(await self.process.stdout.readline())['port']}"
        self.channel = grpc.aio.insecure_channel(self.address)
        self.events = EventServiceStub(self.channel)
        return self

    async def stop(self) -> int:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.channel.close()
        return await self.process.wait()
