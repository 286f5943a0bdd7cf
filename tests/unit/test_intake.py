"""How much of requests is let in, and how large ones wait for their turn."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest

from signalpost.api.intake import CALL_BYTES, SMALL_BYTES, Intake, Streamed
from signalpost.domain.errors import Overloaded
from signalpost.process import Share

MIB = 2**20
LITTLE = Share.of(files=65_536, memory=256 * MIB, attempts=512, kept=2000)
LARGE = 4 * MIB


async def turns(count: int = 20) -> None:
    """Let all others go on for so many turns of the loop, by default as far as they can."""
    for _ in range(count):
        await asyncio.sleep(0)


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


async def test_who_went_away_does_not_count_among_those_that_wait() -> None:
    found = Intake(LITTLE)
    works = [Work(found) for _ in range(5)]
    await turns()
    works[3].task.cancel()
    last = Work(found)
    for one in (works[0], works[1], works[2], works[4], last):
        assert await begun(one) == [True]
        await one.end()


async def test_small_requests_do_not_wait_but_there_are_only_so_many() -> None:
    found = Intake(LITTLE)
    large = [Work(found) for _ in range(2)]
    size = MIB - CALL_BYTES
    for _ in range(8):
        found.begin_small(size)
    for _ in range(2):
        with pytest.raises(Overloaded):
            found.begin_small(size)
    found.end_small(size)
    found.begin_small(size)
    for one in large:
        await one.end()


async def test_there_are_only_so_many_streams() -> None:
    found = Intake(LITTLE)
    with ExitStack() as streams:
        for _ in range(LITTLE.streams):
            streams.enter_context(found.stream())
        with pytest.raises(Overloaded, match="256 streams publish, the most there is memory for"):
            streams.enter_context(found.stream())
    with found.stream():
        pass


@dataclass
class Stream:
    """A stream of requests, whose next one comes when it is told to."""

    found: Intake
    begun: bool = False
    there: asyncio.Event = field(default_factory=asyncio.Event)

    def next(self, *, after: int) -> asyncio.Task[bytes]:
        return asyncio.create_task(self.found.arrive_next(self._read, after=after))

    async def _read(self) -> bytes:
        self.begun = True
        await self.there.wait()
        return b"request"


@pytest.mark.parametrize(
    ("after", "plenty", "at_once"),
    [(0, True, 20), (SMALL_BYTES, True, 20), (SMALL_BYTES + 1, True, 2), (0, False, 2)],
)
async def test_streams_wait_for_others_where_much_is_to_be_expected_and_if_memory_is_short(
    *, after: int, plenty: bool, at_once: int
) -> None:
    # So much memory that it is not looked at.
    found = Intake(replace(LITTLE, memory=2**50))
    found._late.have_plenty = plenty
    streams = [Stream(found) for _ in range(20)]
    tasks = [one.next(after=after) for one in streams]
    await turns()
    assert sum(one.begun for one in streams) == at_once
    for one in streams:
        one.there.set()
    assert await asyncio.gather(*tasks) == [b"request"] * 20


async def test_no_more_is_read_from_streams_while_too_much_is_in_work() -> None:
    streamed = Streamed(10)
    streamed.begin(9)
    await streamed.room()
    streamed.begin(9)
    waiting = [asyncio.create_task(streamed.room()) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in waiting)
    streamed.end(9)
    await asyncio.gather(*waiting)
