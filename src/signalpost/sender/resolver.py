"""Name lookup by c-ares: any number at a time, none of which holds up another.

The system's own lookup would run on a small pool of threads, where a few names that never
answer stop all others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import aiodns
import pycares

from signalpost.domain.address import IpAddress
from signalpost.domain.outcome import Outcome
from signalpost.sender.failure import SendFailed

LOOKUP_SECONDS = 5.0
"""Longest lookup."""

ANSWER_SECONDS = 5.0
FAILURE_SECONDS = 1.0
"""How long an answer, or that there is none, is kept."""

CHANNEL_SECONDS = 5.0
"""Oldest channel for a new lookup: each keeps a cache of its own, by the names' own TTL."""

MAX_KEPT = 4096

_TRY_SECONDS = 1.5
_TRIES = 2
_LOOPBACK: tuple[IpAddress, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_CODES = {
    aiodns.error.ARES_ENOTFOUND: "NAME_NOT_FOUND",
    aiodns.error.ARES_ENODATA: "NO_ADDRESS",
    aiodns.error.ARES_ETIMEOUT: "DNS_TIMEOUT",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a lookup found; `code` says why it found nothing. Good until `expires`."""

    addresses: tuple[IpAddress, ...]
    code: str
    expires: float


class Resolver:
    """Finds the addresses of names.

    `servers` (addresses, with a port if it is not 53) replace those of the system.
    `monotonic` is the clock by which answers grow old.
    """

    def __init__(
        self,
        servers: Sequence[str] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = list(servers) if servers is not None else None
        self._monotonic = monotonic
        self._answers: dict[str, _Answer] = {}
        self._lookups: dict[str, asyncio.Task[_Answer]] = {}
        self._channel: aiodns.DNSResolver | None = None
        self._channel_expires = 0.0

    async def resolve(self, host: str) -> list[IpAddress]:
        """Return the addresses of a name, the preferred ones first; at least one.

        Takes 5 seconds at most. Raises SendFailed (DNS_FAILED) if there is none.
        """
        if host == "localhost":
            return list(_LOOPBACK)
        answer = self._answers.get(host)
        if answer is None or answer.expires <= self._monotonic():
            answer = await self._shared_lookup(host)
        if not answer.addresses:
            raise SendFailed(Outcome.DNS_FAILED, answer.code, "the host name did not resolve")
        return list(answer.addresses)

    async def aclose(self) -> None:
        """End all lookups."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _shared_lookup(self, host: str) -> _Answer:
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(host))
            self._lookups[host] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(host))
        # Shielded: who gives up waiting does not end it for the others.
        return await asyncio.shield(lookup)

    async def _look_up(self, host: str) -> _Answer:
        addresses: tuple[IpAddress, ...] = ()
        code = ""
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                addresses = await self._ask(host)
        except TimeoutError:
            code = "DNS_TIMEOUT"
        except aiodns.error.DNSError as error:
            code = _CODES.get(error.args[0], "DNS_SERVER_FAILED")
        lifetime = ANSWER_SECONDS if addresses else FAILURE_SECONDS
        answer = _Answer(addresses, code or "NO_ADDRESS", self._monotonic() + lifetime)
        self._keep(host, answer)
        return answer

    async def _ask(self, host: str) -> tuple[IpAddress, ...]:
        channel = self._fresh_channel()
        found = await channel.getaddrinfo(host)
        # Each address comes as bytes, whatever the annotation of the field says.
        texts = (bytes(node.addr[0]).decode("ascii") for node in found.nodes)
        return tuple(dict.fromkeys(ip_address(text) for text in texts))

    def _fresh_channel(self) -> aiodns.DNSResolver:
        """Return a channel; lookups under way keep the one they began with."""
        now = self._monotonic()
        if self._channel is None or self._channel_expires <= now:
            self._channel = aiodns.DNSResolver(
                nameservers=self._servers,
                loop=asyncio.get_running_loop(),
                timeout=_TRY_SECONDS,
                tries=_TRIES,
                flags=pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH,
            )
            self._channel_expires = now + CHANNEL_SECONDS
        return self._channel

    def _keep(self, host: str, answer: _Answer) -> None:
        self._answers.pop(host, None)
        self._answers[host] = answer
        if len(self._answers) > MAX_KEPT:
            del self._answers[next(iter(self._answers))]
