"""Receivers that misbehave: what each one does, and what must become of the attempt.

`HOSTILE` is the table. Whatever a receiver does, it gets one request and no second one on the
same connection, unless the table says that the connection may be kept.
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import repeat

from signalpost.domain.outcome import Outcome
from tests.sender.receivers import Behaviour, Conversation, deaf, silent

End = Callable[[Conversation], Awaitable[object]]
Says = bytes | Callable[[bytes], bytes]

TIMED_OUT, LOST = Outcome.TIMED_OUT, Outcome.CONNECTION_LOST
TAKEN, REJECTED = Outcome.SUCCEEDED, Outcome.REJECTED
NOT_HTTP = (Outcome.PROTOCOL_ERROR, "INVALID_RESPONSE")
CLOSED, RESET = (LOST, "CONNECTION_CLOSED"), (LOST, "CONNECTION_RESET")
EITHER = (LOST, "CONNECTION_CLOSED or CONNECTION_RESET")
OVERTAKEN = (Outcome.CONNECTION_FAILED, "CONNECTION_RESET")
NO_TLS = (Outcome.TLS_FAILED, "HANDSHAKE_FAILED")
BOMB = gzip.compress(gzip.compress(b"0" * 10_000_000))
MEMBERS = gzip.compress(b"") * 3000


@dataclass(frozen=True)
class Hostile:
    """A receiver, and the outcome, code and status that an attempt at it must have.

    A code may be one "or" another, and `otherwise` what an end that overtakes the connection
    looks like. `body` is how the recorded body begins; `requests` are those
    it came to read. `tls` tells that it is to be spoken to by TLS, which it does not speak. One
    with `seconds` makes the attempt wait until they are over.
    """

    does: str
    behave: Behaviour
    expected: tuple[Outcome, str]
    status: int = 0
    body: bytes = b""
    truncated: bool = False
    kept: bool = False
    requests: int = 1
    request_bytes: int = 20
    tls: bool = False
    seconds: float | None = None
    notices_the_end: bool = True
    otherwise: tuple[Outcome, str] | None = None


async def hold(conversation: Conversation) -> None:
    """Say nothing more until the client closes."""
    while await conversation.reader.read(65536):
        pass


async def hang_up(_: Conversation) -> None:
    """Close."""


async def reset(conversation: Conversation) -> None:
    """Break off without a farewell, once what was said is with the client."""
    conversation.reset()


def says(*parts: bytes, end: End = hold, endless: bytes = b"", pause: float = 0) -> Behaviour:
    """Read a request, say these parts one by one, then one for ever or else end so."""

    async def behave(conversation: Conversation) -> None:
        await conversation.read()
        for part in parts:
            await conversation.say(part)
            await asyncio.sleep(pause)
        for part in repeat(endless) if endless else ():
            await conversation.say(part)
            await asyncio.sleep(pause)
        await end(conversation)

    return behave


def without_reading(*parts: bytes, end: End = hold) -> Behaviour:
    """Say something before anything was asked."""

    async def behave(conversation: Conversation) -> None:
        for part in parts:
            await conversation.say(part)
        await end(conversation)

    return behave


def during_the_request(*parts: bytes, end: End = hold) -> Behaviour:
    """Read the beginning of a request only."""

    async def behave(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        for part in parts:
            await conversation.say(part)
        await end(conversation)

    return behave


def dripping(first: bytes) -> Behaviour:
    """Say something before anything was asked, and then zero after zero."""

    async def behave(conversation: Conversation) -> None:
        await conversation.say(first)
        while True:
            await conversation.say(b"\x00")
            await asyncio.sleep(0.02)

    return behave


async def echoing(conversation: Conversation) -> None:
    """Send back what comes."""
    request = await conversation.read()
    assert request
    await conversation.say(request.head.encode() + b"\r\n\r\n" + request.body)
    await hold(conversation)


def head(status: int, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d X" % status, *headers, b"", b""])


def whole(status: int, body: bytes, *headers: bytes) -> bytes:
    return head(status, b"Content-Length: %d" % len(body), *headers) + body


CHUNKED = b"Transfer-Encoding: chunked"
TWO = b"Content-Length: 2"
SECOND = whole(200, b"")
RECORD = b"\x16\x03\x03"  # a handshake record of TLS 1.2


def waiting() -> Iterator[Hostile]:
    """Those that make an attempt wait until its time is over."""
    cases: list[tuple[str, Behaviour]] = [
        ("never answers", silent),
        ("drips a head for ever", says(b"HTTP/1.1 200 OK\r\nX: ", endless=b"y", pause=0.02)),
        ("drips a status line", says(b"HTTP/1.1 200 ", endless=b"O", pause=0.02)),
        ("stops before the end of the head", says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")),
        ("floods with 100", says(endless=b"HTTP/1.1 100 Continue\r\n\r\n" * 100)),
        ("floods with 102", says(endless=b"HTTP/1.1 102 Processing\r\n\r\n")),
        ("floods with 103", says(endless=head(103, b"Link: </" + b"x" * 9000 + b">"))),
        ("drips 102", says(endless=b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.02)),
    ]
    for does, behave in cases:
        yield Hostile(does, behave, (TIMED_OUT, "WAIT"), seconds=1)
    yield Hostile(
        "accepts and reads nothing",
        deaf,
        (TIMED_OUT, "WRITE"),
        requests=0,
        request_bytes=32_000_000,
        seconds=1,
        notices_the_end=False,
    )


def with_a_bad_body() -> Iterator[Hostile]:
    """Those whose status stands, whatever comes after."""
    chunked, length = head(200, CHUNKED), head(200, b"Content-Length: 1000000000000000000")
    cases: list[tuple[str, Behaviour, bytes]] = [
        ("drips a body", says(chunked, endless=b"1\r\nx\r\n", pause=0.02), b"x"),
        ("drips a body of any length", says(head(200), endless=b"x", pause=0.02), b"x"),
        ("sends chunks for ever", says(chunked, endless=b"1000\r\n%b\r\n" % (b"x" * 4096)), b"x"),
        ("sends chunks of a byte for ever", says(chunked, endless=b"1\r\nx\r\n" * 100), b"xx"),
        ("sends a body for ever", says(head(200), endless=b"x" * 4096), b"xx"),
        ("promises an exabyte and sends on", says(length, endless=b"x" * 4096), b"xx"),
        ("promises an exabyte and sends little", says(length + b"part"), b"part"),
        ("promises a body and sends none", says(head(200, TWO)), b""),
        (
            "sends a chunk extension of 1 MiB",
            says(chunked + b"4\r\npart\r\n1;" + b"e" * 2**20 + b"\r\nx\r\n0\r\n\r\n"),
            b"part",
        ),
        ("sends trailers for ever", says(chunked + b"0\r\n", endless=b"T: t\r\n" * 50), b""),
        ("sends a trailer without end", says(chunked + b"0\r\nT: ", endless=b"t" * 4096), b""),
        ("hangs up in the body", says(head(200, b"Content-Length: 9") + b"part", end=hang_up), b""),
        ("resets in the body", says(head(200, b"Content-Length: 9") + b"part", end=reset), b""),
        ("breaks its chunks", says(chunked + b"4\r\npart\r\n", b"nonsense\r\n"), b"part"),
        ("sends a chunk of negative length", says(chunked + b"4\r\npart\r\n-1\r\n"), b"part"),
        (
            "sends a chunk of 2**80 bytes",
            says(chunked + b"4\r\npart\r\n100000000000000000000\r\n"),
            b"part",
        ),
        ("sends a chunk longer than it says", says(chunked + b"4\r\npartner\r\n"), b"part"),
    ]
    for does, behave, body in cases:
        yield Hostile(does, behave, (TAKEN, ""), status=200, body=body, truncated=True)
    for end in (hold, hang_up, reset):
        does = f"fails, and in the body does {end.__name__}"
        behave = says(head(500, b"Content-Length: 9") + b"part", end=end)
        yield Hostile(does, behave, (REJECTED, ""), status=500, truncated=True)
    slow = says(head(500, CHUNKED), endless=b"1\r\nx\r\n", pause=0.02)
    yield Hostile("fails at length", slow, (REJECTED, ""), status=500, body=b"x", truncated=True)


def with_codings_of_their_own() -> Iterator[Hostile]:
    """Those whose body is encoded in a way that this client does not know, or to its end."""
    for coding in (b"xchunked", b"identity", b"gzip", b"chunked, identity", b"chunked, gzip"):
        said = head(200, b"Transfer-Encoding: " + coding) + b"2\r\nok\r\n0\r\n\r\n" + SECOND
        does = f"sends {coding.decode()}"
        yield Hostile(does, says(said), (TAKEN, ""), status=200, truncated=True)


def with_surplus() -> Iterator[Hostile]:
    """Those that say more than an answer."""
    cases: list[tuple[str, Behaviour, int]] = [
        ("answers twice", says(whole(200, b"ok") + SECOND), 200),
        ("answers twice in two breaths", says(whole(200, b"ok"), SECOND), 200),
        ("says more than it announced", says(head(200, TWO) + b"okay"), 200),
        ("gives 204 a body", says(head(204) + b"ok"), 204),
        ("gives 204 a length and a body", says(head(204, TWO) + b"ok"), 204),
        ("gives 204 a body and answers again", says(head(204, TWO) + b"ok" + SECOND), 204),
        ("gives 304 a body", says(head(304, TWO) + b"ok"), 304),
        ("answers again after its chunks", says(head(200, CHUNKED) + b"0\r\n\r\n" + SECOND), 200),
        ("ends in a stray line", says(whole(200, b"ok") + b"\r\n"), 200),
    ]
    for does, behave, status in cases:
        expected = (TAKEN if status < 300 else REJECTED, "")
        yield Hostile(does, behave, expected, status=status)


SAID_IN_PLACE_OF_AN_ANSWER = {
    "sends 200,000 headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
    "sends a header of 2 MB": head(200, b"X: " + b"x" * 2_000_000),
    "sends a header name of 2 MB": head(200, b"x" * 2_000_000 + b": y"),
    "sends a status line of 1 MB": b"HTTP/1.1 200 " + b"x" * 1_000_000 + b"\r\n\r\n",
    "switches protocols": head(101, b"Upgrade: x", b"Connection: upgrade"),
    "switches protocols unasked": head(101),
    "answers with status 20": b"HTTP/1.1 20 OK\r\n\r\n",
    "answers with status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "answers with status 999": head(999, TWO) + b"ok",
    "answers with status 600": head(600, TWO) + b"ok",
    "answers with status -200": b"HTTP/1.1 -200 OK\r\n\r\n",
    "answers with status 2000": b"HTTP/1.1 2000 OK\r\n\r\n",
    "answers with status 2 0": b"HTTP/1.1 2 0 OK\r\n\r\n",
    "answers with no status": b"HTTP/1.1\r\n\r\n",
    "speaks HTTP/0.9": b"<html>ok</html>",
    "claims HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "claims HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "claims HTTP/3.0": b"HTTP/3.0 200 OK\r\n\r\n",
    "speaks HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "speaks HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 20,
    "writes http small": b"http/1.1 200 OK\r\n\r\n",
    "speaks RTSP": b"RTSP/1.0 200 OK\r\n\r\n",
    "speaks UTF-16": "HTTP/1.1 200 OK\r\n\r\n".encode("utf-16"),
    "speaks TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "sends zeros": b"\x00" * 100_000,
    "puts a zero before its answer": b"\x00" + SECOND,
    "puts a zero into a header": head(200, b"X: a\x00b", TWO) + b"ok",
    "puts a zero into a name": head(200, b"X\x00Y: a", TWO) + b"ok",
    "leaves out a colon": head(200, b"nonsense", TWO) + b"ok",
    "puts a space before a colon": head(200, b"Content-Length : 2") + b"ok",
    "promises -5 bytes": head(200, b"Content-Length: -5"),
    "promises +2 bytes": head(200, b"Content-Length: +2") + b"ok",
    "promises 0x2 bytes": head(200, b"Content-Length: 0x2") + b"ok",
    "promises 2,2 bytes": head(200, b"Content-Length: 2, 2") + b"ok",
    "promises 2**80 bytes": head(200, b"Content-Length: 1208925819614629174706176") + b"ok",
    "promises two lengths": head(200, TWO, b"Content-Length: 3") + b"ok",
    "promises one length twice": head(200, TWO, TWO) + b"ok",
    "promises a length and chunks": head(200, TWO, CHUNKED) + b"0\r\n\r\n",
    "promises chunks and a length": head(200, CHUNKED, TWO) + b"0\r\n\r\n",
    "folds a header": b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
    "ends lines with LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "ends lines with CR": b"HTTP/1.1 200 OK\rContent-Length: 0\r\r",
}


def not_http() -> Iterator[Hostile]:
    """Those that say what is no answer of HTTP/1.1, or one that can be read in two ways."""
    for does, said in SAID_IN_PLACE_OF_AN_ANSWER.items():
        yield Hostile(does, says(said), NOT_HTTP)
    yield Hostile("sends header after header", says(head(200)[:-2], endless=b"X: y\r\n"), NOT_HTTP)
    yield Hostile("sends one header for ever", says(b"HTTP/1.1 200 ", endless=b"x" * 9), NOT_HTTP)
    yield Hostile("echoes", echoing, NOT_HTTP)
    for does, banner in (("mail", b"220 mail ESMTP\r\n"), ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n")):
        yield Hostile(f"greets as {does}", without_reading(banner), NOT_HTTP, requests=0)


def breaking_off() -> Iterator[Hostile]:
    """Those that end the connection before they answered."""
    yield Hostile(
        "413, and reads no more of the request",
        during_the_request(whole(413, b""), end=deaf),
        (REJECTED, ""),
        status=413,
        requests=0,
        request_bytes=32_000_000,
        notices_the_end=False,
    )
    for end, expected in ((hang_up, CLOSED), (reset, RESET)):
        how = end.__name__
        # What was written to a closed socket comes back as a reset, if there is time.
        at_once = without_reading(end=end)
        yield Hostile(f"{how} at once", at_once, EITHER, requests=0, otherwise=OVERTAKEN)
        yield Hostile(f"{how} in the request", during_the_request(end=end), EITHER, requests=0)
        yield Hostile(f"{how} unanswered", says(end=end), expected)
        yield Hostile(f"{how} in the status", says(b"HTTP/1.1 20", end=end), expected)
        yield Hostile(f"{how} in the head", says(b"HTTP/1.1 200 OK\r\nX: ", end=end), expected)
        early = during_the_request(whole(413, b""), end=end)
        yield Hostile(f"413, then {how}", early, (REJECTED, ""), status=413, requests=0)


def not_tls() -> Iterator[Hostile]:
    """Those that are to speak TLS and do not."""
    stalled = (Outcome.TLS_FAILED, "HANDSHAKE_TIMEOUT")
    cases: list[tuple[str, Behaviour, tuple[Outcome, str]]] = [
        ("speaks plain HTTP", without_reading(whole(400, b"")), NO_TLS),
        ("sends garbage", without_reading(b"garbage" * 1000), NO_TLS),
        ("sends records of garbage", without_reading(RECORD + b"\x00\x20" + b"g" * 32), NO_TLS),
        ("sends a record of 64 KiB", without_reading(RECORD + b"\xff\xff" + b"g" * 65535), NO_TLS),
        ("hangs up on a handshake", without_reading(end=hang_up), NO_TLS),
        ("resets a handshake", without_reading(end=reset), NO_TLS),
        ("stalls a handshake", without_reading(), stalled),
        ("drips a handshake", dripping(RECORD + b"\x40\x00\x02\x00\x3f\xfc"), stalled),
        ("stalls in a record", without_reading(RECORD + b"\x00\x20g"), stalled),
    ]
    for does, behave, expected in cases:
        yield Hostile(
            does,
            behave,
            expected,
            tls=True,
            requests=0,
            seconds=1 if expected is stalled else None,
            otherwise=OVERTAKEN,
        )


def well_formed() -> Iterator[Hostile]:
    """Those that answer properly, with something up their sleeve."""
    packed = {
        "gzip": BOMB,
        "deflate, gzip, br": BOMB,
        "zstd": b"\x28\xb5\x2f\xfd" + b"\x00" * 9,
        "gzip, of 3000 members": MEMBERS,
    }
    for coding, body in packed.items():
        said = whole(200, body, b"Content-Encoding: " + coding.partition(", of")[0].encode())
        yield Hostile(
            f"packs as {coding}",
            says(said),
            (TAKEN, ""),
            status=200,
            body=body[:4096],
            truncated=len(body) > 4096,
            kept=True,
        )
    places = ["http://169.254.169.254/latest/meta-data/", "/", "file:///etc/passwd", "//x", ""]
    for place in places:
        said = whole(307, b"", b"Location: " + place.encode())
        yield Hostile(f"redirects to {place!r}", says(said), (REJECTED, ""), status=307, kept=True)
    headers = (b"webhook-delivery: abort-message", b"X-Status: 500", b"Retry-After: -1")
    said = whole(200, b"", *headers)
    yield Hostile("sends words of command", says(said), (TAKEN, ""), status=200, kept=True)
    script = b"\x1b[2J\x00<script>\xff\xfe" + "€".encode() * 1365
    said = whole(200, script)
    yield Hostile(
        "sends control codes and half a character",
        says(said),
        (TAKEN, ""),
        status=200,
        body=script[:4096],
        truncated=True,
        kept=True,
    )


HOSTILE = [
    *waiting(),
    *with_a_bad_body(),
    *with_codings_of_their_own(),
    *with_surplus(),
    *not_http(),
    *breaking_off(),
    *not_tls(),
    *well_formed(),
]
