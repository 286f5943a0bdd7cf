"""Where violations gather while a request is walked through."""

from __future__ import annotations

from signalpost.domain.errors import Reason, Violation

MAX_VIOLATIONS = 100
"""A request this wrong is not looked at any further."""


class TooMany(Exception):
    """The walk ends here: enough is known."""


class Findings:
    """Collects violations. Raises TooMany when there are `MAX_VIOLATIONS`."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def add(
        self,
        path: str,
        description: str,
        *,
        reason: Reason = Reason.FIELD_INVALID,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Note what is wrong with the field at `path`."""
        self.violations.append(Violation(path, reason, description, metadata or {}))
        if len(self.violations) >= MAX_VIOLATIONS:
            raise TooMany
