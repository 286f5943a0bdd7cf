"""The bounds that are promised, as numbers: other tests make them shorter to be fast."""

from datetime import timedelta

from signalpost.domain import outcome
from signalpost.sender import connection, dialer, pool, resolver


def test_times_are_those_that_are_promised() -> None:
    assert dialer.CONNECT_SECONDS == 10
    assert resolver.LOOKUP_SECONDS == 5
    assert resolver.ANSWER_SECONDS + resolver.CHANNEL_SECONDS <= 10
    assert resolver.FAILURE_SECONDS == 1
    assert connection.IDLE_SECONDS == 30
    assert connection.MAX_AGE_SECONDS == 60
    assert timedelta(seconds=1) == outcome.RESPONSE_READ_LIMIT


def test_sizes_are_those_that_are_promised() -> None:
    assert outcome.MAX_RESPONSE_READ == 64 * 1024
    assert outcome.MAX_RESPONSE_KEPT == 4 * 1024
    assert dialer.MAX_ADDRESSES == 8
    assert pool.MAX_IDLE_PER_ENDPOINT <= pool.MAX_IDLE == 2000
