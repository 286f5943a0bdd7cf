"""Name lookup."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
import pytest_asyncio

from signalpost.domain.outcome import Outcome
from signalpost.sender import resolver as resolver_module
from signalpost.sender.failure import SendFailed
from signalpost.sender.resolver import Resolver
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import NAME, webhook
from tests.sender.names import NameServer
from tests.sender.receivers import OK, Receivers, answering


class Monotonic:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest_asyncio.fixture
async def resolver(names: NameServer, monotonic: Monotonic) -> AsyncIterator[Resolver]:
    made = Resolver([names.address], monotonic=monotonic)
    yield made
    await made.aclose()


async def failure(resolver: Resolver, host: str) -> SendFailed:
    with pytest.raises(SendFailed) as caught:
        await resolver.resolve(host)
    return caught.value


async def test_a_name_has_the_addresses_of_both_families(
    resolver: Resolver, names: NameServer
) -> None:
    names.zone["both.example"] = ["8.8.8.8", "8.8.4.4", "2606:4700::1"]
    found = await resolver.resolve("both.example")
    assert sorted(map(str, found)) == ["2606:4700::1", "8.8.4.4", "8.8.8.8"]


async def test_an_alias_leads_to_the_final_addresses(resolver: Resolver, names: NameServer) -> None:
    names.zone["alias.example"] = ["cname:final.internal", "10.0.0.5"]
    assert await resolver.resolve("alias.example") == [ip_address("10.0.0.5")]


async def test_localhost_is_loopback_without_a_question(
    resolver: Resolver, names: NameServer
) -> None:
    names.zone["localhost"] = ["8.8.8.8"]
    found = await resolver.resolve("localhost")
    assert found == [ip_address("127.0.0.1"), ip_address("::1")]
    assert not names.asked


@pytest.mark.parametrize(
    ("zone", "code"),
    [
        ("NXDOMAIN", "NAME_NOT_FOUND"),
        ([], "NO_ADDRESS"),
        ("SERVFAIL", "DNS_SERVER_FAILED"),
        ("REFUSED", "DNS_SERVER_FAILED"),
    ],
)
async def test_failures_are_told_apart(
    sender: HttpSender, names: NameServer, zone: list[str] | str, code: str
) -> None:
    names.zone["bad.example"] = zone
    result = await sender.send(webhook("https://bad.example/"))
    assert (result.outcome, result.error_code) == (Outcome.DNS_FAILED, code)
    assert result.error_message
    assert result.remote_address == ""
    assert result.timings.dns is not None
    assert result.timings.connect is None


async def test_a_lookup_ends_by_itself(
    resolver: Resolver, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "LOOKUP_SECONDS", 0.2)
    names.zone["silent.example"] = None
    failed = await failure(resolver, "silent.example")
    assert (failed.outcome, failed.code) == (Outcome.DNS_FAILED, "DNS_TIMEOUT")


async def test_an_answer_is_kept_for_a_while_and_then_asked_for_again(
    resolver: Resolver, names: NameServer, monotonic: Monotonic
) -> None:
    names.zone[NAME] = ["8.8.8.8"]
    assert await resolver.resolve(NAME) == [ip_address("8.8.8.8")]
    asked = names.asked[NAME]
    names.zone[NAME] = ["8.8.4.4"]
    monotonic.now = 4.9
    assert await resolver.resolve(NAME) == [ip_address("8.8.8.8")]
    assert names.asked[NAME] == asked
    monotonic.now = 5.0
    assert await resolver.resolve(NAME) == [ip_address("8.8.4.4")]


async def test_a_failure_is_kept_for_a_moment_only(
    resolver: Resolver, names: NameServer, monotonic: Monotonic
) -> None:
    assert (await failure(resolver, "new.example")).code == "NAME_NOT_FOUND"
    names.zone["new.example"] = ["8.8.8.8"]
    monotonic.now = 0.9
    assert (await failure(resolver, "new.example")).code == "NAME_NOT_FOUND"
    monotonic.now = 1.0
    assert await resolver.resolve("new.example") == [ip_address("8.8.8.8")]


async def test_concurrent_lookups_of_a_name_ask_once(resolver: Resolver, names: NameServer) -> None:
    await asyncio.gather(*(resolver.resolve(NAME) for _ in range(20)))
    assert names.asked[NAME] == 2  # A and AAAA


async def test_one_who_gives_up_does_not_end_the_lookup_of_others(
    resolver: Resolver, names: NameServer
) -> None:
    impatient = asyncio.create_task(resolver.resolve(NAME))
    patient = asyncio.create_task(resolver.resolve(NAME))
    await names.until_asked(NAME)
    impatient.cancel()
    assert await patient == [ip_address("127.0.0.1")]
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_names_that_never_resolve_do_not_delay_another(
    sender: HttpSender, receivers: Receivers, names: NameServer, tls: ssl.SSLContext
) -> None:
    dead = [f"dead{number}.example" for number in range(100)]
    names.zone |= dict.fromkeys(dead)
    receiver = await receivers.start(answering(OK), tls=tls)
    waiting = [asyncio.create_task(sender.send(webhook(f"https://{name}/"))) for name in dead]
    await names.until_asked(*dead)
    result = await sender.send(webhook(f"https://{NAME}:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
