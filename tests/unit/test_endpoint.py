import string
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from signalpost.domain.endpoint import MAX_URI_LENGTH, Endpoint, EndpointInvalid, parse_endpoint

LONG_LABEL = "a" * 63


def parse(uri: str) -> Endpoint:
    return parse_endpoint(uri, dev=False)


def refusal(uri: str, *, dev: bool = False) -> str:
    with pytest.raises(EndpointInvalid) as caught:
        parse_endpoint(uri, dev=dev)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given_uri", "stored"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM/Path?Q=R", "https://example.com/Path?Q=R"),
        ("https://example.com:443/", "https://example.com/"),
        ("https://example.com:8443/a;b=c", "https://example.com:8443/a;b=c"),
        ("https://example.com/a%2Fb%20c?x=%7e&y=/?", "https://example.com/a%2Fb%20c?x=%7e&y=/?"),
        ("https://example.com//a//...//b.", "https://example.com//a//...//b."),
        ("https://example.com?a", "https://example.com/?a"),
        ("https://straße.de/", "https://xn--strae-oqa.de/"),
        ("https://Bücher.Example/", "https://xn--bcher-kva.example/"),
        ("https://xn--strae-oqa.de/", "https://xn--strae-oqa.de/"),
        ("https://r3---sn.example.com/", "https://r3---sn.example.com/"),
        (f"https://{LONG_LABEL}.example/", f"https://{LONG_LABEL}.example/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:4700::1111]:1/", "https://[2606:4700:4700::1111]:1/"),
        ("https://[2606:4700::AB]/", "https://[2606:4700::ab]/"),
        ("https://example.com:65535/", "https://example.com:65535/"),
    ],
)
def test_an_endpoint_is_stored_in_its_canonical_form(given_uri: str, stored: str) -> None:
    endpoint = parse(given_uri)
    assert endpoint.uri == stored
    assert parse(stored) == endpoint


def test_an_address_as_host_is_exposed_for_judgement() -> None:
    assert parse("https://10.0.0.5/").address == ip_address("10.0.0.5")
    assert parse("https://[fd00:ec2::254]/").address == ip_address("fd00:ec2::254")
    assert parse("https://[fd00:ec2::254]/").host == "fd00:ec2::254"
    assert parse("https://example.com/").address is None


@pytest.mark.parametrize(
    "uri",
    [
        "http://example.com/",
        "HTTP://example.com/",
        "http://8.8.8.8/",
        "http://localhost/",
        "file:///etc/passwd",
        "file://host/etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "javascript:alert(1)",
        "example.com/path",
        "//example.com/path",
        "/path",
        "https:example.com",
        "https:/example.com",
        "https//example.com",
        "https",
        "://example.com",
        "",
    ],
)
def test_only_absolute_https_is_an_endpoint(uri: str) -> None:
    assert "must" in refusal(uri)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("https://user@example.com/", "user name"),
        ("https://user:pw@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com#@evil.example/", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://example.com/a\\b", "backslash"),
        ("https://example.com/%00", "control"),
        ("https://example.com/%0d%0aX:%20y", "control"),
        ("https://example.com/?a=%0A", "control"),
        ("https://example.com/%7F", "control"),
        ("https://example.com/a b", "spaces"),
        (" https://example.com/", "spaces"),
        ("https://example.com/\r\n", "spaces"),
        ("https://example.com/\t", "spaces"),
        ("https://exa\tmple.com/", "spaces"),
        ("https://example.com/\u2028", "spaces"),
        ("https://example.com/\x00", "spaces"),
        ("https://example.com/%", "percent-encoded"),
        ("https://example.com/%g0", "percent-encoded"),
        ("https://example.com/?%2", "percent-encoded"),
        ("https://example.com/ä", "percent-encoded"),
        ("https://example.com/\ud800", "percent-encoded"),
        ("https://example.com/<>", "percent-encoded"),
        ("https://example.com/[a]", "percent-encoded"),
        ("https://example.com/?", "query"),
        ("https://example.com/a?b=c|d", "query"),
        ("https://example.com/.", "path"),
        ("https://example.com/a/../b", "path"),
        ("https://example.com/a/%2e%2E/b", "path"),
        ("https://example.com/a/.%2e", "path"),
        (f"https://example.com/{'a' * MAX_URI_LENGTH}", "2048"),
        (f"https://é.example/{'a' * (MAX_URI_LENGTH - 18)}", "2048"),
    ],
)
def test_what_parsers_read_differently_is_refused(uri: str, why: str) -> None:
    assert why in refusal(uri)


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7f.1",
        "0177.0.0.1",
        "010.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "127.0.0.256",
        "1.2.3.4.5",
        "example.1",
        "example.0x1f",
        "0",
        "0x",
        "127\u30020\u30020\u30021",
        "\uff11\uff12\uff17.0.0.1",
        "\u2460\u2461\u2466.0.0.1",
    ],
)
def test_other_spellings_of_an_ipv4_address_are_refused(host: str) -> None:
    refusal(f"https://{host}/")
    refusal(f"https://{host}/", dev=True)


