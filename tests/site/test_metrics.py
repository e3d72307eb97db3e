"""/metrics: what is told of calls and keys, in Prometheus's form; nothing in it is a secret or a workload's choice."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.credential.memory import MemoryStore
from tests.support.clock import Clock
from tests.support.gateway import REAL_KEY
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openbao import OpenBao

from tollhouse import __version__
from tollhouse.credential.cache import KeyCache
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.credential.vault.reader import AppRole, VaultReader
from tollhouse.demo.standin_script import reply
from tollhouse.site.exposition import exposed
from tollhouse.site.metrics import MOST_PATHS, Metrics, Parts, of_alerts, of_keys

URL = "https://api.openai.com/v1/chat/completions"
PRINT = Secret(REAL_KEY).fingerprint
COMMON = "infrastructure/openai"
CALL = ("openai", "acme", "p1")
Samples = dict[str, dict[str, float]]


def samples(families: Iterator[Metric]) -> Samples:
    """Values by name, then by label values in the order of their names."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            labels = " ".join(value for _, value in sorted(sample.labels.items()))
            values = found.setdefault(sample.name, {})
            assert labels not in values, "no series twice"
            values[labels] = float(sample.value)
    return found


def scrape(inside: Inside) -> tuple[str, Samples]:
    answer = httpx2.get(f"http://{inside.gateway.addresses['admin']}/metrics", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text, samples(iter(text_string_to_metric_families(answer.text)))


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    with open_inside(tmp_path, {"listen": {"admin": "127.0.0.1:0"}}) as made:
        yield made


def ask(inside: Inside, model: str = "gpt-4o") -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    with httpx2.Client(
        proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
    ) as client:
        return client.post(URL, json=body)


class Told:
    """A receiver of alerts."""

    names = ("ops",)
    dropped: Mapping[str, int] = {}
    waiting: Mapping[str, int] = {"ops": 2}
    attempts: Mapping[tuple[str, str], int] = {("ops", "failed"): 3}


def test_alerts() -> None:
    """Each outcome of each receiver is there from the beginning."""
    assert samples(of_alerts(Told())) == {
        "tollhouse_alerts_waiting": {"ops": 2},
        "tollhouse_alert_attempts_total": {
            "delivered ops": 0,
            "failed ops": 3,
            "given_up ops": 0,
            "dropped ops": 0,
        },
    }


# The whole, through a running gateway


def test_calls_and_the_key(inside: Inside) -> None:
    """Calls by provider, status and reason; the key by path, version and fingerprint; nothing under way at the end."""
    before = scrape(inside)[1]
    assert before["tollhouse_ready"] == {"": 1}
    assert "tollhouse_calls_total" not in before
    assert ask(inside).status_code == 200
    assert ask(inside).status_code == 200
    assert (
        httpx2.get(
            f"http://{inside.gateway.addresses['base_url']}/v1/models", trust_env=False
        ).status_code
        == 401
    )
    found = scrape(inside)[1]
    assert found["tollhouse_calls_total"] == {
        "gpt-4o openai  2xx": 2,
        " openai identity_missing 4xx": 1,
    }
    assert (found["tollhouse_calls_in_progress"], found["tollhouse_holds"]) == ({"": 0}, {"": 0})
    assert found["tollhouse_spooled_settles"] == {"": 0}
    assert found["tollhouse_breakers"] == {"closed": 1, "open": 0, "half_open": 0}
    assert found["tollhouse_shared_breakers"] == {"closed": 1, "open": 0, "half_open": 0}
    assert found["tollhouse_key_info"] == {f"{PRINT} {COMMON} openai 1": 1}
    assert found["tollhouse_key_refused_total"] == {f"{PRINT} {COMMON} openai": 0}
    assert found["tollhouse_vault_login_ok"] == {"": 1}
    [build] = found["tollhouse_build_info"]
    assert __version__ in build
    assert found["process_resident_memory_bytes"][""] > 0


def test_nothing_that_is_secret_or_a_workloads_choice(inside: Inside) -> None:
    """Neither key nor token, nor what a workload may name: a made-up model, its project, its host, its path."""
    ask(inside, model="a-model-of-the-workloads-own")
    with httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client:
        client.get("https://api.openai.com/v1/a-path-of-the-workloads-own")
    text, found = scrape(inside)
    assert sum(found["tollhouse_calls_total"].values()) == 2
    for hidden in (REAL_KEY, inside.token, PROJECT, "workloads-own", "api.openai.com", "acme"):
        assert hidden not in text


def test_a_refused_key(inside: Inside) -> None:
    """The alarm counts from 0, which was there before the first refusal: `increase()` sees no beginning otherwise."""
    assert ask(inside).status_code == 200
    name, series = "tollhouse_key_refused_total", f"{PRINT} {COMMON} openai"
    assert scrape(inside)[1][name] == {series: 0}
    inside.standin.always(reply(401, b'{"error":{"code":"invalid_api_key"}}'))
    for count in (1, 2, 3):
        assert ask(inside).headers["x-tollhouse-reason"] == "credential_refused"
        found = scrape(inside)[1]
        assert found[name] == {series: count}
    assert found["tollhouse_calls_total"]["gpt-4o openai credential_refused 5xx"] == 3
    assert found["tollhouse_keys_paused"][f"{COMMON} openai refused"] == 1


def test_keys_that_pause(inside: Inside) -> None:
    """Of three keys of a project's own one is limited and one out of money: said by reason, the path by its name."""
    keys = [f"sk-one-of-three-of-this-test-{number}" for number in range(3)]
    own = EmbeddedVault(inside.gateway.config.state.directory, "projects/{project}/{provider}")
    own.set("openai", json.dumps(keys), project=PROJECT)
    inside.standin.keys.update(keys)
    inside.standin.script(reply(429, b"{}", [("retry-after", "60")]), reply(402, b"{}"))
    assert ask(inside).status_code == 200
    found = scrape(inside)[1]
    path = f"projects/{PROJECT}/openai openai"
    paused = {
        why: found["tollhouse_keys_paused"][f"{path} {why}"] for why in ("rate", "money", "refused")
    }
    assert (found["tollhouse_keys"][path], paused) == (3, {"rate": 1, "money": 1, "refused": 0})
    assert len([series for series in found["tollhouse_key_info"] if path in series]) == 3


def test_not_ready(inside: Inside) -> None:
    """/metrics answers then too, and says so."""
    gateway = inside.gateway
    parts = Parts(
        lambda: ["redis: away"],
        gateway.journey,
        gateway.purse,
        gateway.spool,
        gateway.book,
        gateway.breakers,
        gateway.relay,
        gateway.keys,
    )

    async def text() -> str:
        return exposed(Metrics(parts).families())[1].decode()

    assert samples(iter(text_string_to_metric_families(inside.do(text()))))["tollhouse_ready"] == {
        "": 0
    }


def test_form(inside: Inside) -> None:
    """Names and units as promtool would have them, each with a help that is a sentence; every label is one of ours."""
    ask(inside)
    text, _ = scrape(inside)
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.documentation.endswith(".")
        if not family.name.startswith("tollhouse_"):
            continue
        assert family.type in ("gauge", "counter", "histogram")
        assert not re.search(r"_(total|count|sum|bucket|ms|percent)$", family.name)
        times = r"_age|remaining|duration|overhead|time_to|response"
        assert ("_seconds" in family.name) == bool(re.search(times, family.name))
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            assert set(sample.labels) <= {
                *(
                    "provider",
                    "path",
                    "version",
                    "fingerprint",
                    "state",
                    "outcome",
                    "reason",
                    "status",
                    "python",
                    "model",
                    "type",
                    "le",
                )
            }


# Keys, with a store and a clock of the test's own


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({COMMON: ("sk-1", "1")})


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cache_of(store: MemoryStore, clock: Clock) -> KeyCache:
    paths = ("projects/{project}/{provider}", "infrastructure/{provider}")
    return KeyCache(store, paths, clock=clock, jitter=lambda: 0.0, call_later=clock.call_later)


def of(cache: KeyCache) -> Samples:
    return samples(of_keys(cache))


async def test_a_path_from_fresh_to_failed_and_back(store: MemoryStore, clock: Clock) -> None:
    """Age, state, reads by outcome and the age of the last error, while the store is away and comes back."""
    cache = cache_of(store, clock)
    path = f"{COMMON} openai"

    def state(found: Samples) -> list[str]:
        return [
            key.rpartition(" ")[2] for key, value in found["tollhouse_key_state"].items() if value
        ]

    await cache.get(*CALL)
    found = of(cache)
    assert state(found) == ["fresh"]
    assert "tollhouse_key_last_error_age_seconds" not in found
    store.fail[COMMON] = StoreAway("away")
    await clock.pass_(100)
    found = of(cache)
    assert state(found) == ["stale"]
    assert found["tollhouse_key_age_seconds"] == {path: 100}
    assert found["tollhouse_key_paths"] == {"fresh": 0, "stale": 1, "missing": 1, "failed": 0}
    outcomes = ("value", "missing", "away", "refused")
    reads = [found["tollhouse_key_reads_total"][f"{outcome} {path}"] for outcome in outcomes]
    assert (reads[0], reads[1], reads[3]) == (1, 0, 0)
    assert reads[2] >= 5
    assert 0 <= found["tollhouse_key_last_error_age_seconds"][path] <= 15
    store.fail[COMMON] = CredentialUnavailable("a policy without it")
    await clock.pass_(300)
    found = of(cache)
    assert state(found) == ["failed"]
    assert "tollhouse_key_age_seconds" not in found
    assert "tollhouse_key_info" not in found
    assert found["tollhouse_key_reads_total"][f"refused {path}"] == 1
    store.fail.clear()
    store.secrets[COMMON] = ("sk-2", "2")
    await cache.get(*CALL)
    found = of(cache)
    assert state(found) == ["fresh"]
    assert [series.split()[-1] for series in found["tollhouse_key_info"]] == ["2"]
    assert found["tollhouse_key_last_error_age_seconds"][path] > 200
    await cache.close()


async def test_versions_that_are_malformed(store: MemoryStore, clock: Clock) -> None:
    """Each is counted once, from a 0 that was there before; the path is stale, not failed, while the last good one serves."""
    cache, path = cache_of(store, clock), f"{COMMON} openai"
    await cache.get(*CALL)
    assert of(cache)["tollhouse_key_versions_refused_total"] == {path: 0}
    for version in ("2", "3"):
        store.secrets[COMMON] = ("two words", version)
        await clock.pass_(100)
    found = of(cache)
    assert found["tollhouse_key_versions_refused_total"] == {path: 2}
    assert found["tollhouse_key_reads_total"][f"malformed {path}"] > 2
    assert found["tollhouse_key_paths"] == {"fresh": 0, "stale": 1, "missing": 1, "failed": 0}
    assert [series.split()[-1] for series in found["tollhouse_key_info"]] == ["1"]
    await cache.close()


async def test_a_secret_that_is_gone(store: MemoryStore, clock: Clock) -> None:
    """A path that had a key stays to be seen, as missing; one that never had any is counted only."""
    cache = cache_of(store, clock)
    await cache.get(*CALL)
    store.secrets.clear()
    await clock.pass_(41)
    found = of(cache)
    assert {key for key, value in found["tollhouse_key_state"].items() if value} == {
        f"{COMMON} openai missing"
    }
    assert found["tollhouse_key_paths"] == {"fresh": 0, "stale": 0, "missing": 2, "failed": 0}
    await cache.close()


async def test_first_read_under_way(store: MemoryStore, clock: Clock) -> None:
    """It is not a failure yet."""
    cache = cache_of(store, clock)
    store.gate.clear()
    task = asyncio.ensure_future(cache.get(*CALL))
    assert await asyncio.to_thread(store.reading.acquire, timeout=10)
    assert set(of(cache)["tollhouse_key_paths"].values()) == {0}
    store.gate.set()
    await task
    await cache.close()


async def test_series_are_bounded(store: MemoryStore, clock: Clock) -> None:
    """However many projects have a key of their own, the latest used are shown; all are counted."""
    cache = cache_of(store, clock)
    for number in range(MOST_PATHS + 30):
        store.secrets[f"projects/p{number}/openai"] = (f"sk-{number}", "1")
        await cache.get("openai", "acme", f"p{number}")
        clock.now += 0.01
    found = of(cache)
    assert found["tollhouse_key_paths"]["fresh"] == MOST_PATHS + 30
    assert len(found["tollhouse_key_age_seconds"]) == MOST_PATHS
    assert len(found["tollhouse_key_refused_total"]) == MOST_PATHS
    assert f"projects/p{MOST_PATHS + 29}/openai openai" in found["tollhouse_key_age_seconds"]
    lease = await cache.get("openai", "acme", "p0")
    clock.now += 1
    for number in range(1, MOST_PATHS + 1):
        await cache.get("openai", "acme", f"p{number}")
    await cache.refused(lease)
    series = f"{lease.fingerprint} projects/p0/openai openai"
    assert of(cache)["tollhouse_key_refused_total"][series] == 1, (
        "an alarm is not hidden by the bound"
    )
    await cache.close()


# The login, with a real server


async def test_login(openbao: OpenBao) -> None:
    """The token's life from its start; 0 for the login when it can't be renewed, and the life that is left of it."""
    openbao.set_role(token_ttl="60s", token_type="batch")
    openbao.put(COMMON, {"api_key": "sk-1"})
    now = [1000.0]
    reader = VaultReader(
        openbao.address,
        AppRole(openbao.role_id_file, openbao.secret_id_file),
        clock=lambda: now[0],
        jitter=lambda: 0.0,
    )
    cache = KeyCache(reader, ["infrastructure/{provider}"])
    assert "tollhouse_vault_token_remaining_seconds" not in of(cache)
    await cache.get(*CALL)
    found = of(cache)
    assert (
        found["tollhouse_vault_login_ok"],
        found["tollhouse_vault_token_remaining_seconds"],
    ) == ({"": 1}, {"": 60})
    openbao.secret_id_file.write_text("wrong")
    now[0] += 41
    reader.tend()
    found = of(cache)
    assert (
        found["tollhouse_vault_login_ok"],
        found["tollhouse_vault_token_remaining_seconds"],
    ) == ({"": 0}, {"": 19})
    openbao.new_secret_id()
    now[0] += 60
    reader.tend()
    found = of(cache)
    assert (
        found["tollhouse_vault_login_ok"],
        found["tollhouse_vault_token_remaining_seconds"],
    ) == ({"": 1}, {"": 60})
    await cache.close()


async def test_login_that_never_succeeded(openbao: OpenBao) -> None:
    """A secret_id that is wrong from the start is no login that is all right."""
    openbao.secret_id_file.write_text("wrong")
    cache = KeyCache(
        VaultReader(openbao.address, AppRole(openbao.role_id_file, openbao.secret_id_file)),
        ["infrastructure/{provider}"],
    )
    with pytest.raises(CredentialUnavailable):
        await cache.connect()
    assert of(cache)["tollhouse_vault_login_ok"] == {"": 0}
    await cache.close()


@pytest.mark.parametrize("named", [0, 1])
def test_what_calls_came_to(tmp_path: Path, named: int) -> None:
    """Tokens, dollars and times as the lines say; a model that no provider has served has no name, and a project has one
    where the operator wants it."""
    settings = {"listen": {"admin": "127.0.0.1:0"}, "admin": {"metrics_projects": named}}
    with open_inside(tmp_path, settings) as inside:
        _came_to(inside, named)


def _came_to(inside: Inside, named: int) -> None:
    ask(inside)
    inside.standin.always(reply(404, b"{}"))
    ask(inside, model="gpt-4o-mini-invented")
    _, found = scrape(inside)
    lines = inside.lines()
    dollars = sum(float(line["cost_usd"]) for line in lines)
    assert dollars > 0
    assert sum(found["tollhouse_cost_usd_total"].values()) == pytest.approx(dollars)
    if named:
        assert found["tollhouse_project_cost_usd_total"][PROJECT] == pytest.approx(dollars)
        assert found["tollhouse_project_calls_total"] == {
            f"{PROJECT}  2xx": 1,
            f"{PROJECT} model_unpriced 4xx": 1,
        }
    else:
        assert not any(PROJECT in labels for values in found.values() for labels in values)
    read = sum(line["tokens"].get("input", 0) for line in lines)
    assert found["tollhouse_tokens_total"]["gpt-4o openai input"] == read
    assert not any("invented" in labels for values in found.values() for labels in values)
    left = [line for line in lines if line["attempts"]]
    for name in ("call_duration", "overhead", "provider_response"):
        assert found[f"tollhouse_{name}_seconds_count"] == {"openai": len(left)}
        assert found[f"tollhouse_{name}_seconds_bucket"]["+Inf openai"] == len(left)
    taken = sum(line["duration_ms"] for line in left) / 1000
    assert found["tollhouse_call_duration_seconds_sum"]["openai"] == pytest.approx(taken)


def test_documentation(inside: Inside) -> None:
    """docs/metrics.md lists every metric with its labels."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    table = {
        names[0]: set(names[1:])
        for names in (
            re.findall(r"`(\w+)`", line.rpartition(" | ")[0]) for line in text.splitlines()
        )
        if names and names[0].startswith("tollhouse_")
    }
    ask(inside)
    inside.standin.always(reply(401, b"{}"))
    ask(inside)
    scraped, _ = scrape(inside)
    shown = {name: set() for name in re.findall(r"^# TYPE (tollhouse_\w+)", scraped, re.MULTILINE)}
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            if sample.name in shown:
                shown[sample.name] = set(sample.labels)
            elif family.type == "histogram" and family.name in shown:
                shown[family.name] = set(sample.labels) - {"le"}
    # Without a Vault that grants a token, and without an error of it, these two have no series here.
    shown |= {"tollhouse_vault_token_remaining_seconds": set()}
    shown["tollhouse_key_last_error_age_seconds"] = {"provider", "path"}
    # Nor have these: no stream, and no project that is to be named.
    shown["tollhouse_time_to_first_token_seconds"] = {"provider"}
    shown["tollhouse_project_calls_total"] = {"project", "status", "reason"}
    shown["tollhouse_project_cost_usd_total"] = {"project"}
    # So have these, without an addon of the operator's (tests/e2e/test_addons.py).
    shown |= {f"tollhouse_addon_{name}_total": {"addon"} for name in ("failures", "slow_hooks")}
    # And these, without a receiver of alerts.
    shown |= {
        sample.name: set(sample.labels) for metric in of_alerts(Told()) for sample in metric.samples
    }
    # And this, without a collector (tests/e2e/test_otel.py).
    shown["tollhouse_otel_items_total"] = {"signal", "outcome"}
    assert table == shown
