"""Which headers a lease becomes, and which leases become none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import RawProvider
from tests.support.calls import lease
from tests.support.values import replace

from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.secret import Secret
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.sign import check_lease, credential_headers
from tollhouse.families.google import GOOGLE
from tollhouse.providers import BUILT_IN, CredentialKind, CredentialSlot, Federation, Provider
from tollhouse.providers.azure import AZURE
from tollhouse.providers.openai import OPENAI

KEYED = [provider for provider in BUILT_IN if not provider.login_only]

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ORG = (("openai-organization", "org-1"), ("openai-project", "proj 1"))
BOTH = Provider(
    "both", GOOGLE, (), CredentialSlot("x-goog-api-key"), accepts=frozenset({"google", "key"})
)


class Tokens:
    def __init__(self, token: str | None) -> None:
        self.token = token

    async def get(self, secret: Secret) -> Secret:
        assert secret.reveal() == "sk-1"
        if self.token is None:
            raise CredentialUnavailable("Google does not answer.")
        return Secret(self.token)

    def refused(self, secret: Secret, token: Secret) -> bool:
        return False


def begin(lease: Lease, provider: Provider, **more: Any) -> Any:
    return credential_headers(
        Outgoing(provider, "h", "GET", "/", [], None, lease), [], "h", now=NOW, **more
    )


@pytest.mark.parametrize("provider", KEYED, ids=lambda provider: provider.name)
def test_a_key_is_put_on_without_waiting(provider: Provider) -> None:
    """Into the provider's own place; the coroutine never gives the loop away."""
    with pytest.raises(StopIteration) as done:
        begin(lease(), provider).send(None)
    assert done.value.value == [(provider.slot.header, provider.slot.prefix + "sk-1")]


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/anthropic/v1/messages?beta=true", "x-api-key"),
        ("/openai/v1/responses", "api-key"),
        ("/openai/anthropic/v1/messages", "api-key"),
        ("/anthropic", "api-key"),
    ],
)
async def test_a_place_that_goes_by_the_path(path: str, header: str) -> None:
    """Claude at Azure has its key somewhere else."""
    outgoing = Outgoing(AZURE, "h", "POST", path, [], b"", lease())
    assert await credential_headers(outgoing, [], "h", now=NOW) == [(header, "sk-1")]


@pytest.mark.parametrize(
    ("provider", "expected"), [(OPENAI, ORG), (BOTH, ())], ids=["openai", "another"]
)
async def test_whom_the_provider_charges(
    provider: Provider, expected: tuple[tuple[str, str], ...]
) -> None:
    """The headers are set for a provider that has them, and for no other."""
    found = await begin(lease(headers=(*ORG, ("x-evil", "1"))), provider)
    assert tuple(found[:-1]) == expected


@pytest.mark.parametrize("value", ["org\r\nx-evil: 1", "órg", "org\x7f", "org\t1"])
def test_a_value_that_is_no_header(value: str) -> None:
    """It is not sent, nor shown; a provider without the header does not mind."""
    bad = lease(headers=(("openai-organization", value),))
    with pytest.raises(CredentialUnavailable, match="openai-organization") as caught:
        check_lease(bad, OPENAI)
    assert value not in caught.value.why
    check_lease(bad, BOTH)


@pytest.mark.parametrize("kind", ["aws", "google"])
async def test_a_kind_that_the_provider_does_not_take(kind: CredentialKind) -> None:
    """Said with both kinds' names, before anything is done with it."""
    with pytest.raises(CredentialUnavailable, match=r"an AWS|a Google .*; openai takes an API key"):
        await begin(lease(kind=kind), OPENAI, tokens=Tokens("t"))


@pytest.mark.parametrize("changes", [{}, {"unsafe_plaintext": True}])
async def test_what_was_exchanged_goes_to_its_providers_hosts_alone(
    changes: dict[str, Any],
) -> None:
    """Whatever host a provider's entry has."""
    assert AZURE.exchange is not None
    federation = Federation(AZURE.exchange, "file", "token", "", {})
    provider = replace(AZURE, federation=federation, **changes)
    host = "ours.openai.azure.com" if changes else "ours.openai.azure.com.evil.com"
    outgoing = Outgoing(provider, host, "GET", "/", [], None, lease(kind="bearer"))
    with pytest.raises(CredentialUnavailable, match="to its provider's own hosts alone"):
        await credential_headers(outgoing, [], host, now=NOW)
    with pytest.raises(CredentialUnavailable, match="has no federation"):
        check_lease(lease(kind="bearer"), AZURE)


def test_each_built_in_takes_keys() -> None:
    """But one that takes a login alone. Its account's headers are among those that a workload may not send."""
    assert [one.name for one in BUILT_IN if one not in KEYED] == ["chatgpt"]
    for provider in BUILT_IN:
        assert provider.login_only or "key" in provider.accepts
        assert set(provider.account_headers.values()) <= provider.who_pays
    every = [pair for provider in BUILT_IN for pair in provider.account_headers.items()]
    assert len({name for name, _ in every}) == len(set(every)), "a field means one header"


async def test_a_service_account() -> None:
    """What was minted from it is put on, and told of."""
    told: list[Secret] = []
    found = await begin(lease(kind="google"), BOTH, tokens=Tokens("ya29.x"), minted=told.append)
    assert found == [("authorization", "Bearer ya29.x")]
    assert [secret.reveal() for secret in told] == ["ya29.x"]
    for tokens in (None, Tokens(None)):
        with pytest.raises(CredentialUnavailable):
            await begin(lease(kind="google"), BOTH, tokens=tokens)


async def test_nothing_is_sent_without_a_credential(raw: RawProvider, reach: Reach) -> None:
    """A lease of another kind ends the attempt before a connection is made."""
    async with reach(raw.port) as to:
        with pytest.raises(CredentialUnavailable):
            await to.send("GET", "/", body=None, lease=replace(lease(), kind="aws"))
    assert (raw.received, raw.connections) == ([], 0)


async def test_an_account_s_header_of_the_workload_is_replaced(
    raw: RawProvider, reach: Reach
) -> None:
    """Even if it came as far as here."""
    async with reach(raw.port, account_headers=OPENAI.account_headers) as to:
        given = [
            ("OpenAI-Organization", "org-of-the-workload"),
            ("x-amz-security-token", "t"),
            ("x-a", "b"),
        ]
        got = await to.send("GET", "/", given, None, lease=lease(headers=ORG[:1]))
        await got.read()
        await got.close()
    [request] = raw.received
    assert request.get("openai-organization") == ["org-1"]
    assert (request.get("x-a"), request.get("x-amz-security-token")) == (["b"], [])
