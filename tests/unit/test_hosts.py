"""What lanes together send to a host, whatever comes of it."""

from datetime import UTC, datetime, timedelta

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


def test_failures_of_one_host_add_up_to_no_more_than_it_may_be_sent_at_once() -> None:
    hosts = Hosts(limit=LIMIT, failures_per_second=RATE)
    host = hosts.enter("victim.example")
    for _ in range(1000):
        hosts.failed(host, now=NOW)
    assert host.room(now=NOW) == 0
    assert host.clear_at == NOW + timedelta(seconds=LIMIT / RATE)


def test_nobody_shares_the_host_of_no_name() -> None:
    hosts = Hosts(limit=LIMIT, failures_per_second=RATE)
    one, other = hosts.enter(""), hosts.enter("")
    hosts.failed(one, now=NOW)
    assert one is not other
    assert one.clear_at is None
    hosts.leave(one)
    assert not len(hosts)
