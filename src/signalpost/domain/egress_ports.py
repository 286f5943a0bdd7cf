"""Which TCP ports the service may connect to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

Ports = tuple[range, ...]
"""Ports, as ranges of them."""

MAX_PORT: Final = 65535

DENIED_PORTS: Final = (
    *(1433, 1434, 1521, 3306, 5432, 5984, 9042),  # databases: SQL Server, Oracle, MySQL, ...
    *(27017, 27018, 27019, 28017),  # MongoDB
    *(6379, 6380, 11211),  # caches: Redis, Memcached
    *(9200, 9300),  # search: Elasticsearch, OpenSearch
    *(4369, 5671, 5672, 9092, 15672),  # queues: RabbitMQ with its Erlang nodes, Kafka
    *(2181, 2379, 2380, 8300, 8301, 8500),  # coordination: ZooKeeper, etcd, Consul
    *(2375, 2376, 6443, 10250, 10255),  # containers: Docker, Kubernetes and its nodes
    *(2525, 4190),  # mail: submission, filters
    *(1080, 3128),  # proxies, which would take us further
    *(3389, 5900, 5901, 5985, 5986, 6000),  # other people's screens and shells
    *(1719, 1720, 1723, 2049, 3659, 4045, 5060, 5061, 6566, 10080),  # blocked by browsers, too
    *(6665, 6666, 6667, 6668, 6669, 6697),  # chat: IRC
)
"""Ports from 1024 up where no webhook receiver is, but a service that a request could harm.

None is among those that systems give out by themselves (from 32768 up). Sources: what these
services take by default, and the bad ports of the WHATWG Fetch standard, section 2.9.
"""


def _default_ports() -> Ports:
    edges = [1023, *sorted(DENIED_PORTS), MAX_PORT + 1]
    between = (range(low + 1, high) for low, high in pairwise(edges))
    return (range(443, 444), *(ports for ports in between if ports))


DEFAULT_PORTS: Final = _default_ports()
"""443, and from 1024 up all but those that are denied."""


def parse_ports(items: Sequence[str]) -> Ports:
    """Read ports and ranges of them, such as "443" and "8000-8999". Raises ValueError."""
    if not items:
        raise ValueError("names no port")
    return tuple(_parse_range(item) for item in items)


def write_ports(ports: Ports) -> str:
    """Write ports as `parse_ports` reads them, separated by commas."""
    return ", ".join(
        str(some.start) if len(some) == 1 else f"{some.start}-{some[-1]}" for some in ports
    )


def _parse_range(item: str) -> range:
    first, dash, last = item.partition("-")
    low = _parse_port(first)
    high = _parse_port(last) if dash else low
    if not 1 <= low <= high <= MAX_PORT:
        raise ValueError(
            f"{item!r} is not a port from 1 to {MAX_PORT}, or a range such as 8000-8999"
        )
    return range(low, high + 1)


def _parse_port(text: str) -> int:
    """Return a number, 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len("65535") else 0
