"""How many retries the calls to a provider may make."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import Clock

from tollhouse.dispatch.retry_budget import ProviderRetries, RetryBudget


def taken(budget: RetryBudget, times: int) -> int:
    """How many of so many retries may be made."""
    return sum(budget.take() for _ in range(times))


def called(budget: RetryBudget, times: int = 1) -> RetryBudget:
    for _ in range(times):
        budget.call()
    return budget


def test_a_tenant_alone() -> None:
    """10 retries in 10 s are always there; above that a tenth of the calls."""
    clock = Clock()
    budget = called(ProviderRetries(clock).of("acme"))
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    called(budget, 119)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    clock.now += 11
    assert budget.take()


def test_a_worker_of_many() -> None:
    """It has one retry in 10 s at the least."""
    assert taken(called(ProviderRetries(Clock(), a_second=1 / 64).of("acme")), 5) == 1


def test_a_storm_of_one_tenant() -> None:
    """Others have the tenth of their own calls as if it were not there, and beyond that their shares of what the provider gets."""
    clock = Clock()
    retries = ProviderRetries(clock)
    storm, quiet, busy = (retries.of(name) for name in ("storm", "quiet", "busy"))
    called(storm, 5_000)
    called(quiet, 9)
    called(busy, 300)
    assert taken(storm, 5_000) == 500
    assert taken(busy, 50) == 30
    # A tenth of all calls is 530, and nobody has used the last one of it.
    assert taken(quiet, 5) == 0
    clock.now += 11
    for one in (storm, quiet, busy):
        called(one)
    # 10 are shared by three, and one is over.
    assert [taken(one, 20) for one in (storm, quiet, busy)] == [4, 3, 3]


def test_the_tenths_of_many_small_tenants() -> None:
    """Nobody has called ten times: what their calls give together is for one retry each, up to a tenth of all."""
    retries = ProviderRetries(Clock())
    small = [retries.of(f"tenant-{number}") for number in range(200)]
    for one in small:
        called(one, 9)
    assert [taken(one, 5) for one in small] == [1] * 180 + [0] * 20


def test_a_tenant_that_calls_when_all_is_used() -> None:
    """It has the tenth of its own calls, and its share of the rest when the others' retries are 10 s old."""
    clock = Clock()
    retries = ProviderRetries(clock)
    storm, late = retries.of("storm"), retries.of("late")
    assert taken(called(storm), 20) == 10
    clock.now += 5
    assert taken(called(late, 19), 20) == 1
    clock.now += 6
    assert taken(late, 20) == 9


def test_more_tenants_than_are_counted() -> None:
    """Those beyond share one part, and what is kept of them is given back."""
    clock = Clock()
    retries = ProviderRetries(clock)
    for number in range(5_000):
        called(retries.of(f"tenant-{number}"), 10)
    assert taken(retries.of("tenant-1"), 9) == 1
    assert taken(retries.of("tenant-4998"), 9) == 9
    clock.now += 11
    assert taken(called(retries.of("tenant-4999")), 20) == 10


TENANTS = st.sampled_from("abcd")


@given(
    st.lists(
        st.tuples(TENANTS, st.sampled_from(["call", "take"]), st.integers(1, 150))
        | st.integers(1, 5),
        max_size=40,
    )
)
def test_the_bound(events: list[tuple[str, str, int] | int]) -> None:
    """A retry is a tenant's own tenth, or it leaves all retries within the provider's bound. So all of them pass the bound only
    by tenths of calls that came, or ended, after others' retries beyond theirs."""
    clock = Clock()
    retries = ProviderRetries(clock)
    past: deque[tuple[float, str, str]] = deque()

    def count(what: str, tenant: str = "") -> int:
        return sum(1 for _, who, did in past if did == what and tenant in ("", who))

    for event in events:
        if isinstance(event, int):
            clock.now += event
            while past and past[0][0] <= clock.now - 10:
                past.popleft()
            continue
        tenant, what, times = event
        for _ in range(times):
            if what == "call":
                retries.of(tenant).call()
            elif not retries.of(tenant).take():
                # Nothing was refused that is the tenant's own.
                assert (count("take", tenant) + 1) * 10 > count("call", tenant)
                break
            past.append((clock.now, tenant, what))
            if what == "take" and count("take", tenant) * 10 > count("call", tenant):
                assert count("take") <= max(count("call") / 10, 10)


@given(
    st.dictionaries(TENANTS, st.integers(1, 120), min_size=1),
    st.lists(st.tuples(TENANTS, st.integers(1, 30)), max_size=12),
)
def test_fairness(calls: dict[str, int], storms: list[tuple[str, int]]) -> None:
    """In whichever order they ask, no tenant gets less than its tenth and an equal share of the rest, and all together get the
    bound."""
    retries = ProviderRetries(Clock())
    for tenant, times in calls.items():
        called(retries.of(tenant), times)
    bound = max(sum(calls.values()) // 10, 10)
    share = (bound - sum(times // 10 for times in calls.values())) // len(calls)
    got = dict.fromkeys(calls, 0)
    for tenant, times in storms:
        if tenant in calls:
            got[tenant] += taken(retries.of(tenant), times)
    for tenant in calls:
        got[tenant] += taken(retries.of(tenant), 50)
        assert got[tenant] >= calls[tenant] // 10 + share
    assert sum(got.values()) == bound


def test_a_pause_of_many_tenants() -> None:
    """What they did before it counts no more."""
    clock = Clock()
    retries = ProviderRetries(clock)
    for _ in range(10):
        for number in range(50):
            called(retries.of(f"tenant {number}"), 10)
        clock.now += 1
    clock.now += 30
    # Nobody else has a share any more.
    assert taken(called(retries.of("tenant 1")), 20) == 10
