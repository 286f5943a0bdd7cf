"""When the real service attempts again, by what it says of its deliveries."""

from google.protobuf.duration_pb2 import Duration

from signalpost.v1.subscription_pb2 import RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

HOUR = Duration(seconds=3600)
POLICY = RetryPolicy(min_backoff=HOUR, max_backoff=HOUR)
MANY = 200


async def fail(_: Request) -> int:
    return 500


async def test_many_that_failed_together_are_attempted_again_one_after_the_other(
    service: Service, receiver: Receiver
) -> None:
    """All have the same delay, an hour; what is drawn for each spreads them over 24 minutes."""
    receiver.answer = fail
    await service.start()
    for number in range(MANY):
        subscription = Subscription(endpoint_uri=receiver.url(f"/{number}"), retry_policy=POLICY)
        request = CreateSubscriptionRequest(subscription=subscription)
        await service.subscriptions.CreateSubscription(request)
    await service.publish(connected())
    while any(not d.attempt_count for d in await service.list_deliveries()):
        await receiver.until(lambda: len(receiver.requests) == MANY)
    waits = []
    for delivery in await service.list_deliveries():
        last = delivery.last_attempt
        ended = last.start_time.ToMicroseconds() + last.latency.ToMicroseconds()
        waits.append((delivery.next_attempt_time.ToMicroseconds() - ended) / 3600e6)
    assert len(waits) == MANY
    # An attempt ends a moment before what follows is decided.
    assert min(waits) >= 0.8
    assert max(waits) <= 1.21
    uniform = [(wait - 0.8) / 0.4 for wait in sorted(waits)]
    # Kolmogorov's distance; of 200 that are uniform, one in a million sets is as far as this.
    assert max(abs(at - number / MANY) for number, at in enumerate(uniform)) < 0.2
    # Of so many seconds, few are drawn twice: no second is crowded.
    assert len({round(wait * 3600) for wait in waits}) > 0.75 * MANY
