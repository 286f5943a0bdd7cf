"""Judges a history from outside: what publishers were told against what receivers saw."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from signalpost.v1.delivery_pb2 import Delivery
from tests.e2e.receiver import Request

Pair = tuple[str, str]
"""An event's ID and the path of an endpoint it matched."""


@dataclass
class History:
    """What happened: IDs that publishers attempted and that were acknowledged, and requests."""

    endpoints: frozenset[str]
    attempted: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Findings:
    lost: set[Pair]
    unexpected: set[Pair]
    repeats: int
    disagreeing: set[Pair]
    pending: set[str]


def judge(
    history: History,
    requests: Iterable[Request],
    deliveries: Iterable[Delivery],
    paths: dict[str, str],
) -> Findings:
    """Compare; `paths` tells the endpoint's path of each subscription's ID."""
    requests, deliveries = list(requests), list(deliveries)
    taken = Counter((r.event_id, r.path) for r in requests if 200 <= r.answered <= 299)
    by_state: dict[int, set[Pair]] = {}
    for d in deliveries:
        by_state.setdefault(d.state, set()).add((d.event_id, paths[d.subscription_id]))
    owed = {(event, path) for event in history.acknowledged for path in history.endpoints}
    failed = by_state.get(Delivery.FAILED, set())
    succeeded = by_state.get(Delivery.SUCCEEDED, set())
    return Findings(
        lost=owed - set(taken) - failed,
        unexpected={pair for pair in taken if pair[0] not in history.attempted},
        repeats=_repeats(requests),
        disagreeing=succeeded ^ set(taken),
        pending={d.delivery_id for d in deliveries if d.state == Delivery.PENDING},
    )


def _repeats(requests: list[Request]) -> int:
    """Count the requests that came after one of the same pair had been answered 2xx."""
    seen: set[Pair] = set()
    repeats = 0
    for request in sorted(requests, key=lambda r: r.number):
        pair = (request.event_id, request.path)
        repeats += pair in seen
        if 200 <= request.answered <= 299:
            seen.add(pair)
    return repeats
