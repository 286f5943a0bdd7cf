"""How requests come in: a few at a time, and none that is slow holds up others.

Nothing says how large a request is before it is there. While none is read, flow control of
HTTP/2 holds it back at the client, but for 64 KiB; once one is read, gRPC takes in all of it. So
only a few are read at once.

A place among them is lost by who takes long: those who send nothing take no memory. But any
number of them may send much in the end. So while there are many, memory is looked at, and if it
runs short, all but a few are ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Final, TypeVar

from signalpost.api.parsing import MAX_PUBLISH_BYTES
from signalpost.domain.errors import Overloaded
from signalpost.process import Share, resident_bytes

REQUEST_BYTES: Final = 2 * MAX_PUBLISH_BYTES
"""The largest request as it arrives: it is there twice for a moment, with gRPC and with us."""

TOO_MANY: Final = "there are too many requests at once for the memory there is"

_LOOK_SECONDS: Final = 0.01
"""How often memory is looked at while there are many."""

_WARY_LOOKS: Final = 500
"""For how long those that were ended come in a few at a time, as they may come all at once."""

_logger: Final = logging.getLogger(__name__)

_Read = TypeVar("_Read")


class _Arrival:
    """A request that is read, or will be."""

    __slots__ = ("_ended", "_task", "began")

    def __init__(self, began: float) -> None:
        self.began = began
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._ended = False

    def end(self) -> None:
        """Read it no longer."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()

    def is_ended(self) -> bool:
        """Tell whether that, and nothing else, cancelled the task."""
        return self._ended and self._task is not None and not self._task.uncancel()


class Latecomers:
    """Requests that are read for as long as they take, few or many, while memory lasts.

    `have_plenty` tells whether it looks as if it did.
    """

    def __init__(self, share: Share, *, used: Callable[[], int] = resident_bytes) -> None:
        self._used = used
        # These may all be as large as can be: a quarter of the memory is enough for them.
        self._few = share.memory // 4 // REQUEST_BYTES
        self._much, self._most = share.memory // 8 * 5, share.memory // 4 * 3
        self._step = share.memory // 16
        self._all: dict[_Arrival, None] = {}
        self._least = 0
        self._looking = False
        self._wary = 0
        self.have_plenty = True

    async def read(self, read: Callable[[], Awaitable[_Read]]) -> _Read:
        """Read a request. Raises Overloaded if memory runs short meanwhile."""
        arrival = _Arrival(0)
        self.add(arrival)
        try:
            return await read()
        except asyncio.CancelledError:
            if arrival.is_ended():
                raise Overloaded(TOO_MANY) from None
            raise
        finally:
            self.discard(arrival)

    def add(self, arrival: _Arrival) -> None:
        """Let one that is read be one of them."""
        self._all[arrival] = None
        if not self._looking and len(self._all) > self._few:
            self._looking = True
            self._least = self._used()
            self._look()

    def discard(self, arrival: _Arrival) -> None:
        """Let it be none of them any more."""
        self._all.pop(arrival, None)

    def _look(self) -> None:
        self._looking = len(self._all) > self._few or self._wary > 0
        if not self._looking:
            self.have_plenty = True
            return
        used = self._used()
        self._least = min(self._least, used)
        self._wary = max(0, self._wary - 1)
        # Much may be in use for other things, and all the time: that is no fault of theirs.
        grew = used > self._least + self._step
        if grew and used > self._most:
            self._end_most()
            self._least, self._wary = used, _WARY_LOOKS
        self.have_plenty = not self._wary and not (grew and used > self._much)
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _end_most(self) -> None:
        ended = list(islice(self._all, self._few, None))
        if not ended:
            return
        for arrival in ended:
            self.discard(arrival)
            arrival.end()
        _logger.warning(
            "memory is short: calls whose requests were awaited are ended",
            extra={"calls": len(ended)},
        )


class Arrivals:
    """Reads requests, at most so many at once, in their order.

    After `patience` seconds one of them makes room for the next and is a latecomer; sooner where
    more wait than there are places, so that many who send nothing hold up others no longer.
    """

    def __init__(self, most: int, *, most_waiting: int, patience: float, late: Latecomers) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self._patience = patience
        self._late = late
        self._here: dict[_Arrival, None] = {}
        self._before: dict[_Arrival, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, read: Callable[[], Awaitable[_Read]]) -> _Read:
        """Read a request once it is its turn. Raises Overloaded if too many wait for theirs."""
        loop = asyncio.get_running_loop()
        arrival = _Arrival(loop.time())
        try:
            if self._before or len(self._here) >= self._most:
                await self._turn(arrival, loop)
            else:
                self._here[arrival] = None
            return await read()
        except asyncio.CancelledError:
            if arrival.is_ended():
                raise Overloaded(TOO_MANY) from None
            raise
        finally:
            self._leave(arrival)

    async def _turn(self, arrival: _Arrival, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._before) >= self._most_waiting:
            raise Overloaded(TOO_MANY)
        turn = self._before[arrival] = loop.create_future()
        self._mind_the_slow(loop)
        await turn

    def _leave(self, arrival: _Arrival) -> None:
        if arrival in self._here:
            del self._here[arrival]
            if self._before:
                self._let_in(asyncio.get_running_loop())
        elif self._before.pop(arrival, None) is None:
            self._late.discard(arrival)

    def _let_in(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._before and len(self._here) < self._most:
            arrival = next(iter(self._before))
            turn = self._before.pop(arrival)
            # Who was cancelled just now is still to leave, and does so from here.
            self._here[arrival] = None
            arrival.began = loop.time()
            if not turn.done():
                turn.set_result(None)
        self._mind_the_slow(loop)

    def _mind_the_slow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at those who are read when the first of them has had its time, if others wait."""
        if self._before and self._timer is None:
            first = next(iter(self._here))
            self._timer = loop.call_at(first.began + self._time(), self._make_room)

    def _time(self) -> float:
        """Return how long one of them may take."""
        return self._patience * self._most / max(self._most, len(self._before))

    def _make_room(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        waiting, late = len(self._before), loop.time() - self._time()
        slow = [one for one in islice(self._here, waiting) if one.began <= late]
        for arrival in slow:
            del self._here[arrival]
            self._late.add(arrival)
        self._let_in(loop)
