"""The receiver of the demonstration."""

from __future__ import annotations

from rich.console import Console

from signalpost.cli.board import Arrival, Board
from signalpost.cli.receiver import Answer, Request
from signalpost.cli.verification import verify
from signalpost.cli.webhook import read, render
from signalpost.clock import SystemClock

FAILS_ONCE = "usage.quota_alert"
"""The type whose first webhook is refused, to show a retry."""

FAILURE = 503


class Endpoint:
    """Verifies every webhook with `secrets`, notes it on the board and answers.

    The answer is `status`; without one it is 200, but for the one failure on purpose. Once
    there is a `console`, webhooks are printed there too.
    """

    def __init__(self, board: Board, *, status: int | None) -> None:
        self.secrets: tuple[bytes, ...] = ()
        self.console: Console | None = None
        self._board = board
        self._status = status
        self.failed_on_purpose = False

    async def handle(self, request: Request) -> Answer:
        """Take one webhook."""
        now = SystemClock().now()
        verification = verify(request.headers, request.body, secrets=self.secrets, now=now)
        status = self._answer(read(request.body).event_type)
        self._board.arrive(request.headers.get("webhook-id", ""), Arrival(verification, status))
        if self.console:
            text = render(request, verification, status=status, received=now)
            self.console.print(text, soft_wrap=True)
        return Answer(status)

    def _answer(self, event_type: str) -> int:
        if self._status is not None:
            return self._status
        if event_type == FAILS_ONCE and not self.failed_on_purpose:
            self.failed_on_purpose = True
            return FAILURE
        return 200
