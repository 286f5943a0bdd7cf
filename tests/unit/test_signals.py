"""Signals that ask a process to end, one after the other."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, sys
from signalpost import signals

async def main(number, other):
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    def end():
        signals.let_end(loop)
        ended.set()
    signals.heed(loop, dict.fromkeys(signals.ENDING, end))
    os.kill(os.getpid(), number)
    await ended.wait()
    os.kill(os.getpid(), other)
    print("drains", flush=True)
    while signal.getsignal(other) is not signal.SIG_DFL and signal.getsignal(other) is not \
            signal.default_int_handler:
        await asyncio.sleep(0.01)
    print("can be ended", flush=True)
    os.kill(os.getpid(), other)
    await asyncio.sleep(60)
    print("was not", flush=True)

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_two_in_the_same_moment_are_one_and_a_later_one_ends_it(first: signal.Signals) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(first)), str(int(signal.SIGTERM))],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (run.stdout, run.returncode) == ("drains\ncan be ended\n", -signal.SIGTERM), run.stderr
