from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.delivery import FailureReason
from signalpost.domain.outcome import AttemptResult, Outcome, outcome_of_status
from signalpost.domain.subscription import RetryPolicy
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict, backoff, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULTS = RetryPolicy()


def _decide(
    outcome: Outcome,
    *,
    tries: int = 1,
    jitter: float = 1.0,
    retry_after: str = "",
    started: timedelta = timedelta(),
    policy: RetryPolicy = DEFAULTS,
) -> Verdict:
    result = AttemptResult(outcome=outcome, latency=timedelta(), retry_after=retry_after)
    return decide(
        result, tries=tries, set_start=NOW - started, policy=policy, now=NOW, jitter=jitter
    )


@pytest.mark.parametrize("status", range(200, 600))
def test_only_2xx_takes_an_event(status: int) -> None:
    assert (outcome_of_status(status) is Outcome.SUCCEEDED) == (status < 300)


def test_success_ends_a_delivery() -> None:
    assert _decide(Outcome.SUCCEEDED) == Succeed()


@pytest.mark.parametrize(
    "outcome", [o for o in Outcome if o not in (Outcome.SUCCEEDED, Outcome.INTERRUPTED)]
)
def test_every_failure_is_retried_after_the_first_delay(outcome: Outcome) -> None:
    assert _decide(outcome) == RetryAt(NOW + timedelta(seconds=5))


def test_interrupted_attempts_are_repeated_at_once_and_not_charged() -> None:
    assert _decide(Outcome.INTERRUPTED, tries=20) == RetryAt(NOW, charged=False)


def test_the_last_attempt_gives_up() -> None:
    assert isinstance(_decide(Outcome.REJECTED, tries=19), RetryAt)
    assert _decide(Outcome.REJECTED, tries=20) == GiveUp(FailureReason.EXHAUSTED)


def test_max_retry_duration_counts_from_the_first_attempt_to_the_next() -> None:
    policy = RetryPolicy(max_retry_duration=timedelta(seconds=60))
    in_time, late = timedelta(seconds=55), timedelta(seconds=56)
    assert isinstance(_decide(Outcome.REJECTED, started=in_time, policy=policy), RetryAt)
    assert _decide(Outcome.REJECTED, started=late, policy=policy) == GiveUp(FailureReason.EXPIRED)


@pytest.mark.parametrize(("jitter", "seconds"), [(0.8, 4), (1.2, 6)])
def test_jitter_scales_the_delay(jitter: float, seconds: int) -> None:
    assert _decide(Outcome.REJECTED, jitter=jitter) == RetryAt(NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7),
        ("1", 5),
        ("0", 5),
        ("nonsense", 5),
        ("Thu, 01 Jan 2026 00:00:07 GMT", 7),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 5),
        ("9" * 4000, 24 * 3600),
    ],
)
def test_retry_after_only_lengthens_the_delay(asked: str, seconds: int) -> None:
    assert _decide(Outcome.REJECTED, retry_after=asked) == RetryAt(NOW + timedelta(seconds=seconds))


def test_the_default_schedule_takes_about_seventy_hours() -> None:
    policy = RetryPolicy()
    delays = [backoff(policy, tries) for tries in range(1, policy.max_attempts)]
    assert delays[:4] == [timedelta(seconds=s) for s in (5, 15, 45, 135)]
    assert delays[-1] == timedelta(hours=6)
    assert timedelta(hours=65) < sum(delays, timedelta()) < timedelta(hours=75)


_delays = st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=3650))


@given(_delays, _delays, st.floats(1, 10), st.integers(1, 1000))
def test_backoff_never_overflows_and_rises_to_its_cap(
    shortest: timedelta, longest: timedelta, multiplier: float, tries: int
) -> None:
    policy = RetryPolicy(min_backoff=shortest, max_backoff=longest, backoff_multiplier=multiplier)
    delay = backoff(policy, tries)
    assert timedelta() < delay <= longest
    assert delay <= backoff(policy, tries + 1)
