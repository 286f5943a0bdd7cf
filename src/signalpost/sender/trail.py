"""How far an attempt got, and how long each phase of it took."""

from __future__ import annotations

import time
from datetime import timedelta
from enum import StrEnum

from signalpost.domain.outcome import Timings
from signalpost.domain.subscription import IpNetwork


class Phase(StrEnum):
    """What an attempt is busy with, in this order; on a kept connection only the last two."""

    timing: str
    """The name of its duration."""

    def __init__(self, name: str) -> None:
        self.timing = name.lower()

    DNS = "DNS"
    CONNECT = "CONNECT"
    TLS = "TLS"
    WRITE = "WRITE"
    WAIT = "WAIT"


class Trail:
    """Notes of one attempt, written by whoever works for it.

    `phase` is the last one that began, `peer` the address and port of the endpoint, `allowed`
    the ranges in which that must lie. `deadline` is when the head of the answer must be there,
    by the clock of the event loop.
    """

    __slots__ = (
        "_begun",
        "_durations",
        "_running",
        "_start",
        "allowed",
        "deadline",
        "peer",
        "phase",
    )

    def __init__(
        self, allowed: tuple[IpNetwork, ...] = (), *, deadline: float | None = None
    ) -> None:
        self.allowed = allowed
        self.deadline = deadline
        self.peer = ""
        self.phase = Phase.CONNECT
        self._start = time.perf_counter()
        self._begun = self._start
        self._running = False
        self._durations: list[tuple[Phase, float]] = []

    def begin(self, phase: Phase) -> None:
        """Note that a phase begins; a running one ends."""
        now = time.perf_counter()
        self._end(now)
        self.phase = phase
        self._begun = now
        self._running = True

    def end(self) -> None:
        """Note that the running phase, if any, ended."""
        self._end(time.perf_counter())

    def _end(self, now: float) -> None:
        if self._running:
            self._durations.append((self.phase, now - self._begun))
            self._running = False

    def elapsed(self) -> timedelta:
        """Return the time since the attempt began."""
        return timedelta(seconds=time.perf_counter() - self._start)

    def timings(self) -> Timings:
        """Return how long the phases took that took place."""
        return Timings(
            **{phase.timing: timedelta(seconds=seconds) for phase, seconds in self._durations}
        )
