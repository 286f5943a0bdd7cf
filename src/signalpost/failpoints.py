"""Points at which a test may make this process fail.

Armed once at start by `SIGNALPOST_FAILPOINT=name:action`, otherwise every `hit` returns at
once. Actions: `kill` ends the process as a power cut would, `raise` raises `InjectedFault`.
With `name=subject:action` it fails for that subject only.

| point | where |
|---|---|
| publish.before_commit | events and deliveries are written, not committed |
| publish.after_commit | committed, not answered |
| fanout.mid | half of the deliveries of a transaction are written |
| claim.after_commit | leases are durable, no request is made |
| worker.on_event | an attempt of an event, its subject, is about to be made |
| http.mid_body | half of the body of a request is sent |
| outcome.before_commit | an attempt's outcome is written, not committed |
| outcome.after_commit | committed, not yet acted upon |
| suspend.before_commit | a subscription is suspended and the event told, not committed |
| suspend.after_commit | committed, not yet acted upon |
| change.before_commit | a changed subscription is written with its keys, not committed |
| change.after_commit | committed, not answered |
| migrate.before_commit | a migration, the subject, is applied, not committed |
| retry.before_commit | a delivery is due again, not committed |
| cancel.before_commit | deliveries are canceled, not committed |
| replay.before_commit | deliveries of a replay are queued, not committed |
| replay.after_commit | committed, the replay goes on |
| backlog.before_commit | what is too much is ended, not committed |
| prune.mid | deliveries are removed, their events are not |
| prune.after_commit | deliveries and events are removed |
| handler | a gRPC handler is about to run |
"""

from __future__ import annotations

import os
import signal
from typing import Final

POINTS: Final = frozenset(
    {
        "publish.before_commit",
        "publish.after_commit",
        "fanout.mid",
        "claim.after_commit",
        "worker.on_event",
        "http.mid_body",
        "outcome.before_commit",
        "outcome.after_commit",
        "suspend.before_commit",
        "suspend.after_commit",
        "change.before_commit",
        "change.after_commit",
        "migrate.before_commit",
        "retry.before_commit",
        "cancel.before_commit",
        "replay.before_commit",
        "replay.after_commit",
        "backlog.before_commit",
        "prune.mid",
        "prune.after_commit",
        "handler",
    }
)
ACTIONS: Final = frozenset({"kill", "raise"})

_armed: dict[str, str] = {}
_subjects: dict[str, str] = {}


class InjectedFault(Exception):
    """Raised by a point that is armed with `raise`."""


def parse(spec: str) -> tuple[str, str, str]:
    """Read `name:action` or `name=subject:action`. Raises ValueError if one is unknown."""
    point, _, action = spec.rpartition(":")
    name, _, subject = point.partition("=")
    if name not in POINTS or action not in ACTIONS:
        raise ValueError(f"{spec!r} is not one of {sorted(POINTS)} with :{' or :'.join(ACTIONS)}")
    return name, subject, action


def arm(spec: str) -> None:
    """Arm a point: `name:action` or `name=subject:action`. Raises ValueError, as `parse` does."""
    name, subject, action = parse(spec)
    _armed[name], _subjects[name] = action, subject


def is_armed(name: str) -> bool:
    """Tell whether a point will fail when it is hit."""
    return name in _armed


def hit(name: str, *, subject: str = "") -> None:
    """Fail here if this point is armed, for this subject or for all."""
    if not _armed:
        return
    if _subjects.get(name, "") not in ("", subject):
        return
    match _armed.get(name):
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise InjectedFault(name)
