"""How requests are let in, and wait for their turn."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from signalpost.api import intake
from signalpost.api.intake import Intake
from signalpost.domain.errors import Overloaded
from signalpost.process import Share

MIB = 2**20
LITTLE = Share.of(files=65_536, memory=256 * MIB, attempts=512, kept=2000)
FREE, FULL = replace(LITTLE, memory=2**50), replace(LITTLE, memory=0)
"""The same, with much of the memory free and with none."""

ARRIVALS = 2
"""As many as there are at once with little memory."""

LARGE = 4 * MIB


async def turns(count: int = 20) -> None:
    """Let all others go on for so many turns of the loop, by default as far as they can."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Arrival:
    """A request that comes when it is told to."""

    begun: bool = False
    there: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> bytes:
        self.begun = True
        await self.there.wait()
        return b"request"


class Crowd:
    """Many requests that arrive at once."""

    def __init__(self, found: Intake, count: int) -> None:
        self.arrivals = [Arrival() for _ in range(count)]
        self.tasks = [asyncio.create_task(found.arrive(one.read)) for one in self.arrivals]

    @property
    def begun(self) -> list[int]:
        return [number for number, one in enumerate(self.arrivals) if one.begun]

    async def end(self) -> None:
        for one in self.arrivals:
            one.there.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_few_requests_come_in_at_once_and_the_others_in_their_order() -> None:
    crowd = Crowd(Intake(LITTLE), 7)
    await turns()
    assert crowd.begun == [0, 1]
    crowd.arrivals[1].there.set()
    await turns()
    assert crowd.begun == [0, 1, 2]
    await crowd.end()
    assert [task.result() for task in crowd.tasks] == [b"request"] * 7


async def test_caller_that_goes_away_gives_its_place_to_the_next() -> None:
    found = Intake(LITTLE)
    crowd = Crowd(found, 7)
    await turns()
    crowd.tasks[2].cancel()
    await turns()
    crowd.arrivals[0].there.set()
    await turns()
    assert crowd.begun == [0, 1, 3]
    crowd.tasks[1].cancel()
    await turns()
    assert crowd.begun == [0, 1, 3, 4]
    await crowd.end()
    again = Crowd(found, ARRIVALS + 1)
    await turns()
    assert again.begun == [0, 1]
    await again.end()


async def test_caller_that_goes_away_with_a_place_gives_it_to_the_next() -> None:
    crowd = Crowd(Intake(LITTLE), 6)
    await turns()
    crowd.arrivals[0].there.set()
    await turns(1)
    # The next one has its place by now, and has not begun to read.
    assert crowd.tasks[0].done()
    assert 2 not in crowd.begun
    crowd.tasks[2].cancel()
    await turns()
    assert 3 in crowd.begun
    await crowd.end()


async def test_those_that_send_nothing_hold_up_others_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "PATIENCE_SECONDS", 0.01)
    crowd = Crowd(Intake(FREE), ARRIVALS + 1)
    crowd.arrivals[ARRIVALS].there.set()
    assert await crowd.tasks[ARRIVALS] == b"request"
    assert not any(task.done() for task in crowd.tasks[:ARRIVALS])
    await crowd.end()


async def test_no_more_come_in_when_they_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PATIENCE_SECONDS", 0.01)
    found = Intake(FULL)
    crowd = Crowd(found, ARRIVALS + 1)
    with pytest.raises(Overloaded):
        await crowd.tasks[ARRIVALS]
    assert not crowd.arrivals[ARRIVALS].begun
    await crowd.end()
    again = Crowd(found, ARRIVALS + 1)
    await turns()
    assert again.begun == [0, 1]
    await again.end()


class Work:
    """A large request that is worked on until it is told to end."""

    def __init__(self, found: Intake, size: int = LARGE, *, bounded: bool = False) -> None:
        self.begun = False
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._run(found, size, bounded=bounded))

    async def _run(self, found: Intake, size: int, *, bounded: bool) -> None:
        async with found.work(size, bounded=bounded):
            self.begun = True
            await self.may_end.wait()

    async def end(self) -> None:
        self.may_end.set()
        await self.task
        await turns()


async def begun(*works: Work) -> list[bool]:
    await turns()
    return [one.begun for one in works]


async def test_large_requests_are_worked_on_in_their_order() -> None:
    found = Intake(LITTLE)
    first, second, third = Work(found), Work(found), Work(found, MIB)
    assert await begun(first, second, third) == [True, False, False]
    await first.end()
    assert await begun(second, third) == [True, False]
    await second.end()
    assert await begun(third) == [True]
    await third.end()


async def test_several_that_are_not_so_large_are_worked_on_together() -> None:
    found = Intake(LITTLE)
    works = [Work(found, MIB) for _ in range(5)]
    assert await begun(*works) == [True] * 4 + [False]
    await works[0].end()
    assert await begun(*works) == [True] * 5
    for one in works[1:]:
        await one.end()


async def test_what_is_more_than_may_wait_is_refused_unless_it_is_bounded_already() -> None:
    found = Intake(LITTLE)
    works = [Work(found) for _ in range(5)]
    await turns()
    with pytest.raises(Overloaded):
        await Work(found).task
    works.append(Work(found, bounded=True))
    for one in works:
        assert await begun(one) == [True]
        await one.end()
    await Work(found, bounded=True).end()


async def test_who_goes_away_neither_waits_nor_works_any_longer() -> None:
    found = Intake(LITTLE)
    first, second, third, fourth = (Work(found) for _ in range(4))
    await turns()
    second.task.cancel()
    await first.end()
    assert await begun(second, third, fourth) == [False, True, False]
    third.task.cancel()
    assert await begun(fourth) == [True]
    await fourth.end()
    last = Work(found)
    assert await begun(last) == [True]
    await last.end()


async def test_who_goes_away_as_its_turn_comes_gives_it_to_the_next() -> None:
    found = Intake(LITTLE)
    first, second, third = Work(found), Work(found), Work(found)
    await turns()
    first.may_end.set()
    await turns(1)
    assert first.task.done()
    assert not second.begun
    second.task.cancel()
    assert await begun(second, third) == [False, True]
    await third.end()


async def test_stream_waits_for_another_one_to_end_but_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Intake(LITTLE)
    for _ in range(LITTLE.streams):
        await found.join()
    waiting = asyncio.create_task(found.join())
    await turns()
    assert not waiting.done()
    found.leave()
    await waiting
    monkeypatch.setattr(intake, "STREAM_PATIENCE_SECONDS", 0.01)
    with pytest.raises(Overloaded, match="4 streams publish, the most there is memory for"):
        await found.join()
    found.leave()
    await found.join()
