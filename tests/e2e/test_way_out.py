"""What the real service sends, and to whom, whatever surrounds it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from signalpost.v1.delivery_pb2 import DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected
from tests.e2e.test_metrics import by, scrape
from tests.sender.receivers import OK, Conversation, Receivers, answering


@pytest_asyncio.fixture
async def receivers() -> AsyncIterator[Receivers]:
    started = Receivers()
    yield started
    await started.stop()


async def test_proxies_and_passwords_of_the_environment_are_ignored(
    service: Service, receiver: Receiver, receivers: Receivers, tmp_path: Path
) -> None:
    canary = await receivers.start(answering(OK))
    plain = await receivers.start(answering(OK))
    proxy = f"http://user:password@127.0.0.1:{canary.port}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        service.environment |= {name: proxy, name.lower(): proxy}
    service.environment |= {"NO_PROXY": "", "no_proxy": "", "HOME": str(tmp_path)}
    netrc = "machine localhost login user password netrc-canary\n"
    (tmp_path / ".netrc").write_text(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="tls")
    await service.subscribe(f"http://localhost:{plain.port}/", subscription_id="plain")
    await service.publish(connected())
    await service.drained()
    [sent], [sent_plainly] = receiver.requests, plain.requests
    assert canary.connections == 0
    for headers in (sent.headers, sent_plainly.headers):
        assert not {"authorization", "proxy-authorization", "cookie", "via"} & headers.keys()
        assert headers["accept-encoding"] == "identity"


async def test_an_endpoint_that_closes_just_as_the_next_request_comes_gets_it_again_as_a_retry(
    service: Service, receivers: Receivers
) -> None:
    async def behave(conversation: Conversation) -> None:
        await conversation.read()
        await conversation.say(OK)
        await conversation.read()
        if conversation.number > 1:
            await conversation.say(OK)

    receiver = await receivers.start(behave)
    await service.start()
    await service.subscribe(f"http://localhost:{receiver.port}/")
    await service.publish(connected("first"))
    await service.drained()
    await service.publish(connected("second"))
    deliveries = {found.event_id: found for found in await service.drained()}
    got = [(request.headers["webhook-id"], request.connection) for request in receiver.requests]
    assert got == [("first", 1), ("second", 1), ("second", 2)]
    request = GetDeliveryRequest(delivery_id=deliveries["second"].delivery_id)
    lost, taken = (await service.deliveries.GetDelivery(request)).delivery.attempts
    assert (lost.outcome, lost.error_code) == (
        DeliveryAttempt.CONNECTION_LOST,
        "KEPT_CONNECTION_LOST",
    )
    assert taken.outcome == DeliveryAttempt.SUCCEEDED
    # Not at once: the policy of the subscription asks for a second, less a fifth.
    assert taken.start_time.ToNanoseconds() - lost.start_time.ToNanoseconds() >= 800_000_000
    rate = by("signalpost_attempts_total", outcome="CONNECTION_LOST", connection="kept")
    assert (await scrape(service))[rate] == 1
