"""Answers a stream of requests in their order, several in work at once.

What is unanswered is bounded: beyond that nothing is read, and the flow control of HTTP/2
holds the client back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Final, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from signalpost.api.intake import Streamed

MOST_UNANSWERED: Final = 16
"""Most requests without an answer."""

MOST_UNANSWERED_BYTES: Final = 1024 * 1024
"""With so many bytes unanswered, nothing more is read."""


class Sized(Protocol):
    """A request; `size` is how many bytes it has."""

    @property
    def size(self) -> int:
        """Return that."""
        ...


_Request = TypeVar("_Request", bound=Sized)
_Response = TypeVar("_Response", bound=Message)


class Pipeline(Generic[_Request, _Response]):
    """Begins to answer each request as it comes, and responds in their order.

    `answer` is begun for one request after the other, `respond` hands its answer over. Nothing
    is read while all streams together have too much in work (`streamed`). Runs once.
    """

    def __init__(
        self,
        answer: Callable[[_Request], Coroutine[None, None, _Response]],
        respond: Callable[[_Response], Awaitable[None]],
        *,
        streamed: Streamed,
    ) -> None:
        self._answer = answer
        self._respond = respond
        self._streamed = streamed
        self._under_way: asyncio.Queue[tuple[asyncio.Task[_Response], int] | None]
        self._under_way = asyncio.Queue()
        self._tasks: set[asyncio.Task[_Response]] = set()
        self._count = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    async def run(self, requests: AsyncIterator[_Request]) -> None:
        """Answer all requests.

        A failure to read or to answer one is raised once those before it are answered; what is
        under way then is cancelled.
        """
        reading = asyncio.create_task(self._read(requests))
        try:
            while (first := await self._under_way.get()) is not None:
                task, size = first
                await self._respond(await task)
                self._weigh(-1, -size)
            await reading
        finally:
            left = (reading, *self._tasks)
            for one in left:
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[_Request]) -> None:
        try:
            await self._streamed.room()
            async for request in requests:
                self._begin(request)
                # It must not be held until there is room for the next one.
                del request
                await self._room.wait()
                await self._streamed.room()
        finally:
            self._under_way.put_nowait(None)

    def _begin(self, request: _Request) -> None:
        size = request.size
        task = asyncio.create_task(self._answer(request))
        self._tasks.add(task)
        self._streamed.begin(size)

        def end(task: asyncio.Task[_Response]) -> None:
            self._tasks.discard(task)
            self._streamed.end(size)

        task.add_done_callback(end)
        self._under_way.put_nowait((task, size))
        self._weigh(1, size)

    def _weigh(self, count: int, size: int) -> None:
        self._count += count
        self._bytes += size
        if self._count < MOST_UNANSWERED and self._bytes < MOST_UNANSWERED_BYTES:
            self._room.set()
        else:
            self._room.clear()
