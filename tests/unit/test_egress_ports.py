import pytest

from signalpost.domain.address import EgressPolicy
from signalpost.domain.egress_ports import DEFAULT_PORTS, DENIED_PORTS, parse_ports, write_ports

FIRST_EPHEMERAL_PORT = 32768


def test_without_a_list_443_and_harmless_ports_from_1024_up_are_allowed() -> None:
    policy = EgressPolicy()
    allowed = {port for port in range(-1, 70_000) if policy.permits_port(port)}
    assert allowed == {443, *range(1024, 65536)} - set(DENIED_PORTS)


@pytest.mark.parametrize(
    "port", [0, 1, 22, 25, 80, 442, 444, 587, 1023, 3306, 5432, 6379, 9200, 11211, 27017, 65536]
)
def test_other_services_are_out_of_reach(port: int) -> None:
    assert not EgressPolicy().permits_port(port)


@pytest.mark.parametrize("port", [443, 1024, 3000, 5000, 8000, 8080, 8443, 9443, 65535])
def test_where_receivers_are_is_within_reach(port: int) -> None:
    assert EgressPolicy().permits_port(port)


def test_no_denied_port_is_one_that_a_system_gives_out_by_itself() -> None:
    assert all(1024 <= port < FIRST_EPHEMERAL_PORT for port in DENIED_PORTS)
    assert len(set(DENIED_PORTS)) == len(DENIED_PORTS)


def test_ports_are_written_as_they_are_read() -> None:
    for ports in (DEFAULT_PORTS, (range(443, 444), range(8000, 9000))):
        assert parse_ports(write_ports(ports).split(", ")) == ports
