from __future__ import annotations

import pytest

from signalpost.cli.board import Arrival, Board, Row
from signalpost.cli.verification import Result, Verification
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt

REJECTED = DeliveryAttempt(outcome=DeliveryAttempt.REJECTED, status_code=503)
TAKEN = DeliveryAttempt(outcome=DeliveryAttempt.SUCCEEDED, status_code=200)


def row(*results: Result, delivery: Delivery | None = None) -> Row:
    """The row of an event with these requests at the receiver."""
    board = Board()
    for result in results:
        board.arrive("e1", Arrival(Verification(result), 200))
    board.publish("e1", "account.connected")
    if delivery:
        board.observe([delivery])
    [only] = board.rows()
    return only


def test_all_went_well_only_if_it_was_delivered_and_every_request_verified() -> None:
    done = Delivery(event_id="e1", state=Delivery.SUCCEEDED, attempt_count=2, last_attempt=TAKEN)
    failed = Delivery(event_id="e1", state=Delivery.FAILED, attempt_count=1)
    assert row(Result.VERIFIED, Result.VERIFIED, delivery=done).good
    assert not row(Result.NOT_VERIFIED, Result.VERIFIED, delivery=done).good
    assert not row(Result.VERIFIED, Result.UNVERIFIED, delivery=done).good
    assert not row(delivery=done).good, "the server alone cannot say so"
    assert not row(Result.VERIFIED).good, "nor can the receiver"
    assert not row(Result.VERIFIED, delivery=failed).good


@pytest.mark.parametrize(
    ("delivery", "status"),
    [
        (None, "published"),
        (Delivery(state=Delivery.PENDING), "under way"),
        (
            Delivery(state=Delivery.PENDING, attempt_count=1, last_attempt=REJECTED),
            "REJECTED 503, will be retried",
        ),
        (Delivery(state=Delivery.SUCCEEDED, attempt_count=1), "delivered"),
        (
            Delivery(state=Delivery.FAILED, failure_reason=Delivery.EXHAUSTED),
            "failed: EXHAUSTED",
        ),
        (Delivery(state=Delivery.CANCELED), "canceled"),
    ],
    ids=["published", "queued", "refused", "delivered", "failed", "canceled"],
)
def test_status_in_words(delivery: Delivery | None, status: str) -> None:
    if delivery:
        delivery.event_id = "e1"
    found = row(delivery=delivery)
    assert found.status == status
    assert found.ended == status.startswith(("delivered", "failed", "canceled"))


def test_an_arrival_of_an_event_that_was_not_published_here_makes_no_row() -> None:
    board = Board()
    board.arrive("other", Arrival(Verification(Result.VERIFIED), 200))
    assert board.rows() == []
