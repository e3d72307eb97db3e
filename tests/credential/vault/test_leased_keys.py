"""Keys under a lease, by a real login to OpenBao and its policies; what the AWS engine answers is played."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support.aws_engine import AwsEngine, aws_engine
from tests.support.clock import Clock
from tests.support.openbao import POLICY, OpenBao

from tollhouse.credential.federation.federated_keys import Federated, place_of
from tollhouse.credential.federation.subject import SubjectTokens
from tollhouse.credential.lease import CredentialUnavailable, Lease, StoreAway
from tollhouse.credential.vault.dynamic_secrets import DynamicSecrets
from tollhouse.credential.vault.leased_keys import LeasedKeys
from tollhouse.credential.vault.reader import AppRole, VaultReader
from tollhouse.providers import VaultRole

ROLE = VaultRole("aws/creds/caller")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(openbao: OpenBao) -> Iterator[AwsEngine]:
    lines = 'path "aws/*" { capabilities = ["read", "update"] } path "sys/leases/*" { capabilities = ["update"] }'
    openbao.api("PUT", "sys/policies/acl/tollhouse", {"policy": POLICY + lines})
    with aws_engine(openbao) as made:
        yield made


@pytest.fixture
def reader(openbao: OpenBao, engine: AwsEngine, clock: Clock) -> Iterator[VaultReader]:
    login = AppRole(openbao.role_id_file, openbao.secret_id_file)
    made = VaultReader(engine.address, login, timeout_s=5.0, clock=clock, jitter=lambda: 0.0)
    yield made
    made.close()


@pytest.fixture
def trouble() -> list[CredentialUnavailable]:
    """Ends attempts whose keys were made already."""
    return []


@pytest.fixture
async def keys(
    reader: VaultReader, clock: Clock, trouble: list[CredentialUnavailable]
) -> AsyncIterator[Federated]:
    async def settles(seconds: float) -> None:
        if trouble:
            raise trouble.pop()
        await clock.sleep(seconds)

    place = place_of("one", leased=True)
    leased = LeasedKeys(ROLE, DynamicSecrets(reader), place, 5.0, sleep=settles)
    made = Federated(
        {},
        SubjectTokens(None, 5.0),
        leased={"one": leased},
        clock=clock,
        jitter=lambda: 0.0,
        call_later=clock.call_later,
    )
    yield made
    await made.close()


def key_of(lease: Lease) -> str:
    return lease.secret.reveal().partition("OFTHETESTS")[2].partition('"')[0]


async def test_a_lease_is_renewed_until_it_may_live_no_longer(
    keys: Federated, engine: AwsEngine, clock: Clock
) -> None:
    """Then there are new keys, which are used when AWS knows them. The lease before is kept for the calls that are under way,
    and given back with the next one."""
    first = await keys.get("one")
    await clock.pass_(2881)
    assert engine.renewed == [(engine.made[0], 3600)]
    assert await keys.get("one") is first
    engine.longest_s = 600
    await clock.pass_(2881)
    second = await keys.get("one")
    assert (key_of(first), key_of(second)) == ("1", "2")
    assert clock.slept == [10.0]
    assert engine.revoked == []
    await clock.pass_(2881)
    assert key_of(await keys.get("one")) == "3"
    assert engine.revoked == [engine.made[0]]
    await keys.close()
    assert sorted(engine.revoked) == sorted(engine.made)


async def test_attempts_that_fail_give_back_what_they_made(
    keys: Federated, engine: AwsEngine, clock: Clock, trouble: list[CredentialUnavailable]
) -> None:
    """The lease that serves meanwhile is not revoked, however many fail."""
    first = await keys.get("one")
    engine.longest_s = 600
    trouble += [StoreAway("away")] * 3
    await clock.pass_(2881)
    assert await keys.get("one") is first
    await clock.pass_(60)
    assert trouble == []
    assert key_of(await keys.get("one")) == "5"
    assert engine.revoked == engine.made[1:4]


async def test_new_keys_wait_for_no_revocation(
    keys: Federated, engine: AwsEngine, clock: Clock
) -> None:
    """One that hangs goes on behind them, and is over when the keys are closed."""
    engine.may_revoke.clear()
    lease: Lease | None = await keys.get("one")
    for number in "234":
        clock.advance(16)
        assert lease is not None
        lease = await keys.refused(lease)
        assert lease is not None
        assert key_of(lease) == number
    assert engine.revoked == []
    engine.may_revoke.set()
    await keys.close()
    assert sorted(engine.revoked) == sorted(engine.made)


async def test_vault_is_away(keys: Federated, engine: AwsEngine, clock: Clock) -> None:
    """The keys serve to their end, and the first call behind the outage has new ones."""
    first = await keys.get("one")
    engine.away = True
    await clock.pass_(3500)
    assert await keys.get("one") is first
    await clock.pass_(80)
    with pytest.raises(StoreAway):
        await keys.get("one")
    [status] = keys.status()
    assert (status.path, status.state, status.method) == (
        "lease:one",
        "failed",
        "lease (aws/creds/caller)",
    )
    assert "trouble of its own (500)" in status.error
    # Vault has deleted the user by now.
    engine.away, engine.longest_s = False, 0
    await clock.pass_(15)
    assert key_of(await keys.get("one")) == "2"
    assert clock.slept == []


async def test_a_lease_ends_with_the_login_that_it_was_asked_with(
    keys: Federated, engine: AwsEngine, openbao: OpenBao, clock: Clock
) -> None:
    """Vault revokes it then, so it is used no longer than the login lives, and another login renews it no more."""
    openbao.set_role(token_ttl="20m", token_max_ttl="20m")
    await keys.get("one")
    [status] = keys.status()
    assert status.expires_s is not None
    assert 1195 <= status.expires_s <= 1200
    openbao.revoke_tokens()
    await clock.pass_(1000)
    assert key_of(await keys.get("one")) == "2"


async def test_keys_that_aws_does_not_know_yet(
    keys: Federated, engine: AwsEngine, clock: Clock
) -> None:
    """A refusal of young keys makes no further user; one of older keys does."""
    first = await keys.get("one")
    assert await keys.refused(first) is None
    assert len(engine.made) == 1
    clock.advance(16)
    second = await keys.refused(first)
    assert second is not None
    assert key_of(second) == "2"


async def test_an_engine_that_is_not_there(openbao: OpenBao) -> None:
    """OpenBao itself has none."""
    line = 'path "aws/*" { capabilities = ["read"] }'
    openbao.api("PUT", "sys/policies/acl/tollhouse", {"policy": POLICY + line})
    login = AppRole(openbao.role_id_file, openbao.secret_id_file)
    reader = VaultReader(openbao.address, login, timeout_s=5.0)
    try:
        with pytest.raises(CredentialUnavailable, match="there is no AWS engine at aws"):
            DynamicSecrets(reader).read(ROLE)
        assert DynamicSecrets(reader).allowed(ROLE)
        assert not DynamicSecrets(reader).allowed(VaultRole("aws/sts/caller"))
    finally:
        reader.close()
