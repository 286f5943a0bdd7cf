"""Figures: one JSON line each as they come, and a table at the end."""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

Figures = dict[str, float | str]

_BUSY = 0.85


@dataclass
class Report:
    """Collects what was measured, and the ratios that count."""

    figures: dict[str, Figures] = field(default_factory=dict)

    def add(self, name: str, values: Mapping[str, float | str]) -> None:
        rounded = {
            key: value if isinstance(value, str) else round(value, 2)
            for key, value in values.items()
        }
        self.figures[name] = rounded
        sys.stdout.write(json.dumps({"figure": name, **rounded}) + "\n")
        sys.stdout.flush()

    def ratio(self, name: str, above: tuple[str, str], below: tuple[str, str]) -> None:
        """Report one figure divided by another of the same run."""
        first, second = (float(self.figures[figure][key]) for figure, key in (above, below))
        self.add(f"ratio: {name}", {"ratio": first / second})

    def show(self) -> None:
        table = Table("figure", "values", title="Compare within one run only")
        for name, values in self.figures.items():
            table.add_row(
                name, "  ".join(f"{key} {_shown(value)}" for key, value in values.items())
            )
        Console(width=120).print(table)


@dataclass
class Turns:
    """Collects what was measured several times, one thing after the other in each turn."""

    to: Report
    figures: dict[str, list[Mapping[str, float | str]]] = field(default_factory=dict)

    def add(self, name: str, values: Mapping[str, float | str]) -> None:
        self.figures.setdefault(name, []).append(values)

    def median(self, name: str, key: str) -> float:
        """Return the median over all turns."""
        return statistics.median(float(values[key]) for values in self.figures[name])

    def report(self, prefix: str) -> None:
        """Report the medians; of what is no number, that which came most often."""
        for name, turns in self.figures.items():
            medians: Figures = {}
            for key, value in turns[0].items():
                if isinstance(value, str):
                    medians[key] = statistics.mode(str(values[key]) for values in turns)
                else:
                    medians[key] = self.median(name, key)
            self.to.add(f"{prefix}: {name}" if prefix else name, medians)

    def ratio(self, name: str, above: tuple[str, str], below: tuple[str, str]) -> None:
        """Report the median of the ratios of all turns, and the least and the greatest of them."""
        pairs = zip(self.figures[above[0]], self.figures[below[0]], strict=True)
        ratios = sorted(float(one[above[1]]) / float(other[below[1]]) for one, other in pairs)
        self.to.add(
            f"ratio: {name}",
            {"ratio": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1]},
        )


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def loads(elapsed: float, **cpu_seconds: float) -> dict[str, float | str]:
    """Return the load of each process, and which of them was the limit.

    None was if none was busy nearly all the time: then it was the disk, a wait for the
    network, or somebody else on the machine.
    """
    shares = {name: used / elapsed for name, used in cpu_seconds.items()}
    busiest = max(shares, key=lambda name: shares[name])
    limit = busiest if shares[busiest] > _BUSY else "none of them"
    return {f"{name}_load": share for name, share in shares.items()} | {"limit": limit}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}
