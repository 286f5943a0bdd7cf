"""Pages of lists, and the opaque tokens that lead from one to the next.

A token holds the position in the list under a MAC that also covers the list it belongs to:
another query, another method or another installation refuses it. So a position is never
taken from a caller's own hand.
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
from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.event_service_pb2 import ListEventsRequest
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
        position = next_after.encode()
        token = self._mac(request, position) + position
        return base64.urlsafe_b64encode(token).decode().rstrip("=")

    def _position(self, request: ListRequest) -> str:
        text = request.page_token
        try:
            token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            token = b""
        mac, position = token[:_MAC_BYTES], token[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(request, position)):
            description = "was not given out for this query; begin again without it"
            raise RequestInvalid([Violation("page_token", Reason.PAGE_TOKEN_INVALID, description)])
        return position.decode()

    def _mac(self, request: ListRequest, position: bytes) -> bytes:
        query = deepcopy(request)
        query.ClearField("page_size")
        query.ClearField("page_token")
        digest = sha256(query.SerializeToString(deterministic=True)).digest()
        method = query.DESCRIPTOR.full_name.encode()
        content = len(method).to_bytes(4) + method + digest + position
        return hmac.digest(self._key, content, sha256)[:_MAC_BYTES]
