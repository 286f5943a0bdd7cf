from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from signalpost.delivery.alarms import Alarms
from signalpost.domain.ids import LaneId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 5), st.integers(0, 20)),
        st.tuples(st.just("pass"), st.integers(0, 3), st.just(0)),
    ),
    max_size=400,
)


def after(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


@given(STEPS)
def test_each_lane_is_looked_at_once_at_the_earliest_of_its_times(
    steps: list[tuple[str, int, int]],
) -> None:
    alarms, expected, time = Alarms(), dict[LaneId, datetime](), 0
    for what, number, delay in steps:
        if what == "set":
            lane_id, at = LaneId(number), after(time + delay)
            alarms.set(lane_id, at)
            expected[lane_id] = min(expected.get(lane_id, at), at)
            assert alarms.next is not None
            assert alarms.next <= min(expected.values())
        else:
            time += number
            due = {lane_id for lane_id, at in expected.items() if at <= after(time)}
            found = list(alarms.due(after(time)))
            assert len(found) == len(due)
            assert set(found) == due
            expected = {one: at for one, at in expected.items() if one not in due}
        assert len(alarms) <= 2 * 6 + 64


def test_what_is_set_while_others_are_looked_at_is_looked_at_too() -> None:
    alarms = Alarms()
    alarms.set(LaneId(1), after(1))
    found = []
    for lane_id in alarms.due(after(2)):
        found.append(lane_id)
        if len(found) < 100:
            for number in range(50):
                alarms.set(LaneId(100 + number), after(1000 - len(found)))
            alarms.set(LaneId(2), after(2))
    assert found == [1, *[2] * 99]
    assert len(alarms) <= 2 * 50 + 64
    assert alarms.next == after(1000 - 99)
