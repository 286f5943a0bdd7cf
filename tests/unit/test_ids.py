import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.ids import DeliveryKey, delivery_id, delivery_key


@given(st.integers(0, 2**63 - 1))
def test_numbers_survive_writing_and_reading(number: int) -> None:
    assert delivery_key(delivery_id(DeliveryKey(number))) == number


@given(st.integers(0, 2**63 - 2))
def test_text_sorts_as_the_numbers_do(number: int) -> None:
    assert delivery_id(DeliveryKey(number)) < delivery_id(DeliveryKey(number + 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dlv_",
        "dlv_000",
        "dlv_" + "z" * 13,
        "dlv_" + "v" * 13,
        "dlv_" + "A" * 13,
        "evt_" + "0" * 13,
    ],
)
def test_what_was_never_given_out_is_nobody(text: str) -> None:
    assert delivery_key(text) is None


@given(st.text())
def test_any_text_can_be_asked_for(text: str) -> None:
    key = delivery_key(text)
    assert key is None or delivery_id(key) == text
