"""A process that has loaded the command `signalpost`, and forks one that runs it when asked.

To load it takes a second of a core and does the same each time; the end-to-end tests start some
two hundred. What a forked process does from there on is its own: its memory, files, signals and
death are those of any process. Asked with a line of JSON and two files (see `Task`), it answers
with a process id. It ends when nobody can ask any more.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TypedDict

CHILD_ENDED = {signal.SIGCHLD}


class Task(TypedDict):
    """What to run. With it come its standard error, and a pipe that is told its exit code."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass
class Forker:
    """Forks for whoever is at the other end of `asked`; keeps the pipe of each child."""

    asked: socket.socket
    pipes: dict[int, int]

    def run(self) -> Task | None:
        """Return None when nobody can ask any more, and in each child what to run."""
        while (task := self._receive()) is not None:
            signal.pthread_sigmask(signal.SIG_BLOCK, CHILD_ENDED)
            if (pid := os.fork()) == 0:
                self._settle()
                return task
            os.close(self._errors)
            self.pipes[pid] = self._pipe
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_ENDED)
            self.asked.sendall(b"%d\n" % pid)
        return None

    def reap(self, *_: object) -> None:
        """Tell the exit codes of children that ended."""
        for pid in list(self.pipes):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pipe = self.pipes.pop(pid)
                with suppress(BrokenPipeError):
                    os.write(pipe, b"%d" % os.waitstatus_to_exitcode(status))
                os.close(pipe)

    def _receive(self) -> Task | None:
        message, files, _, _ = socket.recv_fds(self.asked, 2**16, 2)
        if not message:
            return None
        while not message.endswith(b"\n"):
            message += self.asked.recv(2**16)
        self._errors, self._pipe = files
        task: Task = json.loads(message)
        return task

    def _settle(self) -> None:
        """Leave a child nothing of its parent but what it loaded."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_ENDED)
        null = os.open(os.devnull, os.O_RDWR)
        for file, place in ((null, 0), (null, 1), (self._errors, 2)):
            os.dup2(file, place)
        for file in (null, self._errors, self._pipe, *self.pipes.values()):
            os.close(file)
        self.asked.close()
        # That of the parent knows what kind of file stood there.
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")


def main() -> None:
    from signalpost import __main__ as command  # noqa: PLC0415 - whoever asks needs it not
    from signalpost.cli import command as _loaded  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()
    forker = Forker(socket.socket(fileno=os.dup(0)), {})
    signal.signal(signal.SIGCHLD, forker.reap)
    task = forker.run()
    if task is not None:
        os.environ.clear()
        os.environ.update(task["environment"])
        sys.argv = ["signalpost", *task["arguments"]]
        command.main()


if __name__ == "__main__":
    main()
