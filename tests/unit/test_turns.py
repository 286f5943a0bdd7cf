"""Requests that calls make to a host are few at once, and few in a second if they fail."""

import asyncio

import pytest

from signalpost.delivery.turns import Turns


class Call:
    """A call that ends when it is told to."""

    def __init__(self, turns: Turns, host: str) -> None:
        self.has_turn = self.worked = False
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._run(turns, host))

    async def _run(self, turns: Turns, host: str) -> None:
        async with turns.turn(host) as turn:
            self.has_turn = True
            await self.may_end.wait()
            turn.worked = self.worked

    async def end(self, *, worked: bool = True) -> None:
        self.worked = worked
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
    await third.end()
    assert len(turns) == 0


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_turn_that_did_not_work_is_nobodys_for_a_while(*, leaves: bool) -> None:
    turns = Turns(most_at_once=2, kept_seconds=3600)
    first, second, third, fourth = (Call(turns, "a") for _ in range(4))
    other = Call(turns, "b")
    await settle()
    if leaves:
        first.task.cancel()
    else:
        await first.end(worked=False)
    await settle()
    assert not third.has_turn
    await second.end()
    await settle()
    assert (third.has_turn, fourth.has_turn) == (True, False)
    await third.end()
    for call in (fourth, other):
        await call.end()
    # The host of the turn that is kept is remembered, and the other is not.
    assert len(turns) == 1


async def test_after_that_while_the_turn_is_the_next_ones() -> None:
    turns = Turns(most_at_once=1, kept_seconds=0.001)
    first, second = Call(turns, "a"), Call(turns, "a")
    await settle()
    await first.end(worked=False)
    await second.end()
    assert second.has_turn
    assert len(turns) == 0
