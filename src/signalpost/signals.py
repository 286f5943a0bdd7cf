"""Signals to this process, from its first moment on.

Python needs a second to import what the service consists of, and a signal with no handler
kills. So signals are held first, and heeded as soon as there is an event loop.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # Where this is imported first, asyncio is one of the things that would take too long.
    from asyncio import AbstractEventLoop

ENDING: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks a process to end."""

RELOADING: Final = signal.SIGHUP
"""What asks a process to read its settings anew."""

SAME_MOMENT_SECONDS: Final = 0.5
"""Signals to end that come within this time are one."""

_held: set[int] = set()


def hold(*numbers: signal.Signals) -> None:
    """From now on only note that one of these signals came, for `heed`."""
    for number in numbers:
        signal.signal(number, lambda came, _: _held.add(came))


def heed(loop: AbstractEventLoop, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
    """From now on call these handlers, and at once those whose signals were held.

    A signal that comes at this very moment may be told twice.
    """
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    for number, handler in handlers.items():
        if number in _held:
            _held.discard(number)
            handler()


def let_end(loop: AbstractEventLoop) -> None:
    """A moment from now, let a signal that asks the process to end do so at once.

    Not sooner: who sends it to the process and to its group, as `timeout` does, means it once.
    """
    for number in ENDING:
        loop.add_signal_handler(number, _pass_over)
    loop.call_later(SAME_MOMENT_SECONDS, _unhandle, loop)


def _pass_over() -> None:
    pass


def _unhandle(loop: AbstractEventLoop) -> None:
    for number in ENDING:
        loop.remove_signal_handler(number)
