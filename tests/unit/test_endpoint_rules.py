from ipaddress import ip_network

from signalpost.domain.address import EgressPolicy
from signalpost.subscriptions.endpoints import EndpointRules

PRIVATE = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def wrong(rules: EndpointRules, uri: str = "https://hooks.example.com/") -> list[str]:
    found = rules.violations(uri, headers={}, allowed_ip_ranges=PRIVATE)
    return [violation.field for violation in found]


def test_ranges_are_judged_by_what_the_operator_allows_at_the_moment() -> None:
    rules = EndpointRules(policy=EgressPolicy(), dev=False)
    assert wrong(rules) == ["subscription.allowed_ip_ranges"]
    rules.policy = EgressPolicy(allowed=(ip_network("10.9.0.0/16"),))
    assert wrong(rules) == []


def test_of_an_address_the_ranges_say_no_more_than_that_it_is_outside() -> None:
    rules = EndpointRules(policy=EgressPolicy(), dev=False)
    for address in ("10.0.0.1", "8.8.8.8"):
        assert wrong(rules, f"https://{address}/") == [
            "subscription.endpoint_uri",
            "subscription.allowed_ip_ranges",
        ]
