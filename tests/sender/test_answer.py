"""The reader of answers: any split of the same bytes says the same, garbage says nothing."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signalpost.domain.outcome import MAX_RESPONSE_KEPT, MAX_RESPONSE_READ
from signalpost.sender.answer import MAX_HEAD_BYTES, MAX_INTERIM_BYTES, Answer, NotHttp


def read(*portions: bytes, end: bool = True) -> Answer:
    answer = Answer()
    for portion in portions:
        answer.feed(portion)
    if end:
        answer.end()
    return answer


def said(answer: Answer) -> tuple[int, list[tuple[bytes, bytes]], bytes, bool]:
    return answer.status_code, answer.headers, bytes(answer.body), answer.is_complete


_tokens = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20).map(str.encode)
_values = st.text("abc ;=,0123", max_size=40).map(lambda text: text.strip().encode())
_headers = st.lists(st.tuples(_tokens.map(lambda name: b"x-" + name), _values), max_size=8)
_bodies = st.binary(max_size=6000)


@st.composite
def valid_answers(draw: st.DrawFn) -> bytes:
    status = draw(st.integers(200, 599).filter(lambda code: code not in (204, 304)))
    body = draw(_bodies)
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    headers = [b"%s: %s\r\n" % header for header in draw(_headers)]
    match draw(st.sampled_from(["length", "chunked", "close"])):
        case "length":
            headers.append(b"Content-Length: %d\r\n" % len(body))
        case "chunked":
            headers.append(b"Transfer-Encoding: chunked\r\n")
            body = _chunked(body, draw(st.integers(1, 3000)))
    return interim + b"HTTP/1.1 %d X\r\n" % status + b"".join(headers) + b"\r\n" + body


def _chunked(body: bytes, size: int) -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\nT: trailer\r\n\r\n"


@given(valid_answers(), st.lists(st.integers(0, 7000), max_size=12))
def test_any_split_of_an_answer_says_the_same(whole: bytes, cuts: Sequence[int]) -> None:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    portions = [whole[a:b] for a, b in itertools.pairwise(places) if a < b]
    assert said(read(*portions)) == said(read(whole))
    assert read(whole).is_complete


@given(valid_answers())
def test_byte_by_byte_is_a_split_too(whole: bytes) -> None:
    assert said(read(*(whole[at : at + 1] for at in range(len(whole))))) == said(read(whole))


@given(valid_answers(), st.data())
def test_an_answer_cut_short_keeps_its_status_or_has_none(
    whole: bytes, data: st.DataObject
) -> None:
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    answer = read(part) if part else read()
    assert answer.status_code == (read(whole).status_code if answer.has_head else 0)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=20))
@example([b"HTTP/1.1 200 OK\r\n\r\n", b"\x00" * 100])
@example([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"])
def test_garbage_ends_in_no_answer_and_nothing_else(portions: list[bytes]) -> None:
    answer = Answer()
    try:
        for portion in portions:
            answer.feed(portion)
    except NotHttp:
        assert not answer.has_head
    answer.end()
    assert not (answer.is_complete and answer.keeps_alive)


@given(valid_answers(), st.binary(min_size=1, max_size=300))
def test_garbage_after_an_answer_changes_nothing_of_it(whole: bytes, garbage: bytes) -> None:
    first = read(whole, end=False)
    if not first.is_complete:
        return
    answer = read(whole, garbage, end=False)
    assert said(answer) == said(first)
    assert answer.has_surplus


@pytest.mark.parametrize(
    "surplus", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x", b"hello"]
)
@pytest.mark.parametrize("status", [200, 204, 304, 500])
def test_surplus_in_the_same_breath_is_noticed(status: int, surplus: bytes) -> None:
    length = b"" if status in (204, 304) else b"Content-Length: 2\r\n"
    body = b"" if status in (204, 304) else b"ok"
    answer = read(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, length) + body + surplus, end=False)
    assert answer.status_code == status
    assert answer.has_surplus


@pytest.mark.parametrize("size", [10, MAX_HEAD_BYTES - 3000])
def test_a_second_answer_in_the_same_breath_adds_nothing_to_the_first(size: int) -> None:
    filling = b"X: %b\r\n" % (b"x" * size)
    first = b"HTTP/1.1 200 OK\r\n" + filling + b"Content-Length: 2\r\n\r\nok"
    second = b"HTTP/1.1 500 " + b"y" * 5000 + b"\r\nContent-Length: 3\r\n\r\nbad"
    cut = len(first) - 9000 if size > 9000 else 0
    answer = read(first[:cut], first[cut:] + second, end=False)
    assert (answer.status_code, bytes(answer.body), answer.body_bytes) == (200, b"ok", 2)
    assert answer.has_surplus


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"Keep-Alive: timeout=5, max=100", 4.0),
        (b"keep-alive: max=3,Timeout=60", 59.0),
        (b"Keep-Alive: timeout=1", 0.5),
        (b"Keep-Alive: timeout=0", 0.0),
        (b"Keep-Alive: timeout=99999999999", None),
        (b"Keep-Alive: timeout=-1", None),
        (b"Keep-Alive: max=5", None),
        (b"X-Keep-Alive: timeout=5", None),
    ],
)
def test_how_long_a_connection_may_wait_is_a_little_less_than_its_endpoint_says(
    said: bytes, expected: float | None
) -> None:
    answer = read(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 0\r\n\r\n" % said, end=False)
    assert answer.idle_seconds == expected
    assert answer.is_complete


@pytest.mark.parametrize(
    "start",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 " + b"x" * (2 * MAX_HEAD_BYTES),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 * MAX_HEAD_BYTES) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
    ],
)
def test_what_is_no_answer_of_http_1_is_refused(start: bytes) -> None:
    with pytest.raises(NotHttp):
        read(start, end=False)


def test_interim_answers_are_passed_over() -> None:
    some = [b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n"] * 1000
    answer = read(*some, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", end=False)
    assert (answer.status_code, answer.headers) == (200, [(b"Content-Length", b"0")])


@pytest.mark.parametrize("portion", [1, 20_000])
def test_of_endless_interim_answers_a_bounded_part_is_read(portion: int) -> None:
    answer, flood = Answer(), b"HTTP/1.1 102 Processing\r\n\r\n" * portion
    fed = 0
    while not answer.is_flooded:
        answer.feed(flood)
        fed += len(flood)
    assert fed <= MAX_INTERIM_BYTES + len(flood)
    answer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert not answer.has_head


@pytest.mark.parametrize("surplus", [b"\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("body", [b"", b"ok", b"ok\r\n"])
def test_a_stray_end_of_line_is_surplus(body: bytes, surplus: bytes) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert not read(whole, end=False).has_surplus
    for portions in ([whole + surplus], [whole, surplus]):
        answer = read(*portions, end=False)
        assert answer.has_surplus
        assert answer.is_complete
        assert bytes(answer.body) == body


@pytest.mark.parametrize(
    "portion", [b"x" * 1000, b"1\r\nx\r\n" * 200, b"1;" + b"e" * 1000 + b"\r\nx\r\n"]
)
def test_of_an_endless_body_a_bounded_part_is_read(portion: bytes) -> None:
    framing = b"" if portion.startswith(b"x") else b"Transfer-Encoding: chunked\r\n"
    answer = read(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n", end=False)
    fed = 0
    while not answer.is_over:
        answer.feed(portion)
        fed += len(portion)
    assert fed <= MAX_RESPONSE_READ + len(portion)
    assert len(answer.body) <= MAX_RESPONSE_KEPT
    assert not answer.is_complete


def test_endless_trailers_are_read_no_further_than_a_body() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", end=False)
    while not answer.is_over:
        answer.feed(b"T: trailer\r\n" * 100)
    assert answer.status_code == 200
    assert not answer.is_complete
