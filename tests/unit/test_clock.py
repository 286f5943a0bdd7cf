"""The steady clock, beside a wall clock that people set."""

from datetime import timedelta

import pytest
from hypothesis import given, strategies

from signalpost.clock import SteadyClock

START = 1_772_366_400.0
YEARS = 10 * 365 * 86_400.0
MICROSECOND = timedelta(microseconds=1)


class Machine:
    """A machine whose wall clock can be set; `passed` is what really went by."""

    def __init__(self) -> None:
        self.passed = 1000.0
        self.jump = START - self.passed
        self.clock = SteadyClock(wall=self.wall, elapsed=lambda: self.passed)

    def wall(self) -> float:
        return self.passed + self.jump

    def pass_by(self, seconds: float) -> timedelta:
        """Let time go by as a service does that looks at the clock; return what that told."""
        before = self.clock.now()
        whole, rest = divmod(seconds, 1.0)
        for step in (*(1.0 for _ in range(int(whole))), rest):
            self.passed += step
            self.clock.now()
        return self.clock.now() - before


def test_it_agrees_with_a_wall_clock_that_nobody_sets() -> None:
    machine = Machine()
    assert machine.pass_by(3600.5) == timedelta(seconds=3600.5)
    assert machine.clock.now() == machine.clock.wall()


@pytest.mark.parametrize("jump", [7200.0, -7200.0, YEARS, -YEARS])
def test_a_jump_lets_no_more_and_no_less_time_go_by(jump: float) -> None:
    machine = Machine()
    machine.pass_by(10)
    machine.jump += jump
    told = machine.pass_by(45)
    assert abs(told - timedelta(seconds=45)) <= timedelta(seconds=45) / 32 + MICROSECOND
    assert machine.clock.wall().timestamp() == pytest.approx(machine.wall())


@pytest.mark.parametrize("correction", [0.5, -0.5, 20.0, -20.0])
def test_a_small_correction_is_made_up_for(correction: float) -> None:
    machine = Machine()
    machine.jump += correction
    machine.pass_by(900)
    assert abs(machine.clock.wall() - machine.clock.now()) < timedelta(milliseconds=1)


def test_that_the_clock_was_set_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.jump += 30
    machine.pass_by(10)
    assert caplog.messages == []
    for jump in (7200, -7200, 7200):
        machine.jump += jump
        machine.pass_by(20)
    [first, second] = caplog.records
    assert "the machine's clock was set" in first.getMessage()
    assert "the machine's clock was set" in second.getMessage()


@given(
    strategies.lists(
        strategies.tuples(strategies.floats(0, 100), strategies.floats(-1e6, 1e6)), max_size=20
    )
)
def test_it_never_runs_back(steps: list[tuple[float, float]]) -> None:
    machine, last = Machine(), None
    for seconds, jump in steps:
        machine.passed += seconds
        machine.jump += jump
        now = machine.clock.now()
        assert last is None or now >= last
        last = now
