from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from signalpost.cli.verification import Result, verify

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
SECRET = base64.b64encode(b"the secret of this test, long enough").decode()
OTHER = base64.b64encode(b"another secret, also quite long....").decode()
BODY = b'{"event_id":"e1"}'


def raw(secret: str) -> bytes:
    return base64.b64decode(secret)


def signed(body: bytes = BODY, *, secret: str = SECRET, at: datetime = NOW) -> dict[str, str]:
    """Headers as the reference implementation makes them."""
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body.decode()),
    }


def test_the_published_example_is_verified() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    found = verify(
        headers,
        b'{"test": 2432232314}',
        secrets=[raw("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        now=datetime.fromtimestamp(1614265330, UTC),
    )
    assert found.result is Result.VERIFIED


@given(body=st.text(max_size=200))
def test_what_the_reference_signs_is_verified_and_nothing_else(body: str) -> None:
    raw_body = body.encode()
    headers = signed(raw_body)
    assert verify(headers, raw_body, secrets=[raw(SECRET)], now=NOW).result is Result.VERIFIED
    changed = verify(headers, raw_body + b" ", secrets=[raw(SECRET)], now=NOW)
    assert changed.result is Result.NOT_VERIFIED
    wrong = verify(headers, raw_body, secrets=[raw(OTHER)], now=NOW)
    assert wrong.result is Result.NOT_VERIFIED


def test_one_of_several_signatures_and_one_of_several_secrets_suffice() -> None:
    ours = signed()["webhook-signature"]
    headers = signed(secret=OTHER)
    headers["webhook-signature"] = f"v1a,c29tZXRoaW5n v1,bm90aGluZw== v2,{ours[3:]} {ours}"
    both = [raw(OTHER)[::-1], raw(SECRET)]
    assert verify(headers, BODY, secrets=both, now=NOW).result is Result.VERIFIED
    assert verify(headers, BODY, secrets=both[:1], now=NOW).result is Result.NOT_VERIFIED


def test_a_signature_of_another_version_does_not_count() -> None:
    headers = signed()
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")
    assert verify(headers, BODY, secrets=[raw(SECRET)], now=NOW).result is Result.NOT_VERIFIED


def test_without_a_secret_nothing_is_claimed() -> None:
    found = verify(signed(), BODY, secrets=[], now=NOW)
    assert (found.result, found.reason) == (Result.UNVERIFIED, "no secret was given")


@pytest.mark.parametrize(
    ("age", "result"),
    [
        (timedelta(minutes=5), Result.VERIFIED),
        (timedelta(minutes=5, seconds=1), Result.NOT_VERIFIED),
        (timedelta(minutes=-5), Result.VERIFIED),
        (timedelta(minutes=-5, seconds=-1), Result.NOT_VERIFIED),
    ],
)
def test_the_time_may_be_five_minutes_off(age: timedelta, result: Result) -> None:
    headers = signed(at=NOW - age)
    assert verify(headers, BODY, secrets=[raw(SECRET)], now=NOW).result is result


def drop(name: str) -> Callable[[dict[str, str]], object]:
    return lambda headers: headers.pop(name)


def put(name: str, value: str) -> Callable[[dict[str, str]], object]:
    return lambda headers: headers.update({name: value})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (drop("webhook-id"), "the header webhook-id is missing"),
        (drop("webhook-timestamp"), "the header webhook-timestamp is missing"),
        (drop("webhook-signature"), "the header webhook-signature is missing"),
        (put("webhook-timestamp", "soon"), "webhook-timestamp is not a number of seconds"),
        (put("webhook-timestamp", "-1"), "webhook-timestamp is not a number of seconds"),
        (put("webhook-timestamp", "٣"), "webhook-timestamp is not a number of seconds"),
        (put("webhook-timestamp", "9" * 400), "webhook-timestamp is not a number of seconds"),
        (put("webhook-id", "msg_2"), "no signature matches a given secret"),
        (put("webhook-signature", "v1"), "no signature matches a given secret"),
        (put("webhook-signature", "v1,é"), "no signature matches a given secret"),
    ],
)
def test_damaged_headers_are_not_verified(
    damage: Callable[[dict[str, str]], object], reason: str
) -> None:
    headers = signed()
    damage(headers)
    found = verify(headers, BODY, secrets=[raw(SECRET)], now=NOW)
    assert (found.result, found.reason) == (Result.NOT_VERIFIED, reason)
