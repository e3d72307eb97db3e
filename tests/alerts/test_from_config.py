"""What the configuration makes of [[alerts]]: who is told of what, and where the gateway goes out for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.from_config import interest_of
from tollhouse.check.check import check
from tollhouse.config.load import Config, load_config
from tollhouse.demo.gateway_config import write_config
from tollhouse.policies.destinations import destinations, dialled_ports
from tollhouse.policies.places import network_facts

TO = {"to": "https://hooks.internal:8443/x"}
Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A configuration with one receiver."""

    def make(settings: Mapping[str, Any] | None = None, **entry: Any) -> Config:
        return load_config(write_config(tmp_path, None, settings, {"alerts": [entry]}))

    return make


def event(kind: Any, project: str = "", tenant: str = "", **data: Any) -> AlertEvent:
    threshold = 80 if kind == "budget.threshold" else 0
    return AlertEvent(kind, (), 0.0, 0.0, data, tenant, project, threshold)


OF_P1 = event("budget.threshold", "p1", "acme")
OF_P2 = event("budget.threshold", "p2", "acme")
OF_ACME = event("budget.threshold", "", "acme")
REFUSED = event("budget.refused", "p1", "acme")
KEY_AGE = event("key.age", bound_days=90)
SPOOL = event("spool.waiting")
BREAKER = event("breaker.open", "", "acme")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"at": ["80%"]}, [OF_P1, OF_P2, OF_ACME, REFUSED, KEY_AGE, SPOOL, BREAKER]),
        ({"at": ["80%"], "projects": ["p1"]}, [OF_P1, REFUSED]),
        ({"at": ["80%"], "projects": ["p1"], "tenants": ["acme"]}, [OF_P1, OF_ACME, REFUSED]),
        ({"at": ["80%"], "tenants": [], "on": []}, [OF_P1, OF_P2]),
        ({"at": ["50%"], "on": ["spool.waiting"]}, [SPOOL]),
        ({"projects": ["p1"], "on": ["key.age", "spool.waiting"]}, [KEY_AGE, SPOOL]),
        ({"on": ["key.age"], "key_age_days": 30}, []),
    ],
)
def test_who_is_told_of_what(load: Load, entry: Mapping[str, Any], told: list[AlertEvent]) -> None:
    """Where projects are named nothing of another, and of the gateway what is asked for by name."""
    [alert] = load(**TO, **entry).alerts
    interest = interest_of(alert)
    events = [OF_P1, OF_P2, OF_ACME, REFUSED, KEY_AGE, SPOOL, BREAKER]
    assert [one for one in events if interest.has(one)] == told


@pytest.mark.parametrize(
    ("entry", "form", "name"),
    [
        (TO, "generic", "hooks.internal"),
        ({"to": "https://hooks.slack.com/services/T/B/X"}, "slack", "hooks.slack.com"),
        ({**TO, "form": "slack", "name": "team"}, "slack", "team"),
        ({"to_file": "url", "name": "team"}, "generic", "team"),
    ],
)
def test_form_and_name(load: Load, entry: Mapping[str, Any], form: str, name: str) -> None:
    config = load(**entry)
    [alert] = config.alerts
    assert (alert.speaks, alert.called) == (form, name)
    assert "/services" not in repr(config)


def test_where_the_gateway_goes_out(load: Load) -> None:
    """A policy lets it reach the receiver, or the proxy on the way."""
    direct = load(**TO, allow_private=True)
    facts = network_facts(direct)
    assert 8443 in dialled_ports(direct, facts)
    [found] = [one for one in destinations(direct, facts) if one.of == "alerts"]
    assert (found.host, found.port, found.is_private) == ("hooks.internal", 8443, True)
    proxy = {"upstream": {"proxy": {"url": "http://proxy.internal:3128"}}}
    through = load(proxy, **TO)
    hosts = {(one.host, one.port) for one in destinations(through, network_facts(through))}
    assert ("proxy.internal", 3128) in hosts
    assert "hooks.internal" not in {host for host, _ in hosts}


async def test_what_check_says(load: Load, tmp_path: Path) -> None:
    """What is missing, what is not signed, and what others can read; never the URL."""
    (tmp_path / "slack").write_text("https://hooks.slack.com/services/the-secret\n")
    (tmp_path / "slack").chmod(0o644)
    config = load(name="team", form="slack", to_file="slack", at=["80%"])
    said = "\n".join(map(str, await check(config.path, environ={})))
    assert "ok: The receiver team of alerts has what it needs (slack)." in said
    assert f"{tmp_path / 'slack'} is open to others" in said
    assert "the-secret" not in said
    config = load(**TO, at=["80%"], tenants=["acme"], projects=["p1"])
    said = "\n".join(map(str, await check(config.path, environ={})))
    assert "warn: What the receiver hooks.internal of alerts is told is not signed." in said
    config = load(name="ops", to_file="missing", signing_secret_file="slack", at=["80%"])
    said = "\n".join(map(str, await check(config.path, environ={})))
    assert "error: The receiver ops of alerts can't be told. The file that to_file names" in said
