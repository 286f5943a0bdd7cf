from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.cli.receiver import Request
from signalpost.cli.terminal import visible
from signalpost.cli.verification import Result, Verification
from signalpost.cli.webhook import MAX_SHOWN, render

RECEIVED = datetime(2026, 5, 6, 12, 0, 1, 234_567, tzinfo=UTC)
STEERING = "\x1b[2J\x07\x08\x7f\x9b31m\u202e\u2028\r"


def body(**changes: object) -> bytes:
    document = {
        "event_id": "e1",
        "event_type": "account.connected",
        "timestamp": "2026-05-06T12:00:00Z",
        "resource": {"type": "account", "id": "acc_42"},
        "payload": {"integration": "gmail"},
    }
    return json.dumps(document | changes).encode()


def shown(raw: bytes, *, webhook_id: str = "e1", result: Result = Result.VERIFIED) -> str:
    request = Request({"webhook-id": webhook_id}, raw)
    return render(request, Verification(result), status=200, received=RECEIVED).plain


def test_a_webhook_is_one_line_and_its_payload() -> None:
    assert shown(body()) == (
        "12:00:01.234Z  account.connected  e1  account acc_42  verified  answered 200\n"
        "    {\n"
        '      "integration": "gmail"\n'
        "    }\n"
    )


def test_why_it_is_not_verified_is_said() -> None:
    verification = Verification(Result.NOT_VERIFIED, "no signature matches a given secret")
    text = render(Request({}, body()), verification, status=500, received=RECEIVED).plain
    assert "NOT verified (no signature matches a given secret)  answered 500" in text
    assert "no webhook-id" in text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"resource": 1}',
        b"[" * 100_000,
        b"1" * 10_000,
    ],
)
def test_any_other_body_is_shown_as_it_is(raw: bytes) -> None:
    text = shown(raw)
    assert "not a webhook of Signalpost" in text
    assert raw[:100].decode(errors="replace") in text


def test_nothing_that_steers_a_terminal_gets_through() -> None:
    raw = body(
        event_type=STEERING,
        resource={"type": STEERING, "id": STEERING},
        payload={STEERING: STEERING, "lone": "\ud800"},
    )
    text = shown(raw, webhook_id=STEERING) + shown(STEERING.encode())
    assert all(character == "\n" or character.isprintable() for character in text)
    assert r"\x1b[2J\x07\x08\x7f\x9b31m\u202e\u2028" in text


@given(st.text())
def test_visible_text_is_printable_and_keeps_what_was(text: str) -> None:
    result = visible(text)
    assert all(character.isprintable() or character.isspace() for character in result)
    if text.isprintable():
        assert result == text


def test_a_long_payload_is_cut() -> None:
    text = shown(b"x" * (MAX_SHOWN + 12))
    assert text.count("x") == MAX_SHOWN
    assert "and 12 more characters" in text
