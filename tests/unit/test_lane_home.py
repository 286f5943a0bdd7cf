from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from signalpost.delivery.lanes import LaneHome
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import Lane, replay_share
from signalpost.ports import Pick

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def lane(number: int, *, tenant: str = "a", cap: int = 2) -> Lane:
    return Lane(LaneId(number), TenantId(tenant), cap)


def take(home: LaneHome, *, limit: int = 100, waiting: int = 1_000_000) -> list[Pick]:
    """Claim from lanes in each of which `waiting` deliveries are due."""
    picks = home.picks(limit=limit, now=NOW)
    counts = {pick.lane_id: min(pick.count, waiting) for pick in picks}
    home.ran_dry(home.claimed(picks, counts, now=NOW), {})
    return picks


async def test_a_lane_goes_up_to_its_cap() -> None:
    home = LaneHome()
    home.notice([lane(1, cap=3)], due=NOW)
    assert take(home) == [Pick(LaneId(1), 3)]
    assert take(home) == []
    home.ended(LaneId(1))
    home.recorded(LaneId(1), next_due=None)
    assert take(home) == [Pick(LaneId(1), 1)]


async def test_what_is_due_later_waits() -> None:
    home = LaneHome()
    home.notice([lane(1)], due=NOW + timedelta(seconds=1))
    assert home.picks(limit=10, now=NOW) == []
    assert home.picks(limit=10, now=NOW + timedelta(seconds=1)) == [Pick(LaneId(1), 2)]


async def test_tenants_take_turns_and_then_their_lanes() -> None:
    home = LaneHome()
    home.notice([lane(n, tenant="loud", cap=1) for n in range(1, 7)], due=NOW)
    home.notice([lane(7, tenant="quiet", cap=1)], due=NOW)
    assert [pick.lane_id for pick in take(home, limit=3)] == [1, 7, 2]


async def test_a_busy_lane_leaves_room_for_the_others() -> None:
    home = LaneHome()
    home.notice([lane(1, cap=256), lane(2, tenant="b", cap=256)], due=NOW)
    assert take(home, limit=100) == [Pick(LaneId(1), 50, 10), Pick(LaneId(2), 50, 10)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_replays_are_a_fifth_of_what_a_lane_starts_however_it_is_divided(counts: list[int]) -> None:
    turn = started = replayed = 0
    for count in counts:
        replays, turn = replay_share(turn, count)
        assert 0 <= replays <= count
        started, replayed = started + count, replayed + replays
        assert replayed == started // 5


async def test_a_notice_during_a_claim_is_not_lost() -> None:
    home = LaneHome()
    home.notice([lane(1)], due=NOW)
    picks = home.picks(limit=10, now=NOW)
    home.notice([lane(1)], due=NOW)
    home.ran_dry(home.claimed(picks, {LaneId(1): 1}, now=NOW), {})
    assert home.picks(limit=10, now=NOW) == [Pick(LaneId(1), 1)]


async def test_a_lane_that_ran_dry_goes_again_when_its_next_is_due() -> None:
    home = LaneHome()
    later = NOW + timedelta(seconds=9)
    home.notice([lane(1)], due=NOW)
    picks = home.picks(limit=10, now=NOW)
    home.ran_dry(home.claimed(picks, {}, now=NOW), {LaneId(1): later})
    assert home.picks(limit=10, now=NOW) == []
    assert home.picks(limit=10, now=later) == [Pick(LaneId(1), 2)]


async def test_a_retry_does_not_hold_up_fresh_deliveries() -> None:
    home = LaneHome()
    home.notice([lane(1)], due=NOW)
    take(home, waiting=1)
    home.ended(LaneId(1))
    home.recorded(LaneId(1), next_due=NOW + timedelta(hours=1))
    assert take(home) == []
    home.notice([lane(1)], due=NOW)
    assert take(home, waiting=1) == [Pick(LaneId(1), 2)]


async def test_a_retry_far_off_takes_no_memory_for_what_goes_before_it() -> None:
    home = LaneHome()
    for number in range(1000):
        now = NOW + timedelta(seconds=number)
        home.notice([lane(1)], due=now)
        picks = home.picks(limit=10, now=now)
        dry = home.claimed(picks, {LaneId(1): 1}, now=now)
        home.ran_dry(dry, {LaneId(1): NOW + timedelta(hours=6)})
        home.ended(LaneId(1))
        home.recorded(LaneId(1), next_due=None)
    assert len(home._alarms) < 100
    assert home.next_look == NOW + timedelta(hours=6)


async def test_a_forgotten_lane_does_not_go() -> None:
    home = LaneHome()
    home.notice([lane(1), lane(2)], due=NOW)
    home.forget(LaneId(1))
    assert [pick.lane_id for pick in take(home)] == [2]


async def test_a_retry_of_a_forgotten_lane_is_not_heard_until_the_next_notice() -> None:
    home = LaneHome()
    home.notice([lane(1)], due=NOW)
    take(home, waiting=1)
    home.forget(LaneId(1))
    home.ended(LaneId(1))
    home.recorded(LaneId(1), next_due=NOW)
    assert take(home) == []
    assert not home._lanes
    home.notice([lane(1)], due=NOW)
    assert take(home) == [Pick(LaneId(1), 2)]


async def test_a_claim_during_which_its_lane_is_forgotten_is_the_last() -> None:
    home = LaneHome()
    home.notice([lane(1, cap=1)], due=NOW)
    picks = home.picks(limit=10, now=NOW)
    home.forget(LaneId(1))
    home.ran_dry(home.claimed(picks, {LaneId(1): 1}, now=NOW), {})
    home.ended(LaneId(1))
    home.recorded(LaneId(1), next_due=NOW)
    assert take(home) == []
    assert not home._lanes


async def test_a_lane_without_work_takes_no_memory() -> None:
    home = LaneHome()
    for number in range(1, 50):
        home.notice([lane(number)], due=NOW)
        take(home, waiting=1)
        home.ended(LaneId(number))
        home.recorded(LaneId(number), next_due=None)
    assert not home._lanes
    assert not home._ring
    assert not home._hosts
    assert not home._alarms


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=40),
    st.integers(1, 7),
)
async def test_everything_that_waits_goes_in_the_end(
    arrivals: list[tuple[int, int]], limit: int
) -> None:
    home = LaneHome()
    waiting: Counter[int] = Counter()
    in_flight: Counter[int] = Counter()
    rounds_to_drain = sum(count for _, count in arrivals)
    for arrival in [*arrivals, *[None] * rounds_to_drain]:
        if arrival is not None:
            number, count = arrival
            waiting[number] += count
            home.notice([lane(number, tenant=str(number % 2))], due=NOW)
        picks = home.picks(limit=limit, now=NOW)
        counts = {pick.lane_id: min(pick.count, waiting[pick.lane_id]) for pick in picks}
        waiting.subtract(counts)
        in_flight.update(counts)
        assert max(in_flight.values(), default=0) <= 2
        home.ran_dry(home.claimed(picks, counts, now=NOW), {})
        for number in list(+in_flight)[:1]:
            in_flight[number] -= 1
            home.ended(LaneId(number))
            home.recorded(LaneId(number), next_due=None)
    assert not +waiting
