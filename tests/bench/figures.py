"""Figures: one JSON line each as they come, and a table at the end."""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Report:
    """Collects what was measured, and the ratios that count."""

    figures: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, name: str, **values: float) -> None:
        rounded = {key: round(value, 2) for key, value in values.items()}
        self.figures[name] = rounded
        sys.stdout.write(json.dumps({"figure": name, **rounded}) + "\n")
        sys.stdout.flush()

    def ratio(self, name: str, above: tuple[str, str], below: tuple[str, str]) -> None:
        """Report one figure divided by another of the same run."""
        first, second = (self.figures[figure][key] for figure, key in (above, below))
        self.add(f"ratio: {name}", ratio=first / second)

    def show(self) -> None:
        table = Table("figure", "values", title="Compare within one run only")
        for name, values in self.figures.items():
            table.add_row(name, "  ".join(f"{key} {value:,}" for key, value in values.items()))
        Console(width=120).print(table)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}
