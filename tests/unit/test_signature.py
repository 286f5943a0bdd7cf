import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from signalpost.domain.ids import KeyId
from signalpost.domain.signature import format_secret, parse_secret, sign
from signalpost.domain.subscription import Algorithm, SigningKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _key(secret: bytes, expire_time: datetime | None = None) -> SigningKey:
    return SigningKey(
        key_id=KeyId("key"),
        algorithm=Algorithm.HMAC_SHA256,
        secret=secret,
        create_time=NOW,
        expire_time=expire_time,
    )


def test_the_published_vector() -> None:
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(
        [_key(secret)],
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text(min_size=1))
def test_an_independent_library_agrees(secret: bytes, body: str) -> None:
    independent = Webhook(format_secret(secret))
    expected = independent.sign("msg_1", NOW, body)
    ours = sign(
        [_key(secret)],
        webhook_id="msg_1",
        timestamp=int(NOW.timestamp()),
        body=body.encode(),
    )
    assert ours == expected


def test_every_key_signs() -> None:
    keys = [_key(b"a" * 32), _key(b"b" * 32)]
    both = sign(keys, webhook_id="msg_1", timestamp=1, body=b"{}")
    assert both.split(" ") == [
        sign([key], webhook_id="msg_1", timestamp=1, body=b"{}") for key in keys
    ]


def test_a_key_signs_until_it_expires() -> None:
    assert _key(b"a" * 32).signs_at(NOW)
    ending = _key(b"a" * 32, expire_time=NOW)
    assert ending.signs_at(NOW - timedelta(microseconds=1))
    assert not ending.signs_at(NOW)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secrets_survive_writing_and_reading(size: int) -> None:
    secret = bytes(range(size))
    assert parse_secret(format_secret(secret)) == secret


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_***",
        "whsec_é",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_bad_secrets_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must be") as refusal:
        parse_secret(text)
    assert not text.removeprefix("whsec_") or text not in str(refusal.value)


def test_a_secret_hides_from_repr() -> None:
    assert "aaaaaa" not in repr(_key(b"a" * 32))
