"""What lanes together send to a host, whatever comes of it."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.delivery.hosts import Hosts
from signalpost.delivery.lanes import LaneHome
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.outcome import AttemptResult, Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT, RATE, LANES = 4, 10, 3
ENDS = st.sampled_from(
    [Outcome.SUCCEEDED, Outcome.REJECTED, Outcome.REJECTED, Outcome.TIMED_OUT, Outcome.INTERRUPTED]
)


class Host:
    """Lanes to one host, in each of which there is always something due."""

    def __init__(self) -> None:
        self.home = LaneHome(host_limit=LIMIT, host_failures=RATE)
        self.now = NOW
        self.under_way: list[tuple[LaneId, bool]] = []
        self.succeeded = self.failed = self.failed_of_proven = 0
        self.home.notice([self.lane(number) for number in range(LANES)], due=NOW)

    def lane(self, number: int) -> Lane:
        return Lane(LaneId(number), TenantId(str(number % 2)), 32, host="victim.example")

    def start(self) -> int:
        picks = self.home.picks(limit=100, now=self.now)
        for pick in picks:
            proven = self.home._lanes[pick.lane_id].proven
            self.under_way += [(pick.lane_id, proven)] * pick.count
        self.home.claimed(picks, {pick.lane_id: pick.count for pick in picks}, now=self.now)
        return len(picks)

    def end(self, index: int, outcome: Outcome) -> None:
        lane_id, proven = self.under_way.pop(index % len(self.under_way))
        self.succeeded += outcome is Outcome.SUCCEEDED
        if outcome not in (Outcome.SUCCEEDED, Outcome.INTERRUPTED):
            self.failed += not proven
            self.failed_of_proven += proven
        # 404 and the like: what the lane itself learns is of no concern here.
        result = AttemptResult(outcome=outcome, latency=timedelta(), status_code=404)
        self.home.learn(lane_id, result, start=self.now, width=1, now=self.now)
        self.home.hasten(self.lane(lane_id), due=self.now)
        self.home.ended(lane_id)
        self.home.recorded(lane_id, next_due=self.now)

    def allowed(self) -> float:
        """Return how many attempts of lanes that are not proven may have failed by now."""
        by_time = RATE * (self.now - NOW).total_seconds()
        return LIMIT + by_time + self.succeeded + self.failed_of_proven


@given(st.lists(st.tuples(st.integers(0, 9), ENDS, st.integers(0, 150)), max_size=80))
async def test_no_more_fails_than_its_share_and_all_goes_in_the_end(
    steps: list[tuple[int, Outcome, int]],
) -> None:
    host = Host()
    for index, outcome, milliseconds in steps:
        host.start()
        if host.under_way:
            host.end(index, outcome)
        assert len(host.under_way) <= LIMIT
        assert host.failed <= host.allowed()
        host.now += timedelta(milliseconds=milliseconds)
    for _ in range(3 * LANES * LIMIT):
        while host.under_way:
            host.end(0, Outcome.SUCCEEDED)
        host.now += timedelta(milliseconds=1)
        if not host.start():
            assert host.home.next_look is not None
            host.now = max(host.now, host.home.next_look)
    assert all(host.home._lanes[LaneId(number)].proven for number in range(LANES))


async def test_a_host_is_remembered_while_what_failed_there_counts() -> None:
    home = LaneHome(host_limit=LIMIT, host_failures=RATE)
    lane = Lane(LaneId(1), TenantId("a"), 1, host="victim.example")
    failed = AttemptResult(outcome=Outcome.REJECTED, latency=timedelta(), status_code=404)
    home.notice([lane], due=NOW)
    home.claimed(home.picks(limit=1, now=NOW), {LaneId(1): 1}, now=NOW)
    home.learn(LaneId(1), failed, start=NOW, width=1, now=NOW)
    home.forget(LaneId(1))
    home.ended(LaneId(1))
    home.recorded(LaneId(1), next_due=None)
    assert not home._lanes
    assert len(home._hosts) == 1
    assert home.next_look == NOW + timedelta(seconds=1 / RATE)
    assert home.picks(limit=1, now=home.next_look) == []
    assert not len(home._hosts)
    assert home.next_look is None


@pytest.mark.parametrize(("outcome", "sent"), [(Outcome.FORBIDDEN, LIMIT), (Outcome.DNS_FAILED, 0)])
async def test_what_was_never_sent_for_the_addresses_one_allows_is_no_failure_of_its_host(
    outcome: Outcome, sent: int
) -> None:
    """Somebody's name servers were asked where a name was not found: that is one."""
    home = LaneHome(host_limit=LIMIT, host_failures=RATE)
    lanes = [Lane(LaneId(number), TenantId("a"), 1, host="shared.example") for number in range(9)]
    home.notice(lanes[:LIMIT], due=NOW)
    picks = home.picks(limit=9, now=NOW)
    home.claimed(picks, {pick.lane_id: 1 for pick in picks}, now=NOW)
    failed = AttemptResult(outcome=outcome, latency=timedelta())
    for pick in picks:
        home.learn(pick.lane_id, failed, start=NOW, width=1, now=NOW)
        home.forget(pick.lane_id)
        home.ended(pick.lane_id)
        home.recorded(pick.lane_id, next_due=None)
    home.notice(lanes[LIMIT:], due=NOW)
    assert len(home.picks(limit=9, now=NOW)) == sent


