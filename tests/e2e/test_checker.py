"""The checker must see what it is there for."""

import pytest

from signalpost.v1.delivery_pb2 import Delivery
from tests.e2e.checker import History, judge
from tests.e2e.receiver import Request

PATH = "/p"

Seen = tuple[str, int, int, int]
"""Event, when its request arrived, the answer, and when that was sent (0: never)."""


def disordered(*seen: Seen, failed: str = "", in_order: str = "abc") -> set[str]:
    requests = [
        Request(n, PATH, {"webhook-id": event_id}, b"", arrived, answered, ended)
        for n, (event_id, arrived, answered, ended) in enumerate(seen)
    ]
    deliveries = [
        Delivery(event_id=event_id, subscription_id="s", state=Delivery.FAILED)
        for event_id in failed
    ]
    history = History(
        frozenset({PATH}), set(in_order), set(in_order), in_order={"acc": list(in_order)}
    )
    findings = judge(history, requests, deliveries, {"s": PATH})
    return {event_id for event_id, _ in findings.disordered}


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param([("a", 1, 200, 2), ("b", 3, 200, 4), ("c", 5, 200, 6)], id="one by one"),
        pytest.param([("a", 1, 503, 2), ("a", 3, 200, 4), ("b", 5, 200, 6)], id="retried"),
        pytest.param([("a", 1, 200, 2), ("a", 3, 200, 4), ("b", 5, 200, 6)], id="repeated"),
        pytest.param([("a", 1, 0, 0), ("a", 3, 200, 4), ("b", 5, 200, 6)], id="interrupted"),
        pytest.param([("a", 1, 200, 2)], id="not there yet"),
    ],
)
def test_what_is_in_order_is_not_found(seen: list[Seen]) -> None:
    assert disordered(*seen) == set()


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        pytest.param([("b", 1, 200, 2), ("a", 3, 200, 4)], "b", id="swapped"),
        pytest.param([("a", 1, 503, 2), ("b", 3, 200, 4), ("a", 5, 200, 6)], "b", id="overtaken"),
        pytest.param([("a", 1, 200, 3), ("b", 2, 200, 4)], "b", id="side by side"),
        pytest.param([("a", 1, 0, 0), ("b", 2, 200, 3)], "b", id="without an answer"),
        pytest.param([("a", 1, 200, 2), ("b", 3, 200, 4), ("a", 5, 200, 6)], "b", id="going back"),
        pytest.param([("a", 1, 200, 2), ("c", 3, 200, 4)], "c", id="left out"),
    ],
)
def test_what_is_out_of_order_is_found(seen: list[Seen], found: str) -> None:
    assert disordered(*seen) == {found}


def test_what_was_given_up_lets_the_next_go() -> None:
    given_up = [("a", 1, 503, 2), ("b", 3, 200, 4)]
    assert disordered(*given_up) == {"b"}
    assert disordered(*given_up, failed="a") == set()
    assert disordered(("a", 1, 503, 4), ("b", 3, 200, 5), failed="a") == {"b"}


def test_resources_have_orders_of_their_own() -> None:
    assert disordered(("b", 1, 200, 2), ("a", 3, 200, 4), in_order="a") == set()
