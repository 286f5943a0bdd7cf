"""What answers of endpoints mean, as the README says it, and how retries are spread."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from signalpost.domain.outcome import AttemptResult, Outcome, outcome_of_status
from signalpost.domain.pace import HEALTHY, Observation, observe
from signalpost.domain.subscription import RetryPolicy
from signalpost.domain.suspension import judge
from signalpost.domain.verdict import JITTER_MAX, JITTER_MIN, RetryAt, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
README = Path(__file__).parents[2] / "README.md"
CAP = 32


def documented() -> dict[int, tuple[str, str]]:
    """The table of the README, status by status."""
    text = README.read_text("utf-8").partition("| status | delivery | subscription |\n")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", text.partition("\n\n")[0], re.MULTILINE)
    *named, (others, *rest) = rows
    assert others == "all others"
    table = dict.fromkeys(range(200, 600), tuple(rest))
    for statuses, delivery, subscription in named:
        for part in statuses.split(", "):
            first, _, last = part.partition("-")
            for status in range(int(first), int(last or first) + 1):
                table[status] = (delivery, subscription)
    return {status: (row[0], row[1]) for status, row in table.items()}


def actual(status: int) -> tuple[str, str]:
    result = AttemptResult(
        outcome=outcome_of_status(status), latency=timedelta(), status_code=status
    )
    seen = Observation(result=result, start=NOW, now=NOW, width=CAP, cap=CAP)
    pace = observe(HEALTHY, seen)
    delivery = "taken" if result.outcome is Outcome.SUCCEEDED else "failed attempt"
    if judge(HEALTHY, pace, result, now=NOW) is not None:
        return delivery, "suspended"
    return delivery, "fewer at once" if pace.limit(CAP) < CAP else "goes on"


@pytest.mark.parametrize("status", range(200, 600))
def test_every_status_means_what_the_readme_says(status: int) -> None:
    assert actual(status) == documented()[status]


def test_retries_are_spread_evenly_and_no_second_is_crowded() -> None:
    """Kolmogorov's distance of the delays to the uniform ones, of many that failed together."""
    draw = random.Random(7)
    policy = RetryPolicy(min_backoff=timedelta(seconds=100))
    failed = AttemptResult(outcome=Outcome.REJECTED, latency=timedelta(), status_code=500)
    delays = []
    for _ in range(10_000):
        jitter = draw.uniform(JITTER_MIN, JITTER_MAX)
        verdict = decide(failed, tries=1, set_start=NOW, policy=policy, now=NOW, jitter=jitter)
        assert isinstance(verdict, RetryAt)
        delays.append((verdict.due - NOW).total_seconds())
    delays.sort()
    uniform = [(delay - 80) / 40 for delay in delays]
    assert max(abs(at - n / len(delays)) for n, at in enumerate(uniform)) < 0.03
    crowd = Counter(int(delay) for delay in delays)
    assert max(crowd.values()) <= 3 * len(delays) / 40
