"""Judges a history from outside: what publishers were told against what receivers saw."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from signalpost.v1.delivery_pb2 import Delivery
from tests.e2e.receiver import Request

Pair = tuple[str, str]
"""An event's ID and the path of an endpoint it matched."""


@dataclass
class History:
    """What happened: IDs that publishers attempted and that were acknowledged, and requests.

    `in_order` are the IDs of each resource in the order in which they were accepted, if all
    endpoints are to get them so.
    """

    endpoints: frozenset[str]
    attempted: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    in_order: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    lost: set[Pair]
    unexpected: set[Pair]
    repeats: int
    disagreeing: set[Pair]
    pending: set[str]
    disordered: set[Pair]


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
        disordered=_disordered(history, requests, failed),
    )


def _disordered(
    history: History, requests: Iterable[Request], failed: Collection[Pair]
) -> set[Pair]:
    """Find what was sent before the one in front of it was taken or given up."""
    sent: dict[Pair, list[Request]] = {}
    for request in requests:
        sent.setdefault((request.event_id, request.path), []).append(request)
    return {
        (later, path)
        for in_order in history.in_order.values()
        for earlier, later in pairwise(in_order)
        for path in history.endpoints
        if (later, path) in sent
        and not _is_over(
            sent.get((earlier, path), []),
            before=min(request.arrived for request in sent[later, path]),
            given_up=(earlier, path) in failed,
        )
    }


def _is_over(requests: Sequence[Request], *, before: int, given_up: bool) -> bool:
    """Tell whether the last of these requests had been made and answered before a time."""
    taken = any(200 <= r.answered <= 299 and r.ended < before for r in requests)
    return (taken or given_up) and all(max(r.arrived, r.ended) < before for r in requests)


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
