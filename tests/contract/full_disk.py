"""Fills the disk that a store lies on, frees it, and tells what the store made of it.

Runs in a mount namespace of its own: `python full_disk.py <empty folder>`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from signalpost.domain.errors import StorageFull
from signalpost.ports import EventQuery, PageRequest
from signalpost.store import Store
from tests.contract.material import event

NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def main(folder: Path) -> None:
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * 3_000_000)
    store = await Store.open(f"sqlite:///{folder / 'store.db'}", master_key=b"m" * 32)
    acknowledged: set[str] = set()
    refused = 0
    for number in range(200):
        try:
            await store.accept([event(f"e{number}", content='"' + "x" * 30_000 + '"')], now=NOW)
            acknowledged.add(f"e{number}")
        except StorageFull:
            refused += 1
            ballast.unlink(missing_ok=True)
            if refused > 3:
                break
    everything = PageRequest(size=1000, max_bytes=100_000_000)
    page = await store.list_events(EventQuery(tenant_id=None), everything)
    stored = {found.event_id for found in page.items}
    await store.aclose()
    assert stored == acknowledged, (len(stored), len(acknowledged))
    first_refused = next(n for n in range(200) if f"e{n}" not in acknowledged)
    assert f"e{first_refused + 1}" in acknowledged, "it did not go on when there was room again"
    sys.stdout.write("full, freed, went on\n")


if __name__ == "__main__":
    disk = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], check=True)
    asyncio.run(main(disk))
