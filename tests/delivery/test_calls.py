"""What a call sends to an endpoint, outside of all lanes, is bounded by turns."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest

from signalpost.delivery.handshake import Handshaker
from signalpost.delivery.probe import Prober
from signalpost.delivery.turns import Turns
from signalpost.domain.errors import EndpointUnverified
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.ports import WebhookRequest
from signalpost.ports.consent import OptionsAnswer
from tests.contract.material import event, subscription
from tests.delivery.engine import Clock

AGREED = [("WebHook-Allowed-Origin", "*")]


class Endpoint:
    """Answers each request with a status; an OPTIONS request also with headers."""

    def __init__(self, outcome: Outcome, status: int, headers: list[tuple[str, str]]) -> None:
        self.result = AttemptResult(outcome=outcome, latency=timedelta(), status_code=status)
        self.headers = headers

    async def send(self, _: WebhookRequest) -> AttemptResult:
        return self.result

    async def options(self, _: WebhookRequest) -> OptionsAnswer:
        return OptionsAnswer(self.result, self.headers)


def patient() -> Turns:
    return Turns(kept_seconds=3600)


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        (Endpoint(Outcome.SUCCEEDED, 204, []), 0),
        (Endpoint(Outcome.REJECTED, 404, []), 1),
        (Endpoint(Outcome.CONNECTION_FAILED, 0, []), 1),
    ],
)
async def test_a_test_that_fails_keeps_its_turn(endpoint: Endpoint, kept: int) -> None:
    turns = patient()
    prober = Prober(endpoint, clock=Clock(), user_agent="Signalpost/test", turns=turns)
    await prober.probe(subscription(), event("e1"))
    assert len(turns) == kept


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        (Endpoint(Outcome.SUCCEEDED, 200, AGREED), 0),
        # It takes POST, for all we know; but nobody asked for that.
        (Endpoint(Outcome.SUCCEEDED, 200, []), 1),
        (Endpoint(Outcome.REJECTED, 404, AGREED), 1),
        (Endpoint(Outcome.TIMED_OUT, 0, []), 1),
    ],
)
async def test_a_handshake_that_is_refused_keeps_its_turn(endpoint: Endpoint, kept: int) -> None:
    turns = patient()
    handshaker = Handshaker(
        endpoint, origin="signalpost.test", user_agent="Signalpost/test", turns=turns
    )
    with suppress(EndpointUnverified):
        await handshaker.ask(subscription())
    assert len(turns) == kept
