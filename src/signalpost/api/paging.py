"""Pages of lists, and the opaque tokens and cursors that lead on from them.

A token holds the position in the list under a MAC that also covers the list it belongs to:
another query, another method or another installation refuses it. So a position is never
taken from a caller's own hand. Cursors are made in the same way, but only for a tenant: a
stream may go on with another filter.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar

from google.protobuf.message import Message

from signalpost.domain.errors import Reason, RequestInvalid, Violation
from signalpost.ports import Page, PageRequest
from signalpost.ports.watching import LogPosition
from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.event_service_pb2 import ListEventsRequest, WatchEventsRequest
from signalpost.v1.event_type_service_pb2 import ListEventTypesRequest
from signalpost.v1.subscription_service_pb2 import ListSubscriptionsRequest

DEFAULT_PAGE_SIZE = 50

ListRequest = (
    ListEventsRequest | ListEventTypesRequest | ListSubscriptionsRequest | ListDeliveriesRequest
)

MAX_RESPONSE_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""Clients take 4 MiB unless they were told otherwise."""

_MAC_BYTES = 16
_BYTES_OF_A_LENGTH = 6
_Item = TypeVar("_Item")
_Shown = TypeVar("_Shown", bound=Message)


async def fitting(
    page: PageRequest,
    fetch: Callable[[PageRequest], Awaitable[Page[_Item]]],
    show: Callable[[_Item], _Shown],
) -> tuple[Sequence[_Shown], str | None]:
    """Return the messages of a page, no more than any client takes, and where the next begins.

    A store counts what it keeps; a message can be several times as large, as for a `Struct` of
    many small numbers. A page of one item always fits.
    """
    while True:
        found = await fetch(page)
        shown = list(_first_ones(map(show, found.items)))
        if len(shown) == len(found.items):
            return shown, found.next_after
        page = replace(page, size=len(shown))


def _first_ones(messages: Iterable[_Shown]) -> Iterator[_Shown]:
    """Yield the first messages that fit into a response; at least one."""
    weight = 0
    for message in messages:
        size = message.ByteSize() + _BYTES_OF_A_LENGTH
        if weight and weight + size > MAX_RESPONSE_BYTES:
            return
        weight += size
        yield message


class Pager:
    """Reads and writes page tokens under a key that every node of an installation has."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def page(self, request: ListRequest) -> PageRequest:
        """Return which page a request asks for. Raises RequestInvalid."""
        size = request.page_size or DEFAULT_PAGE_SIZE
        if not request.page_token:
            return PageRequest(size=size)
        return PageRequest(size=size, after=self._position(request))

    def token(self, request: ListRequest, next_after: str | None) -> str:
        """Return the token of the page after this one, empty if there is none."""
        if next_after is None:
            return ""
        return self._write(_list_of(request), next_after)

    def cursor(self, request: WatchEventsRequest, position: LogPosition) -> str:
        """Return the cursor with which the stream of a tenant goes on from a position."""
        return self._write(_log_of(request), position)

    def log_position(self, request: WatchEventsRequest) -> LogPosition:
        """Return where the stream that a request asks for goes on. Raises RequestInvalid."""
        position = self._read(_log_of(request), request.cursor)
        if position is None:
            raise _refused("cursor", "was not given out for this tenant")
        return LogPosition(position)

    def _position(self, request: ListRequest) -> str:
        position = self._read(_list_of(request), request.page_token)
        if position is None:
            raise _refused("page_token", "was not given out for this query; begin again without it")
        return position

    def _write(self, scope: bytes, text: str) -> str:
        position = text.encode()
        token = self._mac(scope, position) + position
        return base64.urlsafe_b64encode(token).decode().rstrip("=")

    def _read(self, scope: bytes, text: str) -> str | None:
        """Return the position in a token; None if it was not made for this scope."""
        try:
            token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            token = b""
        mac, position = token[:_MAC_BYTES], token[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(scope, position)):
            return None
        return position.decode()

    def _mac(self, scope: bytes, position: bytes) -> bytes:
        return hmac.digest(self._key, scope + position, sha256)[:_MAC_BYTES]


def _refused(field: str, description: str) -> RequestInvalid:
    return RequestInvalid([Violation(field, Reason.PAGE_TOKEN_INVALID, description)])


def _list_of(request: ListRequest) -> bytes:
    query = deepcopy(request)
    query.ClearField("page_size")
    query.ClearField("page_token")
    return _scope(query)


def _log_of(request: WatchEventsRequest) -> bytes:
    return _scope(WatchEventsRequest(tenant_id=request.tenant_id))


def _scope(query: Message) -> bytes:
    """Return what a token is made for: a method, and what it is asked."""
    digest = sha256(query.SerializeToString(deterministic=True)).digest()
    method = query.DESCRIPTOR.full_name.encode()
    return len(method).to_bytes(4) + method + digest
