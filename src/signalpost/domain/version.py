"""Versions of what callers change: etags, which a stale copy never matches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def etag_of(created: datetime | None, version: int) -> str:
    """Return the etag of something at a version, which rises with every change from 1.

    When it was created is part of it: of one that is deleted and created anew under the same
    name the versions begin anew.
    """
    moment = 0 if created is None else (created - _EPOCH) // timedelta(microseconds=1)
    return f"{moment:x}-{version}"