@pytest.mark.parametrize(
    "host",
    [
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[v1.fe80]",
        "[vF.a:b]",
        "[example.com]",
        "[127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[2606:4700::0001]",
        "[]",
        "[::1",
        "::1",
        "[::1]x",
        "[[::1]]",
    ],
)
def test_ipv6_is_refused_unless_canonical(host: str) -> None:
    refusal(f"https://{host}/")
    refusal(f"https://{host}/", dev=True)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "x.internal",
        "x.local",
        "printer.home.arpa",
        "localhost.localdomain",
        "metadata.google.internal",
        "METADATA.google.Internal",
        "intranet",
        "example.com.",
        "example.com..",
        ".example.com",
        "example..com",
        "exa_mple.com",
        "-a.example",
        "a-.example",
        "*.example.com",
        "exa%6dple.com",
        "exam!ple.com",
        "a" * 64 + ".example",
        ".".join([LONG_LABEL] * 4) + ".example",
        "xn--a.example",
        "xn--abc-.example",
        "xn--99999999.example",
        "xn--example-.com",
        "a\u200bb.example",
        "ⅷ.example",
        "BÜCHER.example",
        "☃.example",
        "\u0301a.example",
        "\ud800.example",
        "",
        ":443",
    ],
)
def test_hosts_that_are_no_public_names_are_refused(host: str) -> None:
    refusal(f"https://{host}/")


@pytest.mark.parametrize(
    "port", ["", "0", "65536", "99999999999999999999", "-1", "+1", "0443", "a"]
)
def test_ports_out_of_range_are_refused(port: str) -> None:
    refusal(f"https://example.com:{port}/")


def test_development_admits_plain_http_to_loopback_only() -> None:
    for uri in ("http://localhost:8080/", "http://127.0.0.2/", "http://[::1]:81/"):
        endpoint = parse_endpoint(uri, dev=True)
        assert (endpoint.uri, endpoint.scheme) == (uri, "http")
        refusal(uri)
    assert parse_endpoint("http://localhost", dev=True).port == 80
    assert parse_endpoint("https://localhost/", dev=True).port == 443
    for uri in ("http://example.com/", "http://10.0.0.1/", "http://a.localhost/", "http://x/"):
        refusal(uri, dev=True)


# Pieces with which one parser has fooled another, glued at random.
TRICKY = (
    "https:// http:// // / ? # @ : \\ . .. %2e %2f %00 %0a [ ] [::1] example.com 127.0.0.1"
    " 0x7f.1 localhost xn-- ß ä \u3002 \uff11 :443 :80 :0 ; & = + ~ ' | ^ { }"
)
PIECES = st.lists(
    st.one_of(
        st.sampled_from(TRICKY.split()),
        st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/?%", max_size=6),
        st.text(max_size=3),
    ),
    max_size=8,
).map("".join)


@given(st.builds(str.__add__, st.sampled_from(["", "https://", "https://example.com"]), PIECES))
@settings(max_examples=2000)
@example("https://example.com//a")
def test_two_independent_parsers_read_an_accepted_uri_alike(uri: str) -> None:
    try:
        endpoint = parse_endpoint(uri, dev=True)
    except EndpointInvalid:
        return
    check_reading(endpoint, endpoint.uri)
    assert parse_endpoint(endpoint.uri, dev=True) == endpoint


@given(
    host=st.sampled_from(
        ["example.com", "EXAMPLE.com", "8.8.8.8", "[2606::1]", "xn--bcher-kva.de"]
    ),
    port=st.none() | st.integers(1, 65535),
    path=st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/", max_size=40),
    query=st.none() | st.text(string.ascii_letters + "-._~!$&'()*+,;=:@/?", min_size=1),
)
@settings(max_examples=1000)
def test_what_was_given_is_read_as_what_is_stored(
    host: str, port: int | None, path: str, query: str | None
) -> None:
    assume(not {".", ".."} & set(path.split("/")))
    uri = f"https://{host}{'' if port is None else f':{port}'}/{path}"
    if query is not None:
        uri += "?" + query
    endpoint = parse(uri)
    check_reading(endpoint, endpoint.uri)
    check_reading(endpoint, uri)


def check_reading(endpoint: Endpoint, uri: str) -> None:
    default = {"https": 443, "http": 80}[endpoint.scheme]
    expected = (endpoint.scheme, endpoint.host, endpoint.port, endpoint.target)
    split = urlsplit(uri)
    target = split.path + ("?" + split.query if split.query else "")
    assert (split.scheme, split.hostname, split.port or default, target) == expected
    assert not split.fragment
    assert split.username is None
    url = httpx.URL(uri)
    host, target = url.raw_host.decode("ascii"), url.raw_path.decode("ascii")
    assert (url.scheme, host, url.port or default, target) == expected
    assert not url.fragment
    assert not url.userinfo
