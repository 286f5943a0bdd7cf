"""Statistics as the contract shows them."""

from __future__ import annotations

from signalpost.api.convert_times import duration, timestamp
from signalpost.delivery.statistics import DeliveryStatistics
from signalpost.domain.statistics import Condition, Waiting, percentile
from signalpost.v1.delivery_service_pb2 import GetDeliveryStatsResponse


def statistics_message(found: DeliveryStatistics) -> GetDeliveryStatsResponse:
    """Show statistics."""
    ended, waiting = found.ended, found.waiting
    return GetDeliveryStatsResponse(
        start_time=timestamp(found.start),
        end_time=timestamp(found.end),
        succeeded_count=ended.succeeded,
        failed_count=ended.failed,
        canceled_count=ended.canceled,
        attempt_count=ended.attempts,
        failed_attempt_count=ended.failed_attempts,
        p50_latency=duration(percentile(ended.latencies, 50)),
        p95_latency=duration(percentile(ended.latencies, 95)),
        p99_latency=duration(percentile(ended.latencies, 99)),
        pending_count=sum(one.deliveries for one in waiting.values()),
        oldest_pending_time=timestamp(found.oldest_pending),
        flowing=_backlog(waiting[Condition.FLOWING]),
        throttled=_backlog(waiting[Condition.THROTTLED]),
        paused=_backlog(waiting[Condition.PAUSED]),
        suspended=_backlog(waiting[Condition.SUSPENDED]),
    )


def _backlog(waiting: Waiting) -> GetDeliveryStatsResponse.Backlog:
    return GetDeliveryStatsResponse.Backlog(
        pending_count=waiting.deliveries,
        subscription_count=waiting.subscriptions,
        oldest_due_time=timestamp(waiting.oldest_due),
    )
