"""Says in the log that publishers still use deprecated event types."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from signalpost.publishing.catalogue import Catalogue

WARNING_EVERY: Final = timedelta(hours=1)
"""How often a type is mentioned at most."""

_logger: Final = logging.getLogger(__name__)


class DeprecationLog:
    """Warns of each deprecated type now and then, not of each event."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._warned: dict[str, datetime] = {}

    def note(self, event_types: Iterable[str], *, now: datetime) -> None:
        """Warn of those of these types that are deprecated."""
        for name in event_types:
            known = self._catalogue.find(name)
            if known is None or not known.deprecated:
                continue
            last = self._warned.get(name)
            if last is None or now - last >= WARNING_EVERY:
                self._warned[name] = now
                _logger.warning("deprecated event type published", extra={"event_type": name})
