"""The cache against a store in memory, with a clock and timers that the test moves. Past 400 lines: one class."""

from __future__ import annotations

import asyncio
import gc
import threading
import types
from collections.abc import AsyncIterator

import pytest
from tests.credential.memory import MemoryStore
from tests.support.clock import Clock, settle

from tollhouse.credential.cache import KeyCache
from tollhouse.credential.entry import OUTCOMES, KeyState, KeyStatus
from tollhouse.credential.lease import CredentialUnavailable, Lease, NoKey, StoreAway

PATHS = ("projects/{project}/{provider}", "infrastructure/{provider}")
COMMON = "infrastructure/openai"
OWN = "projects/p1/openai"
CALL = ("openai", "acme", "p1")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({COMMON: ("sk-1", "1")})


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(store: MemoryStore, clock: Clock, bound_s: float = 5.0) -> KeyCache:
    return KeyCache(
        store,
        PATHS,
        "api_key",
        60.0,
        300.0,
        clock,
        bound_s=bound_s,
        jitter=lambda: 0.0,
        call_later=clock.call_later,
        place="secret",
    )


@pytest.fixture
async def cache(store: MemoryStore, clock: Clock) -> AsyncIterator[KeyCache]:
    cache = make(store, clock)
    yield cache
    store.gate.set()
    await cache.close()


def key_of(lease: Lease | None) -> str | None:
    return lease.secret.reveal() if lease else None


async def test_first_path_that_exists(cache: KeyCache, store: MemoryStore) -> None:
    """A project with a key of its own gets it; one without gets the common one, which is read once for all."""
    store.secrets["projects/p2/openai"] = ("sk-own", "7")
    assert cache.peek(*CALL) is None
    common = await cache.get(*CALL)
    assert (key_of(common), common.version, common.path) == ("sk-1", "1", COMMON)
    assert common.fingerprint == common.secret.fingerprint
    own = await cache.get("openai", "acme", "p2")
    assert (key_of(own), own.version, own.path) == ("sk-own", "7", "projects/p2/openai")
    other = await cache.get("openai", "acme", "p3")
    assert other is common
    assert store.reads[COMMON] == 1
    assert cache.peek(*CALL) is common


@pytest.mark.parametrize(
    ("paths", "found", "shared"),
    [
        (PATHS, COMMON, True),
        (PATHS, OWN, False),
        (("{tenant}/{provider}", "infrastructure/{provider}"), "acme/openai", False),
        (("{tenant}/{project}/{provider}",), "acme/p1/openai", False),
        (("keys/{provider}",), "keys/openai", True),
        # The path of one tenant that is the common one as well.
        (("{tenant}/{provider}", "acme/{provider}"), "acme/openai", True),
    ],
)
async def test_whether_other_tenants_use_a_key(
    store: MemoryStore, clock: Clock, paths: tuple[str, ...], found: str, shared: bool
) -> None:
    """By the template of its path; after a rotation, and of a key that is read for a person, too."""
    store.secrets = {found: ("sk-1", "1")}
    cache = KeyCache(store, paths, clock=clock, jitter=lambda: 0.0, call_later=clock.call_later)
    lease = await cache.get(*CALL)
    assert (lease.path, lease.shared) == (found, shared)
    store.secrets[found] = ("sk-2", "2")
    other = await cache.refused(lease)
    assert other is not None
    assert (key_of(other), other.shared) == ("sk-2", shared)
    await cache.close()


