"""What stands in line in ordered lanes, looked at from outside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from signalpost.store.tables import Phase
from tests.contract.sqlite_file import look

Row = tuple[int, int]
"""Number of the event, and phase."""


def standing(path: Path) -> dict[tuple[int, str], list[Row]]:
    """Return what stands in each line, in the order of acceptance."""
    lines: dict[tuple[int, str], list[Row]] = defaultdict(list)
    statement = (
        "SELECT lane_id, resource, event_row, phase FROM queue"
        " WHERE resource IS NOT NULL ORDER BY event_row"
    )
    for lane_id, resource, event_row, phase in look(path, statement):
        lines[lane_id, resource].append((event_row, phase))
    return dict(lines)


def is_sound(line: Sequence[Row]) -> bool:
    """Tell whether exactly the one that may go can go, or only what is leased is not behind."""
    first, *others = [phase for _, phase in line]
    phases = [first, *others]
    if Phase.LEASED in phases:
        return Phase.WAITING not in phases
    return first == Phase.WAITING and all(phase == Phase.BEHIND for phase in others)
