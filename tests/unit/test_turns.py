"""Requests that calls make to a host are few at once."""

import asyncio

import pytest

from signalpost.delivery.turns import Turns


class Call:
    """A call that ends when it is told to."""

    def __init__(self, turns: Turns, host: str) -> None:
        self.has_turn = False
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._run(turns, host))

    async def _run(self, turns: Turns, host: str) -> None:
        async with turns.turn(host):
            self.has_turn = True
            await self.may_end.wait()

    async def end(self) -> None:
        self.may_end.set()
        await self.task


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_beyond_the_limit_wait_for_their_turn_in_order() -> None:
    turns = Turns(most_at_once=2)
    calls = [Call(turns, "a") for _ in range(4)]
    other = Call(turns, "b")
    await settle()
    assert [call.has_turn for call in (*calls, other)] == [True, True, False, False, True]
    await calls[1].end()
    await settle()
    assert [call.has_turn for call in calls] == [True, True, True, False]
    for call in (*calls, other):
        await call.end()
    assert len(turns) == 0


async def test_one_that_gives_up_takes_nobodys_turn() -> None:
    turns = Turns(most_at_once=1)
    first, second, third = (Call(turns, "a") for _ in range(3))
    await settle()
    second.task.cancel()
    await settle()
    await first.end()
    await settle()
    assert (second.has_turn, third.has_turn) == (False, True)
    third.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third.task
    assert len(turns) == 0
