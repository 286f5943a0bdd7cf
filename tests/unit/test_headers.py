import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signalpost.domain.headers import MAX_HEADER_BYTES, MAX_HEADERS, header_violations


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer abc.def"},
        {"X-Api-Key": "a b  c", "x_y!#$%&'*+.^`|~": '"quoted"; a=b, c'},
        {f"x-{n}": "v" for n in range(MAX_HEADERS)},
        {"x": "v" * (MAX_HEADER_BYTES - 1)},
    ],
)
def test_headers_that_can_be_sent_pass(headers: dict[str, str]) -> None:
    assert header_violations(headers) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a:",
        ":path",
        "a\r",
        "a\nb",
        "a\0",
        "ä",
        "a\t",
        "a(b)",
        "a/b",
        "a@b",
        "\ud800",
    ],
)
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    [(refused, why)] = header_violations({name: "v"})
    assert refused == name
    assert "header name" in why


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "HOST",
        "Content-Length",
        "content-type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Expect",
        "TE",
        "Trailer",
        "Upgrade",
        "HTTP2-Settings",
        "Cookie",
        "User-Agent",
        "Accept-Encoding",
        "traceparent",
        "Tracestate",
        "baggage",
        "webhook-id",
        "Webhook-Signature",
        "WEBHOOK-anything",
    ],
)
def test_a_name_of_the_service_is_refused_in_any_case(name: str) -> None:
    assert header_violations({name: "v"}) == [(name, "is set by the service itself")]


@pytest.mark.parametrize(
    "value", ["s\rt", "s\nt", "s\r\nX: y", "s\0", " s", "s ", "\ts", "s\tt", "ä", "\x7f", "\ud800"]
)
def test_a_value_that_is_not_printable_is_refused(value: str) -> None:
    assert header_violations({"X-Key": value}) == [
        ("X-Key", "has a value that is not printable ASCII without spaces at its ends")
    ]


def test_an_empty_value_is_refused() -> None:
    assert header_violations({"X-Key": ""}) == [("X-Key", "has an empty value")]


def test_names_that_differ_in_case_only_are_refused() -> None:
    found = header_violations({"X-Key": "a", "x-key": "b", "other": "c"})
    assert [name for name, _ in found] == ["X-Key", "x-key"]


def test_too_many_and_too_large_are_both_told() -> None:
    headers = {f"x-{n}": "v" * 300 for n in range(MAX_HEADERS + 1)}
    assert [name for name, _ in header_violations(headers)] == ["", ""]
    assert len(header_violations({"x": "v" * MAX_HEADER_BYTES})) == 1


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
@example({"X-Key": "v"})
def test_what_passes_is_safe_on_the_wire(headers: dict[str, str]) -> None:
    if header_violations(headers):
        return
    for name, value in headers.items():
        line = f"{name}: {value}".encode("ascii")
        assert not set(line) & {0, 10, 13}
        assert line.split(b":", 1) == [name.encode(), b" " + value.encode()]
        assert value == value.strip()
