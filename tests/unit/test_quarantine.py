"""What becomes of deliveries that a crash interrupted, by how often in a row that happened."""

from datetime import UTC, datetime, timedelta

from signalpost.domain.delivery import FailureReason
from signalpost.domain.quarantine import SPACING, Interrupted, take_up
from signalpost.domain.verdict import GiveUp, RetryAt

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def interrupted(key: int, *, crashes: int, claimed: float = 0) -> Interrupted:
    return Interrupted(claim_time=NOW + timedelta(seconds=claimed), key=key, crashes=crashes)


def verdicts(*under_way: Interrupted) -> list[RetryAt | GiveUp]:
    return [verdict for _, verdict in take_up(under_way, now=NOW)]


def again(after: timedelta = timedelta()) -> RetryAt:
    return RetryAt(NOW + after, charged=False)


def test_what_one_crash_interrupted_goes_again_at_once() -> None:
    assert verdicts(*(interrupted(n, crashes=1) for n in range(3))) == [again()] * 3


def test_what_two_in_a_row_interrupted_goes_again_one_after_the_other() -> None:
    assert verdicts(
        interrupted(1, crashes=2), interrupted(2, crashes=1), interrupted(3, crashes=2)
    ) == [again(), again(), again(SPACING)]


def test_of_what_three_interrupted_only_what_was_claimed_last_is_given_up() -> None:
    given_up = GiveUp(FailureReason.INTERNAL)
    assert verdicts(
        interrupted(1, crashes=3, claimed=1),
        interrupted(2, crashes=3, claimed=4),
        interrupted(3, crashes=2, claimed=2),
        interrupted(4, crashes=1, claimed=3),
    ) == [again(), given_up, again(2 * SPACING), again()]


def test_one_that_was_claimed_along_with_others_is_given_up_after_five() -> None:
    others = interrupted(2, crashes=2, claimed=0.4), interrupted(3, crashes=1, claimed=2)
    for other in others:
        for crashes in (3, 4):
            assert again() in verdicts(interrupted(1, crashes=crashes), other)
            assert GiveUp(FailureReason.INTERNAL) not in verdicts(
                interrupted(1, crashes=crashes), other
            )
        assert verdicts(interrupted(1, crashes=5), other)[0] == GiveUp(FailureReason.INTERNAL)


def test_of_two_claimed_together_none_is_given_up_and_they_go_again_farther_apart() -> None:
    assert verdicts(*(interrupted(n, crashes=3) for n in (1, 2))) == [again(), again(2 * SPACING)]
    assert verdicts(
        interrupted(1, crashes=5),
        interrupted(2, crashes=5, claimed=0.4),
        interrupted(3, crashes=2),
        interrupted(4, crashes=2),
    ) == [again(), again(8 * SPACING), again(16 * SPACING), again(17 * SPACING)]


def test_one_that_is_under_way_alone_is_given_up() -> None:
    assert verdicts(interrupted(1, crashes=3)) == [GiveUp(FailureReason.INTERNAL)]
