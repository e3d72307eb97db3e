"""Access tokens, kept: one minting at a time, ahead of their end, and none while nobody wants one."""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import dataclass, field

import pytest
from tests.support.clock import Clock, settle

from tollhouse.credential.cloud.google import AccessTokens, Minted
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret

ACCOUNT = Secret("an account", ())
LIFE_S = 3600.0


@dataclass
class Mint:
    """An `Endpoint`. ``fail`` is raised while it is set; a minting waits while ``gate`` is closed."""

    fail: Exception | None = None
    life_s: float = LIFE_S
    minted: list[Secret] = field(default_factory=list)
    asked: list[Secret] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    async def mint(self, account: Secret) -> Minted:
        self.asked.append(account)
        await self.gate.wait()
        if self.fail is not None:
            raise type(self.fail)(*self.fail.args)
        self.minted.append(Secret(f"ya29.{len(self.minted)}"))
        return Minted(self.minted[-1], self.life_s)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mint() -> Mint:
    return Mint()


def tokens_of(mint: Mint, clock: Clock, limit: int = 1000) -> AccessTokens:
    return AccessTokens(mint, clock, jitter=lambda: 0.0, call_later=clock.call_later, limit=limit)


@pytest.fixture
def tokens(mint: Mint, clock: Clock) -> AccessTokens:
    return tokens_of(mint, clock)


async def test_one_minting_for_all(tokens: AccessTokens, mint: Mint) -> None:
    """However many wait, it is asked for once; whoever comes later waits for nothing."""
    mint.gate.clear()
    waiting = [asyncio.create_task(tokens.get(ACCOUNT)) for _ in range(100)]
    await asyncio.sleep(0)
    mint.gate.set()
    found = await asyncio.gather(*waiting)
    assert {token.reveal() for token in found} == {"ya29.0"}
    mint.gate.clear()
    assert await tokens.get(ACCOUNT) is found[0]
    assert len(mint.asked) == 1
    mint.gate.set()


async def test_a_caller_that_leaves_does_not_end_it(tokens: AccessTokens, mint: Mint) -> None:
    """The others get their token."""
    mint.gate.clear()
    first, second = (
        asyncio.create_task(tokens.get(ACCOUNT)),
        asyncio.create_task(tokens.get(ACCOUNT)),
    )
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    mint.gate.set()
    assert (await second).reveal() == "ya29.0"
    assert len(mint.asked) == 1


async def test_minted_ahead(tokens: AccessTokens, mint: Mint, clock: Clock) -> None:
    """At three quarters of its life there is a new one, and no call waited for it."""
    await tokens.get(ACCOUNT)
    await clock.pass_(0.7 * LIFE_S)
    assert (await tokens.get(ACCOUNT)).reveal() == "ya29.0"
    mint.gate.clear()
    await clock.pass_(0.1 * LIFE_S, wait=False)
    assert (await tokens.get(ACCOUNT)).reveal() == "ya29.0"
    mint.gate.set()
    await settle()
    assert (await tokens.get(ACCOUNT)).reveal() == "ya29.1"
    assert len(mint.asked) == 2


async def test_nobody_wants_it_any_more(tokens: AccessTokens, mint: Mint, clock: Clock) -> None:
    """An account that no call uses is forgotten, its key and its token with it."""
    account = Secret("an account that goes", ())
    await tokens.get(account)
    await clock.pass_(10 * LIFE_S)
    assert len(mint.asked) == 1
    assert repr(tokens) == "<AccessTokens of 0 accounts>"
    mint.asked.clear()
    gc.collect()
    assert not [
        one for one in gc.get_referrers(account) if isinstance(one, dict) and "account" not in one
    ]


