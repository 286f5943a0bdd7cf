"""Asking for consent, and what counts as such: no network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.handshake import (
    Consent,
    Refusal,
    judge,
    lane_rate,
    parse_origin,
    question,
)

ORIGIN = "hooks.example.com"
AGREED = ("WebHook-Allowed-Origin", ORIGIN)


@pytest.mark.parametrize(
    ("rate", "asked"),
    [(None, None), (0.001, "1"), (1 / 60, "1"), (0.5, "30"), (0.51, "31"), (1000.0, "60000")],
)
def test_a_rate_is_asked_for_by_the_minute(rate: float | None, asked: str | None) -> None:
    headers = question(ORIGIN, max_attempts_per_second=rate)
    assert headers.pop("webhook-request-origin") == ORIGIN
    assert headers == ({} if asked is None else {"webhook-request-rate": asked})


@pytest.mark.parametrize(
    "headers",
    [
        [AGREED],
        [("webhook-allowed-origin", ORIGIN)],
        [("WEBHOOK-ALLOWED-ORIGIN", "Hooks.EXAMPLE.com")],
        [("WebHook-Allowed-Origin", f" \t{ORIGIN} ")],
        [("WebHook-Allowed-Origin", "*")],
        [AGREED, AGREED],
        [AGREED, ("Allow", "POST"), ("WebHook-Allowed-Rate", "*")],
        [AGREED, ("WebHook-Allowed-Rate", "2147483648")],
    ],
)
@pytest.mark.parametrize("status", [200, 204, 299])
def test_this_is_consent_without_a_limit(status: int, headers: list[tuple[str, str]]) -> None:
    assert judge(status, headers, origin=ORIGIN) == Consent(ORIGIN)


@pytest.mark.parametrize(
    ("text", "rate"), [("1", 1), ("120", 120), ("0120", 120), ("2147483647", 2147483647)]
)
def test_a_rate_is_a_limit(text: str, rate: int) -> None:
    headers = [AGREED, ("Webhook-Allowed-Rate", text)]
    assert judge(204, headers, origin=ORIGIN) == Consent(ORIGIN, rate)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 304, 308, 400, 401, 404, 405, 410, 500])
def test_no_other_status_is_consent(status: int) -> None:
    assert isinstance(judge(status, [AGREED], origin=ORIGIN), Refusal)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Access-Control-Allow-Origin", "*")],
        [("WebHook-Request-Origin", ORIGIN)],
        [("WebHook-Allowed-Rate", "120")],
        [("WebHook-Allowed-Origin", "")],
        [("WebHook-Allowed-Origin", "example.com")],
        [("WebHook-Allowed-Origin", f"x.{ORIGIN}")],
        [("WebHook-Allowed-Origin", f"https://{ORIGIN}")],
        [("WebHook-Allowed-Origin", "*.example.com")],
        [("WebHook-Allowed-Origin", f"{ORIGIN}, other.example.com")],
        [("WebHook-Allowed-Origin", "**")],
        [AGREED, ("WebHook-Allowed-Origin", "other.example.com")],
        *(
            [AGREED, ("WebHook-Allowed-Rate", text)]
            for text in ("", "0", "-1", "+5", "1.5", "1e3", "many", "٣", "5, 6", "9" * 60)
        ),
        [AGREED, ("WebHook-Allowed-Rate", "5"), ("WebHook-Allowed-Rate", "6")],
    ],
)
def test_this_is_no_consent(headers: list[tuple[str, str]]) -> None:
    judgement = judge(200, headers, origin=ORIGIN)
    assert isinstance(judgement, Refusal)
    assert "other" not in judgement.problem, "what an endpoint says is not repeated"


_VALUES = st.one_of(
    st.sampled_from([ORIGIN, ORIGIN.upper(), "*", "", "0", "7", "007", "9" * 40]),
    st.text(st.characters(max_codepoint=255), max_size=40),
)
_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["WebHook-Allowed-Origin", "webhook-allowed-origin", "WebHook-Allowed-Rate", "Allow"]
        ),
        _VALUES,
    ),
    max_size=5,
)


@given(st.integers(0, 999), _HEADERS)
def test_whatever_an_endpoint_says_is_judged(status: int, headers: list[tuple[str, str]]) -> None:
    match judge(status, headers, origin=ORIGIN):
        case Consent(origin, rate):
            said = {value.strip(" \t").lower() for name, value in headers if "igin" in name.lower()}
            assert (origin, status // 100) == (ORIGIN, 2)
            assert said in ({ORIGIN}, {"*"})
            assert rate is None or 0 < rate < 1 << 31
        case Refusal(problem):
            assert problem.isprintable()


@pytest.mark.parametrize(
    ("chosen", "allowed", "holds"),
    [(None, None, None), (5, None, 5), (None, 120, 2), (5, 120, 2), (1, 120, 1)],
)
def test_the_lower_rate_holds(
    chosen: float | None, allowed: int | None, holds: float | None
) -> None:
    assert lane_rate(chosen, allowed) == holds


@pytest.mark.parametrize("text", ["a", "signalpost", "a-1.example.com", "x" * 63, "1.example"])
def test_a_name_of_hosts_is_an_origin(text: str) -> None:
    assert parse_origin(f" {text.upper()} ") == text


@pytest.mark.parametrize(
    "text",
    ["", "*", ".", "a.", ".a", "a..b", "a_b", "a b", "-a", "a-", "a:1", "x" * 64, "a." * 127 + "b"],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a DNS name"):
        parse_origin(text)
