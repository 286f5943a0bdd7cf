"""`make bench-compare BASE=<revision>`: this tree and another revision, measured by turns.

Each turn runs the benchmark as it is in this tree, once with the service of the other revision
and once with that of this tree; a figure's ratio is that of the medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
TURNS = 3

Figures = dict[tuple[str, str], list[float]]


def measure(source: Path, figures: Figures) -> None:
    """Run the benchmark once, with the service whose sources are there."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--only-deliveries"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for line in run.stdout.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            name = entry.pop("figure")
            for key, value in entry.items():
                if not isinstance(value, str):
                    figures[name, key].append(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare", description=__doc__)
    parser.add_argument("base", help="the revision to compare with")
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    before: Figures = defaultdict(list)
    after: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", arguments.base, "src"], cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        for turn in range(arguments.turns):
            sys.stderr.write(f"turn {turn + 1} of {arguments.turns} ...\n")
            measure(Path(folder) / "src", before)
            measure(ROOT / "src", after)
    show(arguments.base, before, after)


def show(base: str, before: Figures, after: Figures) -> None:
    table = Table("figure", "value", base, "this tree", "ratio", title="Medians of all turns")
    for name, key in before:
        first, second = statistics.median(before[name, key]), statistics.median(after[name, key])
        ratio = round(second / first, 2) if first else None
        line = {"figure": name, "value": key, base: first, "this tree": second, "ratio": ratio}
        sys.stdout.write(json.dumps(line) + "\n")
        table.add_row(name, key, f"{first:,.2f}", f"{second:,.2f}", str(ratio or "-"))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
