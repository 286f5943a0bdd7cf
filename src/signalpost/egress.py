"""The way out as the operator set it, also while the service runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeVar

from signalpost.domain.address import EgressPolicy
from signalpost.domain.egress_ports import DEFAULT_PORTS, write_ports
from signalpost.sender.guard import Listener
from signalpost.sender.pool import MAX_IDLE
from signalpost.sender.resolver import Resolver
from signalpost.sender.sender import HttpSender
from signalpost.settings import Settings, SettingsInvalid
from signalpost.subscriptions.endpoints import EndpointRules

T = TypeVar("T")

_logger: Final = logging.getLogger(__name__)

_MOST_TOLD: Final = 10
"""Ranges or ports in a line of the log: an operator may have hundreds of them in a file."""


class EgressRefused(Exception):
    """The settings of the way out cannot be used; the message is one line."""

    def __init__(self, settings: Settings, error: OSError) -> None:
        problem = f"{settings.egress_ca} holds no certificates (PEM)"
        if not isinstance(error, ssl.SSLError):  # whose text is that of a library
            problem = f"cannot read {settings.egress_ca}: {error.strerror}"
        super().__init__(f"--egress-ca (SIGNALPOST_EGRESS_CA): {problem}")


@dataclass(frozen=True, slots=True)
class Reload:
    """Asks to have the settings read anew, and reads them. `read` raises SettingsInvalid."""

    asked: asyncio.Event
    read: Callable[[], Settings]


class Egress:
    """Holds those to one policy who take in endpoints and those who connect to them.

    Settings that cannot be used when they are read anew change nothing, and the log says why.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        own_listeners: Callable[[], Collection[Listener]],
        max_idle: int = MAX_IDLE,
    ) -> None:
        """Build both; at most `max_idle` connections are kept. Raises EgressRefused."""
        policy = _policy(settings)
        self.endpoints = EndpointRules(policy=policy, dev=settings.dev)
        try:
            self.sender = HttpSender(
                policy=policy,
                own_listeners=own_listeners,
                resolver=Resolver(),
                ca_file=settings.egress_ca,
                max_idle=max_idle,
            )
        except OSError as error:
            raise EgressRefused(settings, error) from None

    async def run(self, reload: Reload) -> None:
        """Read the settings anew whenever that is asked for, until cancelled."""
        while await reload.asked.wait():
            reload.asked.clear()
            await self._read_anew(reload.read)

    async def _read_anew(self, read: Callable[[], Settings]) -> None:
        try:
            settings = read()
            await self._adopt(settings)
        except (SettingsInvalid, EgressRefused) as refused:
            problems = "; ".join(str(refused).splitlines())
        else:
            _tell(settings)
            return
        _logger.error("the egress settings stay as they were: %s", problems)

    async def _adopt(self, settings: Settings) -> None:
        policy = _policy(settings)
        try:
            await self.sender.adopt(policy, ca_file=settings.egress_ca)
        except OSError as error:
            raise EgressRefused(settings, error) from None
        self.endpoints.policy = policy


def _policy(settings: Settings) -> EgressPolicy:
    return EgressPolicy(
        allowed=settings.egress_allow, loopback=settings.dev, ports=settings.egress_ports
    )


def _tell(settings: Settings) -> None:
    ports = "the default ones"
    if settings.egress_ports != DEFAULT_PORTS:
        ports = ports_in_words(settings, most=_MOST_TOLD)
    fields = {
        "allowed": ranges_in_words(settings, most=_MOST_TOLD),
        "ports": ports,
        "ca_file": str(settings.egress_ca or ""),
    }
    _logger.info("read the egress settings anew", extra=fields)


def ranges_in_words(settings: Settings, *, most: int) -> str:
    """Write the first of the ranges that are allowed, and how many more there are."""
    return _first(settings.egress_allow, lambda some: ", ".join(map(str, some)), most=most)


def ports_in_words(settings: Settings, *, most: int) -> str:
    """Write the first of the ports that are allowed, and how many more there are."""
    return _first(settings.egress_ports, write_ports, most=most)


def _first(items: tuple[T, ...], write: Callable[[tuple[T, ...]], str], *, most: int) -> str:
    more = len(items) - most
    return write(items[:most]) + (f" and {more} more" if more > 0 else "")