async def test_no_secret_anywhere_names_the_places(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """The refusal says where a key was looked for; it is remembered for 5 s and then looked for again."""
    store.secrets.clear()
    for _ in range(3):
        with pytest.raises(NoKey) as caught:
            await cache.get(*CALL)
        assert caught.value.why == f"There is no secret at secret/{OWN}, secret/{COMMON}."
    assert store.reads == {OWN: 1, COMMON: 1}
    store.secrets[COMMON] = ("sk-1", "1")
    await clock.pass_(5.1)
    assert key_of(await cache.get(*CALL)) == "sk-1"


async def test_one_read_for_many_calls(cache: KeyCache, store: MemoryStore) -> None:
    """A hundred calls that wait for a key cost one read of each path."""
    store.gate.clear()
    calls = [asyncio.create_task(cache.get(*CALL)) for _ in range(100)]
    await asyncio.to_thread(store.reading.acquire)
    store.gate.set()
    leases = await asyncio.gather(*calls)
    assert {id(lease) for lease in leases} == {id(leases[0])}
    assert store.reads == {OWN: 1, COMMON: 1}


async def test_a_call_that_leaves_does_not_end_the_read(
    cache: KeyCache, store: MemoryStore
) -> None:
    """The read that a cancelled call had begun goes on for the others."""
    store.gate.clear()
    first, second = (asyncio.create_task(cache.get(*CALL)) for _ in range(2))
    await asyncio.to_thread(store.reading.acquire)
    first.cancel()
    store.gate.set()
    assert key_of(await second) == "sk-1"
    assert first.cancelled()


async def test_refreshed_ahead_and_never_waited_for(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """After two thirds of refresh_s the key is read in the background; a new one is there without a call waiting."""
    await cache.get(*CALL)
    await clock.pass_(39.9)
    assert store.reads[COMMON] == 1
    store.secrets[COMMON] = ("sk-2", "2")
    assert key_of(cache.peek(*CALL)) == "sk-1"
    await clock.pass_(0.2)
    lease = cache.peek(*CALL)
    assert lease is not None
    assert (key_of(lease), lease.version) == ("sk-2", "2")
    for _ in range(40):
        await clock.pass_(15)
        assert cache.peek(*CALL) is not None


async def test_served_while_it_is_being_refreshed(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """A slow read does not make a call wait when the key's time ends under it; but only as long as a read may take."""
    await cache.get(*CALL)
    store.gate.clear()
    await clock.pass_(64.9, wait=False)
    assert key_of(cache.peek(*CALL)) == "sk-1"
    await clock.pass_(0.2, wait=False)
    assert cache.peek(*CALL) is None
    store.gate.set()
    await settle()
    assert key_of(cache.peek(*CALL)) == "sk-1"


async def test_same_key_stays_in_one_object(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """A read that finds the same key again keeps the lease; the same key in a new version keeps the Secret."""
    first = await cache.get(*CALL)
    await clock.pass_(41)
    assert cache.peek(*CALL) is first
    store.secrets[COMMON] = ("sk-1", "2")
    await clock.pass_(41)
    second = cache.peek(*CALL)
    assert second is not None
    assert second.version == "2"
    assert second.secret is first.secret


async def test_version_may_go_backwards(cache: KeyCache, store: MemoryStore, clock: Clock) -> None:
    """A secret that was deleted and made anew has version 1 again and another key: it is taken."""
    store.secrets[COMMON] = ("sk-5", "5")
    await cache.get(*CALL)
    store.secrets[COMMON] = ("sk-new", "1")
    await clock.pass_(41)
    assert key_of(cache.peek(*CALL)) == "sk-new"


async def test_stale_while_the_store_is_away(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """The last key serves refresh_s + stale_for_s, no call waits for it; then 503; and it comes back by itself."""
    await cache.get(*CALL)
    store.fail = {path: StoreAway("Vault is sealed.") for path in (OWN, COMMON)}
    for _ in range(35):
        await clock.pass_(10)
        assert key_of(cache.peek(*CALL)) == "sk-1"
    states = {status.path: status for status in cache.status()}
    assert states[COMMON].state == "stale"
    assert states[COMMON].error == "Vault is sealed."
    assert states[COMMON].age_s == pytest.approx(350)
    await clock.pass_(10.1)
    assert cache.peek(*CALL) is None
    with pytest.raises(StoreAway, match="Vault is sealed"):
        await cache.get(*CALL)
    store.fail.clear()
    await clock.pass_(15)
    assert key_of(cache.peek(*CALL)) == "sk-1"


async def test_away_is_asked_less_and_less_often(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """Retries in the background wait 1, 2, 4, 8, 15, 15 ... s."""
    await cache.get(*CALL)
    store.fail[COMMON] = StoreAway("away")
    await clock.pass_(40)
    seen = []
    for _ in range(60):
        before = store.reads[COMMON]
        await clock.pass_(1)
        if store.reads[COMMON] > before:
            seen.append(clock.now - 1040)
    assert seen == [1, 3, 7, 15, 30, 45, 60]


async def test_never_read_and_away_fails_at_once_for_a_moment(
    cache: KeyCache, store: MemoryStore
) -> None:
    """Calls in the second after a failed first read are refused without another read."""
    store.fail[OWN] = StoreAway("away")
    for _ in range(3):
        with pytest.raises(StoreAway, match="away"):
            await cache.get(*CALL)
    assert store.reads == {OWN: 1}


async def test_unknown_own_key_does_not_fall_to_the_common_one(
    cache: KeyCache, store: MemoryStore
) -> None:
    """A project's own path that can't be read, or may not be, is a refusal: the common key is not charged for it."""
    await cache.get("openai", "acme", "p2")
    store.fail[OWN] = StoreAway("away")
    store.fail["projects/p3/openai"] = CredentialUnavailable("denied")
    with pytest.raises(StoreAway, match="away"):
        await cache.get(*CALL)
    with pytest.raises(CredentialUnavailable, match="denied"):
        await cache.get("openai", "acme", "p3")


async def test_a_refusal_ends_the_key(cache: KeyCache, store: MemoryStore, clock: Clock) -> None:
    """A 403 ends the old value at that refresh; mended, it works again within seconds."""
    await cache.get(*CALL)
    store.fail[COMMON] = CredentialUnavailable("denied")
    await clock.pass_(41)
    assert cache.peek(*CALL) is None
    with pytest.raises(CredentialUnavailable, match="denied"):
        await cache.get(*CALL)
    reads = store.reads[COMMON]
    with pytest.raises(CredentialUnavailable):
        await cache.get(*CALL)
    assert store.reads[COMMON] == reads
    store.fail.clear()
    store.secrets[COMMON] = ("sk-3", "3")
    await clock.pass_(5.1)
    assert key_of(await cache.get(*CALL)) == "sk-3"


MALFORMED = {
    "html": ("<html><body>Sign in</body></html>", "space"),
    "two words": ("two words", "space"),
    "control character": ("sk-\x00-2", "printable"),
    "second line": ("sk-1\nsk-2", "line end"),
    "empty": ("", "empty"),
    "only a line end": ("\n", "empty"),
    "a number": (7, "not a string"),
    "an object": ({"key": "sk-2"}, "no field 'api_key'"),
    "half an object": ('{"key": ', "JSON object and is none"),
    "half a list": ('["sk-2"', "list of keys and is none"),
    "no keys": ([], "list of 0 keys"),
    "one bad of two": (["sk-2", "two words"], "Number 2"),
    "a service account that is none": ({"type": "service_account"}, "client_email"),
}


@pytest.mark.parametrize(("value", "why"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_version_is_refused_and_the_last_good_one_serves(
    cache: KeyCache,
    store: MemoryStore,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    value: object,
    why: str,
) -> None:
    """For refresh_s + stale_for_s, as in an outage; it is said and counted once a version; mended, it is taken at once."""
    await cache.get(*CALL)
    store.secrets[COMMON] = (value, "2")
    for _ in range(35):
        await clock.pass_(10)
        assert key_of(cache.peek(*CALL)) == "sk-1"
    status = {status.path: status for status in cache.status()}[COMMON]
    assert (status.state, status.version, status.versions_refused) == ("stale", "1", 1)
    assert why in status.error
    assert status.reads["malformed"] > 10
    ours = [record for record in caplog.records if record.name == "tollhouse.credential"]
    [said] = [record.getMessage() for record in ours if record.levelname == "ERROR"]
    assert said.startswith(
        f"version 2 of secret/{COMMON} is refused; version 1, key {cache.peek(*CALL).fingerprint}, "
    )  # type: ignore[union-attr]
    assert why in said
    store.secrets[COMMON] = (value, "3")
    await clock.pass_(10.1)
    assert cache.peek(*CALL) is None
    with pytest.raises(CredentialUnavailable, match=why.replace("(", r"\(")) as caught:
        await cache.get(*CALL)
    assert not isinstance(caught.value, StoreAway)
    await clock.pass_(15)
    assert {status.path: status for status in cache.status()}[COMMON].versions_refused == 2
    store.secrets[COMMON] = ("sk-4", "4")
    await clock.pass_(15)
    assert key_of(cache.peek(*CALL)) == "sk-4"


async def test_a_malformed_version_with_none_before(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """It is a refusal that says what is wrong; it does not lead to the common key; mended, it is taken within seconds."""
    store.secrets[OWN] = ("two words", "1")
    for _ in range(3):
        with pytest.raises(
            CredentialUnavailable, match=f"the secret at secret/{OWN} holds a space"
        ):
            await cache.get(*CALL)
    assert store.reads == {OWN: 1}
    with pytest.raises(CredentialUnavailable, match="holds a space"):
        await cache.read_now(OWN)
    store.secrets[OWN] = ("sk-own", "2")
    await clock.pass_(5.1)
    assert key_of(await cache.get(*CALL)) == "sk-own"


async def test_a_key_that_its_provider_can_do_nothing_with(
    store: MemoryStore, clock: Clock
) -> None:
    """Whoever knows the providers judges each key; one of the wrong kind is refused as a version too."""

    def judge(lease: Lease, provider: str) -> None:
        if lease.secret.reveal().startswith("aws"):
            raise CredentialUnavailable(f"{provider} takes an API key.")

    cache = KeyCache(
        store, PATHS, clock=clock, jitter=lambda: 0.0, call_later=clock.call_later, judge=judge
    )
    await cache.get(*CALL)
    store.secrets[COMMON] = ("aws-2", "2")
    await clock.pass_(100)
    assert key_of(cache.peek(*CALL)) == "sk-1"
    assert [status.error for status in cache.status()] == ["openai takes an API key.", ""]
    await cache.close()


async def test_a_refused_key_whose_new_version_is_malformed(
    cache: KeyCache, store: MemoryStore
) -> None:
    """Nothing else is to be had: the provider's refusal is told of, and the key stays for other calls."""
    lease = await cache.get(*CALL)
    store.secrets[COMMON] = ("two words", "2")
    assert await cache.refused(lease) is None
    assert cache.peek(*CALL) is lease
    assert cache.refusals() == {("openai", COMMON, lease.fingerprint): 1}


async def test_forget(cache: KeyCache, store: MemoryStore) -> None:
    """As if nothing had been read, refused or paused; what the alarm counted stays."""
    lease = await cache.get(*CALL)
    assert await cache.refused(lease) is None
    cache.forget()
    assert cache.status() == []
    assert cache.peek(*CALL) is None
    again = await cache.get(*CALL)
    assert [status.keys for status in cache.status() if status.path == COMMON] == [
        (KeyState(again.fingerprint),)
    ]
    assert await cache.refused(again) is None
    assert store.reads[COMMON] == 4
    assert cache.refusals() == {("openai", COMMON, lease.fingerprint): 2}


async def test_a_deleted_secret_ends_the_key(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """A deleted common key is gone at the next refresh; a deleted own key leads to the common one."""
    store.secrets[OWN] = ("sk-own", "1")
    assert key_of(await cache.get(*CALL)) == "sk-own"
    await cache.get("openai", "acme", "p2")
    del store.secrets[OWN]
    await clock.pass_(41)
    assert key_of(await cache.get(*CALL)) == "sk-1"
    store.secrets.clear()
    await clock.pass_(41)
    with pytest.raises(CredentialUnavailable, match="There is no secret"):
        await cache.get(*CALL)


async def test_an_own_key_is_found_without_restart(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """A key that is given to a project later is used from the next refresh on."""
    await cache.get(*CALL)
    store.secrets[OWN] = ("sk-own", "1")
    await clock.pass_(41)
    assert key_of(cache.peek(*CALL)) == "sk-own"


async def test_a_store_that_hangs_holds_a_call_for_bound_s(
    store: MemoryStore, clock: Clock
) -> None:
    """One whole bound for all paths of a call, and the loop goes on meanwhile."""
    cache = make(store, clock, bound_s=0.05)
    store.gate.clear()
    with pytest.raises(StoreAway, match=r"within 0\.05 s"):
        await cache.get(*CALL)
    store.gate.set()
    await cache.close()


async def test_refused_key_that_has_changed(cache: KeyCache, store: MemoryStore) -> None:
    """300 calls with the old key refused at once all get the new one, for a read or two."""
    lease = await cache.get(*CALL)
    store.secrets[COMMON] = ("sk-2", "2")
    again = await asyncio.gather(*(cache.refused(lease) for _ in range(300)))
    assert {key_of(other) for other in again} == {"sk-2"}
    assert store.reads[COMMON] <= 3
    late = await cache.refused(lease)
    assert key_of(late) == "sk-2"
    assert key_of(cache.peek(*CALL)) == "sk-2"


async def test_refused_does_not_trust_a_read_that_began_before(
    cache: KeyCache, store: MemoryStore
) -> None:
    """A refresh under way that still saw the old key is followed by another read."""
    lease = await cache.get(*CALL)
    while store.reading.acquire(blocking=False):
        pass
    store.gate.clear()
    first = asyncio.create_task(cache.refused(lease))
    await asyncio.to_thread(store.reading.acquire)
    store.secrets[COMMON] = ("sk-2", "2")
    second = asyncio.create_task(cache.refused(lease))
    await asyncio.sleep(0)
    store.gate.set()
    assert key_of(await second) == "sk-2"
    assert key_of(await first) in (None, "sk-2")


async def test_refused_key_that_has_not_changed(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """None; asked again within 10 s the store is left alone; the key goes on for others."""
    lease = await cache.get(*CALL)
    for _ in range(5):
        assert await cache.refused(lease) is None
    assert store.reads[COMMON] == 2
    assert cache.peek(*CALL) is lease
    await clock.pass_(10.1)
    assert await cache.refused(lease) is None
    assert store.reads[COMMON] == 3


async def test_refused_while_the_store_is_away(cache: KeyCache, store: MemoryStore) -> None:
    """None, and the key is kept: a provider's 401 during an outage of Vault must not end every other call."""
    lease = await cache.get(*CALL)
    store.fail[COMMON] = StoreAway("away")
    assert await cache.refused(lease) is None
    assert cache.peek(*CALL) is lease


async def test_status(cache: KeyCache, store: MemoryStore, clock: Clock) -> None:
    """Path, provider, state, version, fingerprint, age, error and what came of the reads: nothing else."""
    lease = await cache.get(*CALL)
    store.fail["infrastructure/anthropic"] = CredentialUnavailable("denied")
    with pytest.raises(CredentialUnavailable):
        await cache.get("anthropic", "acme", "p1")
    clock.now += 3
    reads = [
        {**dict.fromkeys(OUTCOMES, 0), outcome: 1} for outcome in ("refused", "value", "missing")
    ]
    assert cache.status() == [
        KeyStatus(
            "infrastructure/anthropic", "failed", "", (), None, "denied", "anthropic", reads[0], 3.0
        ),
        KeyStatus(
            COMMON, "fresh", "1", (KeyState(lease.fingerprint),), 3.0, "", "openai", reads[1]
        ),
        KeyStatus("projects/p1/anthropic", "missing", provider="anthropic", reads=reads[2]),
        KeyStatus(OWN, "missing", provider="openai", reads=reads[2]),
    ]


async def test_idle_keys_are_forgotten(cache: KeyCache, store: MemoryStore, clock: Clock) -> None:
    """A key that no call has used for an hour is read no more and is not kept."""
    await cache.get(*CALL)
    await clock.pass_(3700)
    reads = store.reads[COMMON]
    await clock.pass_(3600)
    assert store.reads[COMMON] == reads
    assert cache.status() == []
    assert key_of(await cache.get(*CALL)) == "sk-1"


async def test_a_project_that_is_no_name(cache: KeyCache, store: MemoryStore) -> None:
    """It is refused before anything is read, and does not fall to the common key."""
    with pytest.raises(CredentialUnavailable, match="project's name"):
        await cache.get("openai", "acme", "../p2")
    assert not store.reads


async def test_connect_and_tend(cache: KeyCache, store: MemoryStore, clock: Clock) -> None:
    """A login that fails says why; after one it is tended at the time that it asks for."""
    store.fail[""] = CredentialUnavailable("login refused")
    with pytest.raises(CredentialUnavailable, match="login refused"):
        await cache.connect()
    del store.fail[""]
    await cache.connect()
    await settle()
    assert store.tends == 1
    await clock.pass_(61)
    assert store.tends == 3


async def test_close_ends_everything(store: MemoryStore, clock: Clock) -> None:
    """No timer, no task, the login given back, no key kept; a call that comes later is refused."""
    cache = make(store, clock)
    await cache.get(*CALL)
    store.gate.clear()
    waiting = asyncio.create_task(cache.get("openai", "acme", "p2"))
    await asyncio.sleep(0)
    await cache.close()
    with pytest.raises(CredentialUnavailable):
        await waiting
    store.gate.set()
    reads = store.reads.total()
    await clock.pass_(200)
    assert store.closed
    assert store.reads.total() == reads
    assert cache.status() == []
    with pytest.raises(CredentialUnavailable, match="stopping"):
        await cache.get(*CALL)


async def test_refusals_keep_no_key_alive(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """After a rotation no object that the collector knows holds the old key, the exceptions of callers included."""
    old = "-".join(["sk", "old", "0123456789"])
    store.secrets[COMMON] = (old, "1")
    await cache.get(*CALL)
    store.fail[COMMON] = CredentialUnavailable("denied")
    del store.secrets[COMMON]
    await clock.pass_(41)
    with pytest.raises(CredentialUnavailable) as caught:
        await cache.get(*CALL)
    for thread in threading.enumerate():
        if thread.name == "tollhouse-credential":
            thread.join(5)
    gc.collect()
    # The store gives this very string out, so that whoever keeps the key refers to it.
    holders = [
        thing
        for thing in gc.get_referrers(old)
        if not isinstance(thing, types.FrameType | types.CoroutineType)
    ]
    assert caught.value.__context__ is None
    assert holders == []


@pytest.mark.parametrize("paths", [(), ("a/{model}",), ("../{provider}",)])
def test_templates_are_judged_at_once(store: MemoryStore, paths: tuple[str, ...]) -> None:
    """A template that is none is an error of the configuration, not of the first call."""
    with pytest.raises(ValueError, match=r"path|placeholder"):
        KeyCache(store, paths)


# Several keys in one secret


async def three(cache: KeyCache, store: MemoryStore) -> list[Lease]:
    store.secrets[COMMON] = (["sk-a", "sk-b", "sk-c"], "1")
    return [await cache.get(*CALL) for _ in range(3)]


async def test_several_keys_take_turns(cache: KeyCache, store: MemoryStore, clock: Clock) -> None:
    """Each call gets the next; all have the secret's version; a refresh that finds them again changes nothing."""
    leases = await three(cache, store)
    assert [key_of(lease) for lease in leases] == ["sk-a", "sk-b", "sk-c"]
    assert {lease.version for lease in leases} == {"1"}
    assert [cache.peek(*CALL) for _ in range(3)] == leases
    await clock.pass_(41)
    assert store.reads[COMMON] == 2
    assert all(
        now is before
        for now, before in zip([cache.peek(*CALL) for _ in range(3)], leases, strict=True)
    )


async def test_a_cooling_key_is_passed_over(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """The next one that is free takes its turns for as long as was said; then it takes them itself again."""
    a, b, c = await three(cache, store)
    assert cache.cooling(a, 7) in (b, c)
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-b", "sk-c"}
    assert cache.cooling(b, 20) is c
    assert {key_of(await cache.get(*CALL)) for _ in range(6)} == {"sk-c"}
    assert cache.cooling(c, 5) is None
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-c"}, "the one that is free first"
    await clock.pass_(7.1)
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-a", "sk-c"}
    await clock.pass_(13)
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-a", "sk-b", "sk-c"}


async def test_a_cooling_key_stays_cool_over_a_refresh(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """The pause is the key's, not the read's."""
    a, *_ = await three(cache, store)
    cache.cooling(a, 60)
    store.secrets[COMMON] = (["sk-a", "sk-d"], "2")
    await clock.pass_(41)
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-d"}


async def test_an_exhausted_key_is_tried_again_later(
    cache: KeyCache, store: MemoryStore, clock: Clock
) -> None:
    """An empty account is left alone for five minutes, and said in the status."""
    a, b, c = await three(cache, store)
    assert cache.exhausted(a) in (b, c)
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-b", "sk-c"}
    [status] = [status for status in cache.status() if status.path == COMMON]
    assert status.keys == (
        KeyState(a.fingerprint, "money", 300.0),
        KeyState(b.fingerprint),
        KeyState(c.fingerprint),
    )
    for _ in range(31):
        await clock.pass_(10)
        cache.peek(*CALL)
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-a", "sk-b", "sk-c"}


async def test_one_key_has_no_other(cache: KeyCache) -> None:
    """A single key is given on while it cools: the provider's refusal is the client's."""
    lease = await cache.get(*CALL)
    assert cache.cooling(lease, 30) is None
    assert cache.exhausted(lease) is None
    assert cache.peek(*CALL) is lease


async def test_a_lease_of_another_store_has_no_other(cache: KeyCache) -> None:
    """A path that the cache has forgotten, or never had, gives nothing."""
    lease = await cache.get(*CALL)
    assert cache.cooling(Lease(lease.secret, "1", lease.fingerprint, "elsewhere/openai"), 1) is None


async def test_one_of_several_is_refused(cache: KeyCache, store: MemoryStore, clock: Clock) -> None:
    """The secret is read again first; a key that it still has is left alone for a minute, and another one is given."""
    a, b, c = await three(cache, store)
    assert await cache.refused(a) in (b, c)
    assert store.reads[COMMON] == 2
    assert await cache.refused(a) in (b, c)
    assert store.reads[COMMON] == 2
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-b", "sk-c"}
    await clock.pass_(30)
    await clock.pass_(31)
    assert {key_of(cache.peek(*CALL)) for _ in range(6)} == {"sk-a", "sk-b", "sk-c"}


async def test_all_of_several_are_rotated(cache: KeyCache, store: MemoryStore) -> None:
    """What is given instead of a refused key is of the new secret, not another old key."""
    a, *_ = await three(cache, store)
    store.secrets[COMMON] = (["sk-x", "sk-y"], "2")
    assert key_of(await cache.refused(a)) in ("sk-x", "sk-y")
    assert {key_of(cache.peek(*CALL)) for _ in range(4)} == {"sk-x", "sk-y"}
