"""Pages of long lists. A page never searches through more than a bounded number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from signalpost.ports import Page, PageRequest
from signalpost.store.statements import AnyRow

SCAN_LIMIT = 1000
"""Most rows that one page looks at: they take less than 20 ms."""


def collect(
    rows: Iterable[AnyRow],
    *,
    page: PageRequest,
    keeps: Callable[[AnyRow], bool],
    weigh: Callable[[AnyRow], int],
    position: Callable[[AnyRow], str],
) -> Page[AnyRow]:
    """Take the rows that belong on a page, in their order.

    `weigh` returns the bytes of a row, `position` where a page after it begins. The list goes
    on if there is a row behind the last one looked at, so `rows` must offer one more than
    SCAN_LIMIT.
    """
    items: list[AnyRow] = []
    weight = 0
    last: AnyRow | None = None
    for looked_at, row in enumerate(rows):
        kept = keeps(row)
        weight += weigh(row) if kept else 0
        full = len(items) >= page.size or (kept and items and weight > page.max_bytes)
        if last is not None and (full or looked_at >= SCAN_LIMIT):
            return Page(items, position(last))
        if kept:
            items.append(row)
        last = row
    return Page(items, None)
