"""What one Redis server says of itself, and whether it can keep a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tollhouse.check.finding import Clock, Finding

CLOCK_APART_S: Final = 5.0
"""Windows and resets follow Redis's clock, tokens' expiry ours: further apart, one of them is visibly wrong."""

Facts = dict[str, Any]


async def facts_of(client: Redis, clock: Clock) -> Facts:
    """``client`` decodes answers. ``ahead`` is in seconds; what the server or its ACL does not tell is None. Raises what
    redis-py raises when it does not answer PING, TIME or EVAL."""
    await client.ping()
    before = clock()
    seconds, micros = await client.time()
    facts: Facts = {"ahead": seconds + micros / 1e6 - (before + clock()) / 2}
    await client.eval("return 1", 0)
    for section in ("memory", "persistence", "replication", "cluster"):
        facts[section] = await _optional(client, "INFO", section)
    facts["save"] = await _optional(client, "CONFIG GET", "save")
    facts["coverage"] = await _optional(client, "CONFIG GET", "cluster-require-full-coverage")
    # Of the connection, so that a user without INFO has it too.
    hello = await _optional(client, "HELLO", "2")
    facts["version"] = str((hello or {}).get("version", ""))
    # In three words redis-py leaves the answer as it is.
    facts["default"] = await _optional(client, "ACL", "GETUSER", "default")
    return facts


async def _optional(client: Redis, *words: str) -> Facts | None:
    """None where the server doesn't say: managed services close CONFIG, an ACL may close INFO."""
    # redis-py has no types for it.
    execute: Any = client.execute_command
    try:
        answer = await execute(*words)
    except ResponseError:
        return None
    if isinstance(answer, list):
        answer = dict(zip(answer[::2], answer[1::2], strict=False))
    return answer if isinstance(answer, dict) else None


def judge(facts: Facts, place: str) -> Iterator[Finding]:
    """What is wrong with the server at ``place``."""
    if (facts["replication"] or {}).get("role") == "slave":
        yield Finding(
            "error",
            f"Redis at {place} is a replica.",
            "A replica refuses writes, so every call would be refused with 503 ledger_unavailable.",
            "Set [redis] url to the primary.",
        )
    policy = (facts["memory"] or {}).get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Finding(
            "warn",
            f"Redis at {place} evicts keys (maxmemory-policy {policy}).",
            "When its memory is full it would throw away what projects have spent, and their budgets would start anew.",
            "Set maxmemory-policy noeviction.",
        )
    yield from _persistence(facts, place)
    yield from _default_user(facts, place)
    ahead: float = facts["ahead"]
    if abs(ahead) > CLOCK_APART_S:
        way = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            "warn",
            f"The clock of Redis at {place} is {abs(ahead):.0f} s {way} this machine's.",
            "Limits reset by its clock, tokens expire by ours, and the lines of calls carry ours.",
            "Let both machines follow NTP.",
        )


def full_coverage(facts: Facts, place: str) -> Iterator[Finding]:
    """Of a master of a Cluster."""
    yield from no_replica(facts, place)
    if (facts["coverage"] or {}).get("cluster-require-full-coverage") == "yes":
        yield Finding(
            "warn",
            f"Redis at {place} stops when any slot of the Cluster is away.",
            "While another master is lost every tenant is refused with 503 ledger_unavailable, not its own alone.",
            "Set cluster-require-full-coverage no.",
        )


def no_replica(facts: Facts, place: str) -> Iterator[Finding]:
    """Of a master that Sentinels or a Cluster would replace."""
    if (facts["replication"] or {}).get("connected_slaves") == 0:
        yield Finding(
            "warn",
            f"Redis at {place} has no replica.",
            "When it is gone nobody takes its place, and calls are refused until it is back.",
            "Give it a replica.",
        )


def _persistence(facts: Facts, place: str) -> Iterator[Finding]:
    persistence = facts["persistence"]
    if persistence is None or persistence.get("aof_enabled"):
        return
    save = (facts["save"] or {}).get("save")
    if save == "":
        yield Finding(
            "warn",
            f"Redis at {place} saves nothing to disk.",
            "Neither AOF nor snapshots are on, so its restart would forget projects, tokens and what was spent.",
            "Set appendonly yes.",
        )
    elif save is not None:
        yield Finding(
            "warn",
            f"Redis at {place} has snapshots only.",
            "AOF is off, so a crash would forget what was spent since the last snapshot.",
            "Set appendonly yes.",
        )
    if persistence.get("rdb_last_bgsave_status", "ok") != "ok" and save:
        yield Finding(
            "warn",
            f"Redis at {place} could not save its last snapshot.",
            "It may refuse writes for that (stop-writes-on-bgsave-error), and calls with them.",
            "Look at its log and its disk.",
        )


def _default_user(facts: Facts, place: str) -> Iterator[Finding]:
    """Redis 7.0 replays its append-only file with the default user's permissions, and drops the transactions, which are what
    scripts write, that this user may not run; seen with 7.0.15."""
    if (
        not facts["version"].startswith("7.0.")
        or (facts["persistence"] or {}).get("aof_enabled") == 0
    ):
        return
    user = facts["default"]
    if user is None:
        yield Finding(
            "ok",
            f"Whether Redis {facts['version']} at {place} reads its append-only file again whole can't be seen by this user.",
            "Redis 7.0 drops transactions when its default user was shut by a bare `user default off`.",
            "Write `user default off ~* &* +@all`.",
        )
    elif (
        "+@all" not in user.get("commands", "").split() or "~*" not in user.get("keys", "").split()
    ):
        yield Finding(
            "warn",
            f"Redis {facts['version']} at {place} will lose charges when it is started again.",
            "It replays its append-only file as the default user, who may not run every command on every key, and drops "
            "the transactions: limits and charges among them.",
            "Shut that user by `user default off ~* &* +@all`, not by a bare `user default off`.",
        )
