import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.api.paging import ListRequest, Pager
from signalpost.domain.errors import Reason, RequestInvalid
from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.event_pb2 import EventFilter
from signalpost.v1.event_service_pb2 import ListEventsRequest
from signalpost.v1.subscription_service_pb2 import ListSubscriptionsRequest

PAGER = Pager(b"k" * 32)
QUERY = ListEventsRequest(tenant_id="acme", page_size=10)


def refused(pager: Pager, request: ListRequest) -> Reason:
    with pytest.raises(RequestInvalid) as caught:
        pager.page(request)
    (violation,) = caught.value.violations
    assert violation.field == "page_token"
    return violation.reason


@given(st.text(max_size=80))
def test_token_leads_back_to_its_position(position: str) -> None:
    token = PAGER.token(QUERY, position)
    request = ListEventsRequest(tenant_id="acme", page_size=500, page_token=token)
    page = PAGER.page(request)
    assert (page.after, page.size) == (position, 500)


def test_first_page_has_the_default_size_and_the_last_one_no_token() -> None:
    page = PAGER.page(ListEventsRequest())
    assert (page.after, page.size) == (None, 50)
    assert PAGER.token(ListEventsRequest(), None) == ""


@pytest.mark.parametrize(
    "other",
    [
        ListEventsRequest(tenant_id="acme", filter=EventFilter(event_types=["account.*"])),
        ListEventsRequest(tenant_id="emca"),
        ListDeliveriesRequest(tenant_id="acme"),
        ListSubscriptionsRequest(tenant_id="acme"),
    ],
)
def test_token_of_another_query_is_refused(other: ListRequest) -> None:
    other.page_token = PAGER.token(QUERY, "17")
    assert refused(PAGER, other) is Reason.PAGE_TOKEN_INVALID


def test_token_of_another_installation_is_refused() -> None:
    token = Pager(b"x" * 32).token(QUERY, "17")
    request = ListEventsRequest(tenant_id="acme", page_token=token)
    assert refused(PAGER, request) is Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize("place", [0, 15, 16, 17])
def test_changed_token_is_refused(place: int) -> None:
    token = base64.urlsafe_b64decode(PAGER.token(QUERY, "1234") + "==")
    changed = bytearray(token)
    changed[place] ^= 1
    text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
    request = ListEventsRequest(tenant_id="acme", page_token=text)
    assert refused(PAGER, request) is Reason.PAGE_TOKEN_INVALID


@given(st.text(min_size=1, max_size=60))
def test_made_up_token_is_refused(text: str) -> None:
    request = ListEventsRequest(tenant_id="acme", page_token=text)
    assert refused(PAGER, request) is Reason.PAGE_TOKEN_INVALID
