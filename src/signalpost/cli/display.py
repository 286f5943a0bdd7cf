"""How the demonstration shows its deliveries: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from signalpost.cli.board import Row
from signalpost.cli.verification import Result

_WIDE = 110
_SHORT_ID = 8


class Display(Protocol):
    """Shows rows as they change."""

    def update(self, rows: Sequence[Row]) -> None:
        """Show them as they are now."""
        ...


@contextmanager
def displaying(console: Console) -> Iterator[Display]:
    """Show rows on this console while the block runs."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield _LiveTable(live, console)


class _LiveTable:
    def __init__(self, live: Live, console: Console) -> None:
        self._live = live
        self._console = console

    def update(self, rows: Sequence[Row]) -> None:
        self._live.update(_table(rows, width=self._console.width), refresh=True)


class _Lines:
    """Prints a row again when an attempt of it ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: dict[str, tuple[int, bool]] = {}

    def update(self, rows: Sequence[Row]) -> None:
        for row in rows:
            progress = (row.attempts, row.ended)
            if row.attempts and self._printed.get(row.event_id) != progress:
                self._printed[row.event_id] = progress
                self._console.print(_line(row), soft_wrap=True)


def _line(row: Row) -> str:
    attempts = f"{row.attempts} attempt{'s' if row.attempts > 1 else ''}"
    verified = row.verification.value if row.verification else "not received"
    return (
        f"{row.event_type:<30} {row.event_id}  {attempts:<11} {row.status:<9}"
        f"  {verified}  {row.latency}"
    )


def _table(rows: Sequence[Row], *, width: int) -> Table:
    wide = width >= _WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), header_style="dim")
    table.add_column("event", no_wrap=True)
    table.add_column("event id", no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("status")
    table.add_column("signature")
    table.add_column("latency", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.event_type,
            row.event_id if wide else "…" + row.event_id[-_SHORT_ID:],
            str(row.attempts) if row.attempts else "",
            Text(row.status, style=_style(row)),
            _signature(row),
            row.latency,
        )
    return table


def _style(row: Row) -> str:
    if row.good:
        return "green"
    return "bold red" if row.ended else "yellow"


def _signature(row: Row) -> Text:
    if row.verification is None:
        return Text("")
    good = row.verification is Result.VERIFIED
    return Text(row.verification.value, style="green" if good else "bold red")
