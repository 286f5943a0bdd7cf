"""When the service stops sending to an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce

import orjson
import pytest

from signalpost.domain.ids import EventId, SubscriptionId, TenantId
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.pace import HEALTHY, Observation, Pace, observe
from signalpost.domain.subscription import SuspensionReason
from signalpost.domain.suspension import Suspension, announcement, judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAILED = AttemptResult(outcome=Outcome.REJECTED, latency=timedelta(), status_code=500)
TAKEN = AttemptResult(outcome=Outcome.SUCCEEDED, latency=timedelta(), status_code=200)
FORBIDDEN = AttemptResult(outcome=Outcome.FORBIDDEN, latency=timedelta())


def hours(*numbers: float, result: AttemptResult = FAILED) -> list[tuple[float, AttemptResult]]:
    return [(number, result) for number in numbers]


def reason(attempts: list[tuple[float, AttemptResult]]) -> SuspensionReason | None:
    """What the last of these attempts, each so many hours after the first, leads to."""

    def step(
        state: tuple[Pace, Suspension | None], attempt: tuple[float, AttemptResult]
    ) -> tuple[Pace, Suspension | None]:
        now, result = NOW + timedelta(hours=attempt[0]), attempt[1]
        seen = Observation(result=result, start=now, now=now, width=1, cap=32)
        pace = observe(state[0], seen)
        return pace, judge(state[0], pace, result, now=now)

    start: tuple[Pace, Suspension | None] = (HEALTHY, None)
    _, suspension = reduce(step, attempts, start)
    return None if suspension is None else suspension.reason


FIVE_DAYS = 5 * 24.0
NINE = hours(*range(9))


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        (NINE + hours(FIVE_DAYS - 1, FIVE_DAYS), SuspensionReason.ENDPOINT_FAILING),
        (NINE + hours(FIVE_DAYS - 1, FIVE_DAYS - 0.001), None),
        (hours(*range(8)) + hours(FIVE_DAYS), None),
        (hours(*range(7)) + hours(FIVE_DAYS - 12, FIVE_DAYS), None),
        (hours(*range(8)) + hours(FIVE_DAYS - 12, FIVE_DAYS), SuspensionReason.ENDPOINT_FAILING),
        # A quiet endpoint: what failed of late is this one attempt.
        (NINE + hours(FIVE_DAYS + 40), None),
        (NINE + hours(FIVE_DAYS + 27.9, FIVE_DAYS + 40), None),
        (NINE + hours(FIVE_DAYS + 28, FIVE_DAYS + 40), SuspensionReason.ENDPOINT_FAILING),
        (hours(0, FIVE_DAYS), None),
        # A success begins it anew.
        (NINE + hours(60, result=TAKEN) + hours(FIVE_DAYS - 1, FIVE_DAYS), None),
        (
            hours(0, 1, result=TAKEN) + hours(*(2.0 + n for n in range(121))),
            SuspensionReason.ENDPOINT_FAILING,
        ),
        # Ten forbidden in a row over an hour.
        (hours(*(n / 9 for n in range(10)), result=FORBIDDEN), SuspensionReason.ENDPOINT_FORBIDDEN),
        (hours(*(n / 9.01 for n in range(10)), result=FORBIDDEN), None),
        (hours(*(n / 8 for n in range(9)), result=FORBIDDEN), None),
        (
            hours(*range(5), result=FORBIDDEN) + hours(5) + hours(*range(6, 11), result=FORBIDDEN),
            None,
        ),
    ],
)
def test_what_suspends(
    attempts: list[tuple[float, AttemptResult]], expected: SuspensionReason | None
) -> None:
    assert reason(attempts) == expected


@pytest.mark.parametrize("status", range(300, 600))
def test_of_all_answers_only_410_suspends_at_once(status: int) -> None:
    result = AttemptResult(outcome=Outcome.REJECTED, latency=timedelta(), status_code=status)
    expected = SuspensionReason.ENDPOINT_GONE if status == 410 else None
    assert reason([(0, result)]) == expected


def test_the_event_says_who_why_and_how_much_waits() -> None:
    event = announcement(
        Suspension(SuspensionReason.ENDPOINT_GONE, "The endpoint answered 410 Gone."),
        tenant_id=TenantId("acme"),
        subscription_id=SubscriptionId("crm"),
        pending_count=12,
        event_id=EventId("evt_1"),
        now=NOW,
    )
    assert (event.tenant_id, event.event_type) == ("acme", "subscription.suspended")
    assert orjson.loads(event.body) == {
        "event_id": "evt_1",
        "event_type": "subscription.suspended",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "resource": {"type": "subscription", "id": "crm"},
        "payload": {
            "reason": "ENDPOINT_GONE",
            "message": "The endpoint answered 410 Gone.",
            "pending_count": 12,
        },
    }
