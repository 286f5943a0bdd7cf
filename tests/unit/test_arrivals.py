"""How requests come in, a few at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from signalpost.api import arrivals
from signalpost.api.arrivals import REQUEST_BYTES, Arrivals, Latecomers
from signalpost.domain.errors import Overloaded
from signalpost.process import Share

MIB = 2**20
LITTLE = Share.of(files=65_536, memory=256 * MIB, attempts=512, kept=2000)
FEW = 256 * MIB // 4 // REQUEST_BYTES
"""As many latecomers as there is always memory for."""

PLACES = 2
EVER = 1e9


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is looked at when a test says so."""
    monkeypatch.setattr(arrivals, "_LOOK_SECONDS", 3600)


async def turns(count: int = 20) -> None:
    """Let all others go on for so many turns of the loop, by default as far as they can."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Memory:
    """What is in use of it."""

    used: int = 100 * MIB
    looks: int = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.used


@dataclass
class Request:
    """A request that comes when it is told to."""

    begun: bool = False
    there: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> bytes:
        self.begun = True
        await self.there.wait()
        return b"request"


class Crowd:
    """Many requests that arrive at once."""

    def __init__(self, read: Callable[..., Awaitable[bytes]], count: int) -> None:
        self.requests = [Request() for _ in range(count)]
        self.tasks = [asyncio.ensure_future(read(one.read)) for one in self.requests]

    @property
    def begun(self) -> list[int]:
        return [number for number, one in enumerate(self.requests) if one.begun]

    @property
    def ended(self) -> list[int]:
        return [number for number, task in enumerate(self.tasks) if task.done()]

    async def end(self) -> None:
        for one in self.requests:
            one.there.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Gate:
    """Arrivals, those who are late for them, and the memory they share."""

    patience: float = EVER
    most_waiting: int = 100
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.late = Latecomers(LITTLE, used=self.memory)
        self.arrivals = Arrivals(
            PLACES, most_waiting=self.most_waiting, patience=self.patience, late=self.late
        )

    async def assert_none_is_counted(self) -> None:
        """Find as many places as at first."""
        crowd = Crowd(self.arrivals.read, PLACES + 1)
        await turns()
        assert crowd.begun == list(range(PLACES))
        await crowd.end()


async def test_few_requests_come_in_at_once_and_the_others_in_their_order() -> None:
    gate = Gate()
    crowd = Crowd(gate.arrivals.read, 7)
    await turns()
    assert crowd.begun == [0, 1]
    crowd.requests[1].there.set()
    await turns()
    assert crowd.begun == [0, 1, 2]
    await crowd.end()
    assert [task.result() for task in crowd.tasks] == [b"request"] * 7
    await gate.assert_none_is_counted()


async def test_caller_that_goes_away_gives_its_place_to_the_next() -> None:
    gate = Gate()
    crowd = Crowd(gate.arrivals.read, 7)
    await turns()
    crowd.tasks[2].cancel()
    await turns()
    crowd.requests[0].there.set()
    await turns()
    assert crowd.begun == [0, 1, 3]
    crowd.tasks[1].cancel()
    await turns()
    assert crowd.begun == [0, 1, 3, 4]
    await crowd.end()
    await gate.assert_none_is_counted()


@pytest.mark.parametrize("earlier", [False, True])
async def test_caller_that_goes_away_as_its_turn_comes_gives_it_to_the_next(
    *, earlier: bool
) -> None:
    gate = Gate()
    crowd = Crowd(gate.arrivals.read, 6)
    await turns()
    crowd.requests[0].there.set()
    if earlier:
        crowd.tasks[2].cancel()
    await turns(1)
    # The next one has its place by now, and has not begun to read.
    assert crowd.tasks[0].done()
    assert 2 not in crowd.begun
    crowd.tasks[2].cancel()
    await turns()
    assert 2 not in crowd.begun
    assert 3 in crowd.begun
    await crowd.end()
    await gate.assert_none_is_counted()


async def test_reading_that_fails_gives_its_place_to_the_next() -> None:
    async def fail() -> bytes:
        raise EOFError

    gate = Gate()
    for _ in range(PLACES + 1):
        with pytest.raises(EOFError):
            await gate.arrivals.read(fail)
    await gate.assert_none_is_counted()


async def test_more_than_may_wait_are_refused() -> None:
    gate = Gate(most_waiting=3)
    crowd = Crowd(gate.arrivals.read, PLACES + 3)
    await turns()
    with pytest.raises(Overloaded):
        await gate.arrivals.read(Request().read)
    crowd.tasks[-1].cancel()
    await turns()
    last = Crowd(gate.arrivals.read, 1)
    await crowd.end()
    await last.end()
    assert last.tasks[0].result() == b"request"
    await gate.assert_none_is_counted()


async def test_those_that_send_nothing_hold_up_others_once() -> None:
    gate = Gate(patience=0.01)
    silent = Crowd(gate.arrivals.read, PLACES)
    await turns()
    crowd = Crowd(gate.arrivals.read, 2 * PLACES)
    crowd.requests[0].there.set()
    assert await crowd.tasks[0] == b"request"
    gate.arrivals._patience = EVER
    later = Crowd(gate.arrivals.read, 1)
    for one in crowd.requests + later.requests:
        one.there.set()
    # They have made room for good.
    assert await later.tasks[0] == b"request"
    assert not silent.ended
    await silent.end()
    assert [task.result() for task in silent.tasks] == [b"request"] * PLACES
    await crowd.end()
    await gate.assert_none_is_counted()


async def test_the_more_wait_the_sooner_those_that_send_nothing_make_room() -> None:
    gate = Gate(patience=8, most_waiting=1000)
    crowd = Crowd(gate.arrivals.read, PLACES)
    found = []
    for more in (PLACES, PLACES, 6 * PLACES):
        crowd.tasks += Crowd(gate.arrivals.read, more).tasks
        await turns()
        found.append(gate.arrivals._time())
    assert found == [8, 4, 1]
    for task in crowd.tasks:
        task.cancel()
    await crowd.end()
    assert gate.arrivals._time() == 8


async def test_those_that_send_nothing_keep_their_places_while_nobody_waits() -> None:
    gate = Gate(patience=0)
    silent = Crowd(gate.arrivals.read, PLACES)
    await turns()
    assert gate.late._all == {}
    await silent.end()


async def test_latecomers_are_read_at_once_and_to_their_end_while_memory_lasts() -> None:
    gate = Gate()
    crowd = Crowd(gate.late.read, 10 * FEW)
    await turns()
    assert len(crowd.begun) == 10 * FEW
    assert gate.late.have_plenty
    await crowd.end()
    assert {task.result() for task in crowd.tasks} == {b"request"}
    assert gate.late._all == {}


async def short(gate: Gate, used: int) -> None:
    """Let so much be in use, and be seen."""
    gate.memory.used = used
    gate.late._look()
    await turns()


async def test_when_memory_runs_short_all_but_a_few_are_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    crowd = Crowd(gate.late.read, 10 * FEW)
    await turns()
    with caplog.at_level(logging.WARNING, "signalpost"):
        await short(gate, 193 * MIB)
    assert crowd.ended == list(range(FEW, 10 * FEW))
    with pytest.raises(Overloaded, match="too many requests at once"):
        crowd.tasks[-1].result()
    assert not crowd.tasks[-1].cancelled()
    [record] = caplog.records
    assert vars(record)["calls"] == 9 * FEW
    await crowd.end()
    assert crowd.tasks[0].result() == b"request"


async def test_memory_that_is_used_for_other_things_all_the_time_ends_nobody() -> None:
    gate = Gate(memory=Memory(200 * MIB))
    crowd = Crowd(gate.late.read, 10 * FEW)
    await turns()
    await short(gate, 215 * MIB)
    assert not crowd.ended
    assert gate.late.have_plenty
    await short(gate, 180 * MIB)
    await short(gate, 197 * MIB)
    assert len(crowd.ended) == 9 * FEW
    await crowd.end()


async def test_as_memory_runs_short_there_is_not_plenty_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "_WARY_LOOKS", 2)
    gate = Gate()
    crowd = Crowd(gate.late.read, 10 * FEW)
    await turns()
    seen = []
    for used in (159, 161, 159, 193, 150, 150, 150):
        await short(gate, used * MIB)
        seen.append(gate.late.have_plenty)
    assert seen == [True, False, True, False, False, True, True]
    await crowd.end()


async def test_memory_is_looked_at_only_while_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(arrivals, "_WARY_LOOKS", 2)
    gate = Gate()
    crowd = Crowd(gate.late.read, FEW)
    await turns()
    assert gate.memory.looks == 0
    more = Crowd(gate.late.read, 1)
    await turns()
    assert gate.memory.looks > 2
    gate.memory.used = 193 * MIB
    with pytest.raises(Overloaded):
        await more.tasks[0]
    await turns()
    looks = gate.memory.looks
    await turns()
    assert gate.memory.looks == looks
    await crowd.end()


async def test_one_that_is_late_for_its_place_is_ended_like_others() -> None:
    gate = Gate(patience=0.01)
    silent = Crowd(gate.arrivals.read, PLACES)
    crowd = Crowd(gate.late.read, FEW)
    await turns()
    next_one = Crowd(gate.arrivals.read, 1)
    next_one.requests[0].there.set()
    assert await next_one.tasks[0] == b"request"
    await short(gate, 193 * MIB)
    with pytest.raises(Overloaded):
        await silent.tasks[0]
    await crowd.end()
    await silent.end()
    await gate.assert_none_is_counted()


async def test_one_that_goes_away_as_it_is_ended_is_just_cancelled() -> None:
    gate = Gate()
    crowd = Crowd(gate.late.read, FEW + 1)
    await turns()
    gate.memory.used = 193 * MIB
    gate.late._look()
    crowd.tasks[-1].cancel()
    await turns()
    assert crowd.tasks[-1].cancelled()
    await crowd.end()
