"""deploy/prometheus and deploy/grafana: rules and a board of metrics that there are. Where Prometheus is on PATH, promtool judges
them, and a server that scrapes a running gateway has data for each panel."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from tests.support.inproc import Inside, open_inside
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.prometheus import Prometheus
from tests.support.requires import program

from tollhouse.demo.standin_script import Behaviour, reply

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "tollhouse-rules.yaml"
BOARD = json.loads((ROOT / "deploy" / "grafana" / "tollhouse.json").read_text())
URL = "https://api.openai.com/v1/chat/completions"


def rules() -> list[dict[str, Any]]:
    document = YAML(typ="safe", pure=True).load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Every expression of the board and of the rules."""
    return {rule["alert"]: rule["expr"] for rule in rules()} | of_board()


def of_board() -> dict[str, str]:
    """Its expressions, with what Grafana puts in the place of its variables."""
    found: dict[str, str] = {}
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m")
            name = f"{panel['title']} {target['refId']}"
            assert name not in found
            found[name] = re.sub(r"\$(instance|provider)", ".*", text)
    return found


TROUBLE = {"Paths by state B"}
"""Has a value only while a login at Vault fails."""


class Calls:
    """A running gateway with all that is optional, and a workload of it."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        self.admin = inside.gateway.addresses["admin"]

    def _post(self, stream: bool) -> int:
        """The status of a call."""
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
        with httpx2.Client(
            proxy=self.inside.proxy_url, verify=self.inside.context, trust_env=False, timeout=30
        ) as client:
            return client.post(URL, json={**body, "stream": stream}).status_code

    def make(self) -> None:
        """One that is answered whole, one that is streamed, and one whose key the provider refuses."""
        self.inside.standin.script(Behaviour(), Behaviour(), reply(401, b"{}"))
        assert [self._post(False), self._post(True), self._post(False)] == [200, 200, 502]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    directory = tmp_path_factory.mktemp("monitoring")
    (directory / "own.py").write_text("class Own:\n    def request(self, flow): ...\n")
    with OtlpReceiver() as receiver:
        settings = {
            "listen": {"admin": "127.0.0.1:0"},
            "admin": {"metrics_projects": 5},
            "otel": {"endpoint": receiver.endpoint},
            "addons": {"load": ["own.py:Own"]},
        }
        # It has nothing to tell this one.
        alerts = [{"at": ["100%"], "to": "https://hooks.internal/", "on": []}]
        with open_inside(directory, settings, tables={"alerts": alerts}) as inside:
            made = Calls(inside)
            made.make()
            yield made


@pytest.fixture(scope="module")
def series(calls: Calls) -> dict[str, set[str]]:
    """What /metrics of a running gateway shows: labels by the name of a series."""
    text = httpx2.get(f"http://{calls.admin}/metrics", trust_env=False).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Series of an expression, and the labels that it selects them by."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    for name, selector in re.findall(r"\b((?:tollhouse|process)_\w+)(\{[^}]*\})?", bare):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))


def test_every_series_is_there(series: dict[str, set[str]]) -> None:
    """Each that an expression names, with the labels that it selects and groups by."""
    seen = set()
    for title, expression in expressions().items():
        used = dict(named(expression))
        assert used, title
        for name, labels in used.items():
            assert name in series, f"{title}: there is no {name}"
            assert labels - {"instance"} <= series[name], f"{title}: {name}"
        of_all = set().union(*(series[name] for name in used)) | {"instance"}
        for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            assert {label.strip() for label in group.split(",")} <= of_all, title
        seen |= set(used)
    assert len(seen) > 25


def test_what_a_person_reads(series: dict[str, set[str]]) -> None:
    """A rule says what is wrong, how urgent it is, and names labels that its expression keeps; a panel says what it shows."""
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        known = set().union(*(series[name] for name, _ in named(rule["expr"]))) | {"instance"}
        groups = re.findall(r"\b(?:by)\s*\(([^)]*)\)", rule["expr"])
        kept = {label.strip() for group in groups for label in group.split(",")} or known
        text = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept, rule["alert"]
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]


def test_the_board_is_whole() -> None:
    """No two panels have one place or one id, and every panel asks the data source that is chosen."""
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        mine = {
            (at["x"] + column, at["y"] + line)
            for column in range(at["w"])
            for line in range(at["h"])
        }
        assert not cells & mine, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= mine
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
    assert {one["name"] for one in BOARD["templating"]["list"]} == {
        *("datasource", "instance", "provider")
    }


@pytest.mark.requires("promtool")
def test_promtool_takes_all(tmp_path: Path) -> None:
    """The rules, and the board's expressions as rules that record."""
    recorded = [
        {"record": f"board:{number}", "expr": expression}
        for number, expression in enumerate(expressions().values())
    ]
    of_board = tmp_path / "board.yaml"
    of_board.write_text(json.dumps({"groups": [{"name": "board", "rules": recorded}]}))
    for arguments in (
        ("check", "rules", str(RULES), str(of_board)),
        ("test", "rules", str(Path(__file__).parent / "alerts_test.yaml")),
    ):
        done = subprocess.run(
            [program("promtool"), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.requires("prometheus")
def test_each_panel_has_data(calls: Calls, tmp_path: Path) -> None:
    """In a Prometheus that scraped the gateway before and after some calls."""
    refused = 'tollhouse_calls_total{reason="credential_refused"}'
    with Prometheus(tmp_path, calls.admin) as prometheus:
        # The rate of a counter begins with its second value.
        prometheus.wait_for(refused)
        calls.make()
        expressions = {name: text for name, text in of_board().items() if name not in TROUBLE}
        prometheus.wait_for(f"{refused} > 1", *expressions.values())
        assert len(expressions) > 40
        for name in TROUBLE:
            assert prometheus.values(of_board()[name]) == [], name


def test_the_chart_has_the_same() -> None:
    """Helm reads only files of its chart."""
    files = ROOT / "deploy" / "helm" / "tollhouse" / "files"
    for of in (RULES, ROOT / "deploy" / "grafana" / "tollhouse.json"):
        assert (files / of.name).read_bytes() == of.read_bytes(), f"copy {of.name} into {files}"


def test_every_alert_is_tried() -> None:
    """Those of the rules are those that alerts_test.yaml raises."""
    text = (Path(__file__).parent / "alerts_test.yaml").read_text()
    raised = set(re.findall(r'alertname="?(\w+)', text)) | set(
        re.findall(r"alertname: (\w+)", text)
    )
    assert {rule["alert"] for rule in rules()} == raised
