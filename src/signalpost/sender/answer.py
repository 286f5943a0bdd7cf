"""Reading an answer: bytes in, in any portions, and what they say."""

from __future__ import annotations

import re
from typing import Final

import httptools

from signalpost.domain.outcome import MAX_RESPONSE_KEPT, MAX_RESPONSE_READ

MAX_HEAD_BYTES: Final = 64 * 1024
"""Largest head of an answer: the names and values of its headers, and its reason."""

MAX_INTERIM_BYTES: Final = 64 * 1024
"""Most bytes of interim answers that are read, lest a flood of them keep this process busy."""

_START: Final = b"HTTP/"
_PORTION: Final = 16 * 1024
_LINE_ENDS: Final = (b"\r", b"\n")
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
_IDLE_LIMIT: Final = re.compile(rb"(?:^|[,\s])timeout=([0-9]{1,6})(?![0-9])", re.IGNORECASE)
_MARGIN_SECONDS: Final = 1.0


class NotHttp(Exception):
    """What arrived is not an answer of HTTP/1.1."""


class Answer:
    """The answer to one request, as far as it arrived.

    `has_head` tells that status and headers are there; `is_complete` that the body is too;
    `is_over` that no more of it is read, since it is complete or has had its 64 KiB.
    `keeps_alive` tells whether the endpoint lets its connection be used again, `has_surplus`
    that more came than belongs to the answer; `idle_seconds` is how long the connection may
    wait for its next request, if the endpoint says when it would close it. Interim answers
    (1xx) are passed over, up to a limit: `is_flooded` tells that there were more, and that no
    answer is waited for in them.
    """

    __slots__ = (
        "_head_bytes",
        "_interim_bytes",
        "_parser",
        "_read",
        "_start",
        "_unparsed",
        "body",
        "body_bytes",
        "has_head",
        "has_surplus",
        "headers",
        "idle_seconds",
        "is_complete",
        "is_framed",
        "is_full",
        "keeps_alive",
        "status_code",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._start = b""
        self._head_bytes = 0
        self._interim_bytes = 0
        self._unparsed = 0
        self._read = 0
        self.status_code = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.body_bytes = 0
        self.has_head = False
        self.has_surplus = False
        self.is_complete = False
        self.is_framed = False
        self.is_full = False
        self.keeps_alive = False
        self.idle_seconds: float | None = None

    @property
    def has_begun(self) -> bool:
        """Tell whether anything arrived."""
        return bool(self._start)

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more of it is read."""
        return self.is_complete or self.is_full

    @property
    def is_flooded(self) -> bool:
        """Tell whether there were too many interim answers: nothing more is taken in."""
        return self._interim_bytes > MAX_INTERIM_BYTES and not self.has_head

    def feed(self, data: bytes) -> None:
        """Take in what arrived. Raises NotHttp if no answer can come of it any more.

        Once the head is there nothing is wrong enough to be raised: the status stands.
        """
        # Between answers the parser passes over ends of lines without a word: by itself, one
        # that came after the end is noticed.
        end = len(data) - data.endswith(_LINE_ENDS)
        if end == len(data) <= _PORTION:
            self._take(data)
            return
        for start in range(0, end, _PORTION):
            self._take(data[start : min(start + _PORTION, end)])
        if end < len(data):
            self._take(data[end:])

    def end(self) -> None:
        """Take in that nothing more arrives. A body without a length of its own ends with it."""
        if self.has_head and not self.is_framed:
            self.is_complete = True
        self.keeps_alive = False

    def _take(self, data: bytes) -> None:
        if self.is_over:
            self.has_surplus = True
            return
        if self.is_flooded:
            return
        if not self.has_head:
            self._begin_head(data)
        else:
            self._read += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break_off()
        self._judge_head()
        if self._read >= MAX_RESPONSE_READ or self.body_bytes >= MAX_RESPONSE_READ:
            self.is_full = True

    def _begin_head(self, data: bytes) -> None:
        if len(self._start) < len(_START):
            self._start = (self._start + data)[: len(_START)]
            if not _START.startswith(self._start):
                raise NotHttp
        self._unparsed += len(data)

    def _judge_head(self) -> None:
        if self.has_head:
            acceptable = 200 <= self.status_code <= 599
        else:
            # One line without an end is as bad as many lines.
            acceptable = self._unparsed <= 2 * MAX_HEAD_BYTES
        if not acceptable or self._head_bytes > MAX_HEAD_BYTES:
            self.has_head = False
            raise NotHttp

    def _break_off(self) -> None:
        if not self.has_head:
            raise NotHttp from None
        self.has_surplus = True
        self.is_full = True

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        """Begin an answer, or what came after it."""
        if self.has_head:
            self.has_surplus = True

    def on_status(self, reason: bytes) -> None:
        """Take the reason, which says nothing."""
        if not self.has_head:
            self._head_bytes += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are passed over."""
        if not self.has_head:
            self._head_bytes += len(name) + len(value)
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the head, unless it is that of an interim answer."""
        if self.has_head:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self.has_head = True
        self.status_code = status if self._parser.get_http_version() in ("1.0", "1.1") else 0
        for name, value in self.headers:
            lowered = name.lower()
            if lowered in _FRAMING:
                self.is_framed = True
            elif lowered == b"keep-alive":
                self.idle_seconds = _idle_seconds(value)

    def on_body(self, body: bytes) -> None:
        """Keep the beginning of the body, and count all of it."""
        if self.is_complete:
            return
        if len(self.body) < MAX_RESPONSE_KEPT:
            self.body += body[: MAX_RESPONSE_KEPT - len(self.body)]
        self.body_bytes += len(body)

    def on_message_complete(self) -> None:
        """End the answer, or begin anew after an interim one."""
        if not self.has_head:
            self.headers.clear()
            self._interim_bytes += self._unparsed
            self._head_bytes = self._unparsed = 0
        elif not self.has_surplus:
            self.is_complete = True
            self.keeps_alive = self._parser.should_keep_alive()


def _idle_seconds(keep_alive: bytes) -> float | None:
    """Return for how long a connection can be used by this header; a little less than it says.

    A request that meets the end of its connection is a failed attempt. Source: RFC 2068,
    section 19.7.1; servers send it still.
    """
    found = _IDLE_LIMIT.search(keep_alive)
    if found is None:
        return None
    seconds = int(found[1])
    return seconds - min(_MARGIN_SECONDS, seconds / 2)