async def test_away_while_one_is_valid(
    tokens: AccessTokens, mint: Mint, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint is away: the old token serves to its end, and not a call waits; then there is none."""
    await tokens.get(ACCOUNT)
    mint.fail = StoreAway("Away.")
    with caplog.at_level(logging.INFO):
        for _ in range(9):
            await clock.pass_(0.1 * LIFE_S)
            assert (await tokens.get(ACCOUNT)).reveal() == "ya29.0"
        assert "the one there is serves on. Away." in caplog.text
        await clock.pass_(0.1 * LIFE_S)
        with pytest.raises(StoreAway, match="Away"):
            await tokens.get(ACCOUNT)
        mint.fail = None
        await clock.pass_(20)
        assert (await tokens.get(ACCOUNT)).reveal() == "ya29.1"
        assert "has an access token again" in caplog.text


async def test_refused_account_ends_its_token(
    tokens: AccessTokens, mint: Mint, clock: Clock
) -> None:
    """An account whose key was deleted: the token of it that is left is not used on."""
    await tokens.get(ACCOUNT)
    await clock.pass_(0.7 * LIFE_S)
    await tokens.get(ACCOUNT)
    mint.fail = CredentialUnavailable("Refused.")
    await clock.pass_(0.1 * LIFE_S)
    with pytest.raises(CredentialUnavailable, match="Refused") as caught:
        await tokens.get(ACCOUNT)
    assert not isinstance(caught.value, StoreAway)


@pytest.mark.parametrize("failure", [StoreAway("No."), CredentialUnavailable("No.")])
async def test_failures_are_remembered(
    tokens: AccessTokens,
    mint: Mint,
    clock: Clock,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For longer each time; calls are refused meanwhile without asking, with an exception of their own each."""
    mint.fail = failure
    asked = []
    raised = []
    for _ in range(120):
        with pytest.raises(type(failure)) as caught:
            await tokens.get(ACCOUNT)
        raised.append(caught.value)
        asked.append(len(mint.asked))
        await clock.pass_(0.5)
    assert asked[0] == 1
    assert 4 <= asked[-1] <= 10
    assert len({id(error) for error in raised}) == len(raised)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_a_token_that_the_provider_refuses(
    tokens: AccessTokens, mint: Mint, clock: Clock
) -> None:
    """It is replaced once for all calls that carried it; a new one that is refused as well is believed for 10 s."""
    old = await tokens.get(ACCOUNT)
    assert tokens.refused(ACCOUNT, old)
    assert tokens.refused(ACCOUNT, old)
    new = await tokens.get(ACCOUNT)
    assert tokens.refused(ACCOUNT, old)
    assert (new.reveal(), len(mint.asked)) == ("ya29.1", 2)
    assert not tokens.refused(ACCOUNT, new)
    assert await tokens.get(ACCOUNT) is new
    clock.now += 11
    assert tokens.refused(ACCOUNT, new)
    assert (await tokens.get(ACCOUNT)).reveal() == "ya29.2"


async def test_accounts_are_apart(tokens: AccessTokens, mint: Mint) -> None:
    """Each has its own, also when fingerprints are the same."""
    other = Secret("another account", ())
    object.__setattr__(other, "fingerprint", ACCOUNT.fingerprint)
    assert (await tokens.get(ACCOUNT)).reveal() == "ya29.0"
    assert (await tokens.get(other)).reveal() == "ya29.1"
    assert (await tokens.get(Secret("an account", ()))).reveal() == "ya29.0"


async def test_a_bounded_number(mint: Mint, clock: Clock) -> None:
    """The one that was not asked for for the longest makes room."""
    tokens = tokens_of(mint, clock, limit=2)
    accounts = [Secret(f"account {number}", ()) for number in range(3)]
    for number in (0, 1, 0, 2, 0):
        await tokens.get(accounts[number])
    assert repr(tokens) == "<AccessTokens of 2 accounts>"
    assert len(mint.asked) == 3
    await tokens.get(accounts[1])
    assert len(mint.asked) == 4


async def test_a_short_life(tokens: AccessTokens, mint: Mint, clock: Clock) -> None:
    """A token of some seconds serves for most of them."""
    mint.life_s = 8.0
    first = await tokens.get(ACCOUNT)
    clock.now += 5
    assert await tokens.get(ACCOUNT) is first
    clock.now += 2
    assert await tokens.get(ACCOUNT) is not first


async def test_close(tokens: AccessTokens, mint: Mint, clock: Clock) -> None:
    """Nothing is minted any more, and what waited is let go."""
    await tokens.get(ACCOUNT)
    mint.gate.clear()
    waiting = asyncio.create_task(tokens.get(Secret("another", ())))
    await asyncio.sleep(0)
    await tokens.close()
    assert mint.closed
    with pytest.raises(CredentialUnavailable):
        await waiting
    mint.gate.set()
    with pytest.raises(CredentialUnavailable, match="stopping"):
        await tokens.get(ACCOUNT)
    await clock.pass_(LIFE_S)
    assert len(mint.asked) <= 2


async def test_repr_hides(tokens: AccessTokens) -> None:
    """Neither the account nor the token shows."""
    token = await tokens.get(ACCOUNT)
    shown = f"{tokens!r} {tokens.__dict__!r} {token!r}"
    assert "ya29" not in shown
    assert "an account" not in shown