def test_failures_of_one_host_add_up_to_no_more_than_it_may_be_sent_at_once() -> None:
    hosts = Hosts(limit=LIMIT, failures_per_second=RATE)
    host = hosts.enter("victim.example")
    for _ in range(1000):
        hosts.failed(host, now=NOW)
    assert host.room(now=NOW) == 0
    assert host.clear_at == NOW + timedelta(seconds=LIMIT / RATE)


def test_however_much_a_host_may_be_sent_at_once_what_fails_there_is_bounded() -> None:
    hosts = Hosts(limit=20_000, failures_per_second=RATE)
    host = hosts.enter("victim.example")
    for _ in range(20_000):
        hosts.failed(host, now=NOW)
    assert host.room(now=NOW) == 0


def test_nobody_shares_the_host_of_no_name() -> None:
    hosts = Hosts(limit=LIMIT, failures_per_second=RATE)
    one, other = hosts.enter(""), hosts.enter("")
    hosts.failed(one, now=NOW)
    assert one is not other
    assert one.clear_at is None
    hosts.leave(one)
    assert not len(hosts)


async def test_a_host_that_is_sent_all_it_may_get_has_turns_for_who_failed_there() -> None:
    home = LaneHome(host_limit=1, host_failures=RATE)
    lanes = [Lane(LaneId(n), TenantId(str(n)), 1, host="victim.example") for n in range(LANES + 1)]
    home.notice(lanes, due=NOW)
    last, turns = lanes[-1].lane_id, Counter[LaneId]()
    for number in range(100):
        now = NOW + timedelta(milliseconds=10 * number)
        (pick,) = home.picks(limit=LIMIT, now=now)
        home.claimed([pick], {pick.lane_id: 1}, now=now)
        turns[pick.lane_id] += 1
        fails = pick.lane_id == last and turns[last] == 1
        outcome = Outcome.REJECTED if fails else Outcome.SUCCEEDED
        result = AttemptResult(outcome=outcome, latency=timedelta(), status_code=404)
        home.learn(pick.lane_id, result, start=now, width=1, now=now)
        home.ended(pick.lane_id)
        home.recorded(pick.lane_id, next_due=now)
    assert turns[last] >= 100 / len(lanes) - LIMIT


async def test_the_turn_of_who_was_called_and_then_paused_is_that_of_the_next() -> None:
    home = LaneHome(host_limit=1, host_failures=RATE)
    lanes = [Lane(LaneId(n), TenantId(str(n)), 1, host="victim.example") for n in range(LANES)]
    failed = AttemptResult(outcome=Outcome.REJECTED, latency=timedelta(), status_code=404)
    home.notice(lanes, due=NOW)
    (pick,) = home.picks(limit=1, now=NOW)
    home.claimed([pick], {pick.lane_id: 1}, now=NOW)
    home.learn(pick.lane_id, failed, start=NOW, width=1, now=NOW)
    home.forget(pick.lane_id)
    home.ended(pick.lane_id)
    assert home.picks(limit=1, now=NOW) == []
    assert home.next_look is not None
    now = home.next_look
    # All slots of the worker are taken, so the one that is called stays where it is.
    assert home.picks(limit=0, now=now) == []
    home.forget(lanes[1].lane_id)
    picks = home.picks(limit=1, now=now + timedelta(seconds=1))
    assert [pick.lane_id for pick in picks] == [lanes[2].lane_id]


async def test_what_the_former_host_takes_after_a_move_is_not_said_of_the_new_one() -> None:
    home = LaneHome(host_limit=2, host_failures=RATE)
    moves = Lane(LaneId(1), TenantId("a"), 2, host="well.example")
    fails = Lane(LaneId(2), TenantId("b"), 2, host="victim.example")
    home.notice([moves, fails], due=NOW)
    picks = home.picks(limit=4, now=NOW)
    home.claimed(picks, {LaneId(1): 2, LaneId(2): 2}, now=NOW)
    for _ in range(2):
        failed = AttemptResult(outcome=Outcome.REJECTED, latency=timedelta(), status_code=404)
        home.learn(LaneId(2), failed, start=NOW, width=2, now=NOW)
        home.ended(LaneId(2))
        home.recorded(LaneId(2), next_due=None)
    home.notice([replace(moves, host="victim.example")], due=NOW)
    taken = AttemptResult(outcome=Outcome.SUCCEEDED, latency=timedelta(), status_code=200)
    for _ in range(2):
        home.learn(LaneId(1), taken, start=NOW, width=2, now=NOW)
        home.ended(LaneId(1))
        home.recorded(LaneId(1), next_due=NOW)
    assert home.picks(limit=4, now=NOW) == []
    (pick,) = home.picks(limit=4, now=NOW + timedelta(seconds=1 / RATE))
    home.claimed([pick], {pick.lane_id: 1}, now=NOW)
    home.learn(pick.lane_id, taken, start=NOW, width=1, now=NOW)
    assert home._lanes[pick.lane_id].proven
