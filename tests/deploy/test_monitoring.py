"""deploy/prometheus and deploy/grafana: rules and a board of metrics that there are. promtool judges them where it is on PATH."""

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
from tests.support.inproc import open_inside
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.requires import program

from tollhouse.demo.standin_script import reply

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
    """Every expression of the board and of the rules, with what Grafana puts in the place of its variables."""
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m")
            name = f"{panel['title']} {target['refId']}"
            assert name not in found
            found[name] = re.sub(r"\$(instance|provider)", ".*", text)
    return found


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What /metrics of a running gateway shows: labels by the name of a series. It has all that is optional."""
    directory = tmp_path_factory.mktemp("monitoring")
    (directory / "own.py").write_text("class Own:\n    def request(self, flow): ...\n")
    with OtlpReceiver() as receiver:
        settings = {
            "listen": {"admin": "127.0.0.1:0"},
            "admin": {"metrics_projects": 5},
            "otel": {"endpoint": receiver.endpoint},
            "addons": {"load": ["own.py:Own"]},
        }
        with open_inside(directory, settings) as inside:
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
            with httpx2.Client(
                proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
            ) as client:
                for stream in (False, True):
                    assert client.post(URL, json={**body, "stream": stream}).status_code == 200
                inside.standin.always(reply(401, b"{}"))
                assert client.post(URL, json=body).status_code == 502
            address = inside.gateway.addresses["admin"]
            text = httpx2.get(f"http://{address}/metrics", trust_env=False).text
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
