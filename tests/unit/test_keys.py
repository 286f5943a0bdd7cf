from datetime import UTC, datetime, timedelta

import pytest

from signalpost.domain.errors import QuotaExceeded
from signalpost.domain.ids import KeyId, SubscriptionId, TenantId
from signalpost.domain.subscription import Algorithm, SigningKey, Subscription
from signalpost.subscriptions.keys import rotated

NOW = datetime(2026, 3, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def key(name: str, *, expires: datetime | None = None) -> SigningKey:
    return SigningKey(
        key_id=KeyId(name),
        algorithm=Algorithm.HMAC_SHA256,
        secret=name.encode(),
        create_time=NOW,
        expire_time=expires,
    )


def subscription(*keys: SigningKey) -> Subscription:
    return Subscription(
        subscription_id=SubscriptionId("crm"),
        tenant_id=TenantId(""),
        endpoint_uri="https://example.com/",
        signing_keys=keys,
        create_time=NOW,
        update_time=NOW,
    )


def rotate(*keys: SigningKey, overlap: timedelta = DAY) -> dict[str, datetime | None]:
    result = rotated(subscription(*keys), key("new"), overlap=overlap, now=NOW)
    return {one.key_id: one.expire_time for one in result}


def test_newest_key_comes_first_and_the_former_signs_for_the_overlap() -> None:
    keys = rotate(key("old"))
    assert list(keys) == ["new", "old"]
    assert keys == {"new": None, "old": NOW + DAY}


def test_former_key_keeps_an_earlier_end_and_gives_up_a_later_one() -> None:
    sooner, later = NOW + DAY / 2, NOW + 3 * DAY
    keys = rotate(key("a"), key("b", expires=later), key("c", expires=sooner))
    assert keys == {"new": None, "a": NOW + DAY, "b": NOW + DAY, "c": sooner}


def test_expired_keys_are_dropped() -> None:
    assert list(rotate(key("a"), key("b", expires=NOW))) == ["new", "a"]


def test_no_overlap_drops_all_former_keys_at_once() -> None:
    keys = [key("a"), *(key(f"k{n}", expires=NOW + DAY) for n in range(4))]
    assert list(rotate(*keys, overlap=timedelta(0))) == ["new"]


def test_a_sixth_key_that_signs_is_refused() -> None:
    live = [key("a"), *(key(f"k{n}", expires=NOW + DAY) for n in range(3))]
    assert len(rotate(*live)) == 5
    expired = key("gone", expires=NOW)
    assert len(rotate(*live, expired)) == 5
    with pytest.raises(QuotaExceeded):
        rotate(*live, key("fifth", expires=NOW + DAY))
