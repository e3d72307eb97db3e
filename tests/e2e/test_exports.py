"""What is given out of the calls of a running gateway: their lines' schema, exports and explanations."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from redis.asyncio import Redis
from tests.support.busy import ASKED, CHAT, CODES, FORMULA, Busy, open_busy
from tests.support.gateway import Road, open_road
from tests.support.schema import check_line

from tollhouse.call import Amount
from tollhouse.cli.main import cli
from tollhouse.config.load import load_config
from tollhouse.denial import REASONS
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.store.client import connect

SCOPES = (Scope("tenant", "acme", "acme"), Scope("project", "acme", "proj_123"))
OCSF = json.loads(
    (Path(__file__).parents[1] / "exports" / "ocsf_api_activity_1.8.json").read_text()
)
DEAD = ("call_0000000000000000000000d1", "call_0000000000000000000000d2")
"""Two calls whose gateway died. The second one was only slow."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    with open_busy(tmp_path_factory.mktemp("exports")) as made:
        asyncio.run(die(made))
        yield made


async def die(busy: Busy) -> None:
    """Two holds are swept, and one of the calls is settled after all."""
    config = load_config(busy.road.gateway.config)
    redis = connect(config.redis.url, busy.road.directory)
    ledger = Ledger(redis)
    held = {"provider": "openai", "model": "gpt-4o", "identity": "tok_0123456789abcdef"}
    for call_id, amount in zip(DEAD, (123_456_789, 1_000_000_001), strict=True):
        carried = {**held, "ts": "2026-11-29T10:00:00.000Z", "call_id": call_id}
        await ledger.hold(
            call_id, SCOPES, Amount(amount, 100, 1), deadline_s=0.001, carried=carried
        )
    while await redis.zcard("toll:{acme}:deadlines"):
        await ledger.sweep("acme")
    record = {
        **held,
        "call_id": DEAD[1],
        "tenant": "acme",
        "project": "proj_123",
        "ts": "2026-11-29T10:00:00.000Z",
        "charged_by": "usage",
        "status": "200",
        "model_served": "gpt-4o",
        "tokens": '{"input":100,"output":10}',
        "cost_usd": "0.00035",
        "held_usd": "1.000000001",
    }
    assert await ledger.settle(DEAD[1], SCOPES, Amount(350_000, 110, 1), record=record) == "late"
    await until_refused(redis, len(CODES) + 2)
    await ledger.close()


async def until_refused(redis: Redis, count: int) -> None:
    """Redis is told of refused calls once a second."""
    async with asyncio.timeout(30):
        while True:
            lengths = [
                await redis.xlen(name)
                for name in ("toll:{acme}:uncharged", "toll:{directory}:unidentified")
            ]
            if sum(lengths) >= count:
                return
            await asyncio.sleep(0.05)


def run(busy: Busy, *arguments: str, code: int = 0) -> str:
    """What the command writes to stdout."""
    done = CliRunner().invoke(
        cli, [*arguments, "--config", str(busy.road.gateway.config)], catch_exceptions=False
    )
    assert done.exit_code == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def ledger_usd(busy: Busy) -> Decimal:
    """What the sums of all projects say was charged."""
    names = ("proj_123", "proj_login", "proj_poor")
    found = [json.loads(run(busy, "usage", "--project", name, "--json"))["rows"] for name in names]
    return sum((Decimal(row["usd"]) for rows in found for row in rows), Decimal(0))


def test_lines_have_the_schema(busy: Busy) -> None:
    """Lines of every kind, without a field that the schema does not name."""
    for line in busy.lines:
        check_line(line)
    assert [line["reason"] for line in busy.lines if line["decision"] == "deny"] == [
        *CODES,
        "host_not_allowed",
    ]
    named = set().union(*busy.lines)
    assert {"price", "notional_usd", "bytes", "why"} <= named
    published = json.loads(run(busy, "schema", "call"))
    assert published["$id"] == f"urn:tollhouse:schema:call:{published['version']}"


def test_calls(busy: Busy, tmp_path: Path) -> None:
    """Each line is there again, and has its schema; those of dead gateways are there, too."""
    run(busy, "export", "calls", "--since", "1h", "--to", str(tmp_path / "calls.jsonl"))
    records = [json.loads(text) for text in (tmp_path / "calls.jsonl").read_text().splitlines()]
    for record in records:
        check_line(record)
    ids = [(record["tenant"], record["record_id"]) for record in records]
    assert len(set(ids)) == len(ids)
    by_call = {record["call_id"]: record for record in records}
    for line in busy.lines:
        assert line.items() <= by_call[line["call_id"]].items()
    assert [r["settled_by"] for r in records if r["call_id"] == DEAD[1]] == ["sweep", "late"]
    assert by_call[DEAD[1]]["corrects_usd"] == "1.000000001"
    assert by_call[DEAD[0]]["charged_by"] == "sweep"
    [moment] = {record["recorded_at"] for record in records[:1]}
    assert run(busy, "export", "calls", "--until", moment) == ""
    assert "not before" in run(busy, "export", "calls", "--since", "1h", "--until", "2h", code=2)


def test_ocsf(busy: Busy) -> None:
    """Each event has the schema of OCSF 1.8, and who was refused is found by it."""
    events = [json.loads(text) for text in run(busy, "export", "ocsf").splitlines()]
    validator = Draft202012Validator(OCSF)
    for event in events:
        assert [f"{e.json_path}: {e.message}" for e in validator.iter_errors(event)] == []
    assert len({event["metadata"]["uid"] for event in events}) == len(events)
    by_call = {event["api"]["request"]["uid"]: event for event in events}
    for line in busy.lines:
        event = by_call[line["call_id"]]
        denied = line["decision"] == "deny"
        assert (event["action_id"], event.get("status_detail", "")) == (1 + denied, line["reason"])
        identity = line["reason"].startswith(("identity", "host", "endpoint"))
        assert event["severity_id"] == (3 if denied and identity else 1)
    first = by_call[busy.lines[0]["call_id"]]
    assert first["ai_model"]["ai_provider"] == "openai"
    assert first["message_context"]["total_tokens"] == sum(
        busy.lines[0]["tokens"][side] for side in ("input", "output")
    )
    assert first["actor"]["session"]["uid"] == "ses_one"
    assert first["metadata"]["correlation_uid"] == "trace-1"


def focus(busy: Busy, *arguments: str) -> list[dict[str, str]]:
    return list(csv.DictReader(run(busy, "export", "focus", *arguments).splitlines()))


def test_focus(busy: Busy) -> None:
    """The rows are the ledger's sum to the nano-dollar, by the kind of token; a sweep and its correction cancel each other."""
    rows = focus(busy)
    assert sum(Decimal(row["BilledCost"]) for row in rows) == ledger_usd(busy)
    thought = {row["SkuMeter"]: row for row in rows if row["SkuId"].startswith("openai/o-thinks/")}
    assert {meter: Decimal(row["ConsumedQuantity"]) for meter, row in thought.items()} == {
        "Input tokens": 223,
        "Cached input tokens": 777,
        "Output tokens": 222,
        "Reasoning tokens": 111,
    }
    for row in thought.values():
        product = Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
        assert abs(product - Decimal(row["BilledCost"])) < Decimal("1e-9")
    assert sum(int(row["x_CallCount"]) for row in thought.values()) == 1
    swept = [row for row in rows if row["x_ChargedBy"] == "sweep"]
    assert [row["SkuMeter"] for row in swept] == ["Unmetered"]
    assert sum(Decimal(row["BilledCost"]) for row in swept) == Decimal("0.123456789")
    assert any(row["SkuId"] == f"openai/{FORMULA}/input" for row in rows)
    for row in rows:
        assert not [text for text in row.values() if text.startswith(("=", "+", "@"))]
        assert (row["ProviderName"], row["BillingAccountId"]) in (
            ("OpenAI", "acme"),
            ("second", "acme"),
        )


def test_parquet_is_the_same(busy: Busy, tmp_path: Path) -> None:
    """Typed columns with the rows of the CSV."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    run(busy, "export", "focus", "--to", str(tmp_path / "costs.parquet"))
    rows: list[dict[str, Any]] = parquet.read_table(tmp_path / "costs.parquet").to_pylist()
    assert [Decimal(row["BilledCost"]) for row in focus(busy)] == [
        row["BilledCost"] for row in rows
    ]
    assert rows[0]["ChargePeriodStart"].minute == 0


def test_usage(busy: Busy) -> None:
    """By provider and user as by model, and as CSV that no spreadsheet runs."""
    asked = ("usage", "--project", "proj_123")
    sums = {}
    for by in ("model", "provider", "user", "session", "day", "token"):
        rows = json.loads(run(busy, *asked, "--by", by, "--format", "json"))["rows"]
        sums[by] = {row["key"]: Decimal(row["usd"]) for row in rows}
    totals = {by: sum(found.values()) for by, found in sums.items() if by != "session"}
    assert len(set(totals.values())) == 1
    assert sums["session"] == {"ses_one": Decimal(busy.lines[0]["cost_usd"])}
    assert {"openai", "second"} <= sums["provider"].keys()
    table = list(csv.DictReader(run(busy, *asked, "--by", "model", "--format", "csv").splitlines()))
    assert f"openai/{FORMULA}" in {row["model"] for row in table}
    assert "two forms" in run(busy, *asked, "--json", "--format", "csv", code=2)


def test_explain(busy: Busy) -> None:
    """Who, what was held and why, the key, the tries, the cost by unit, and why it was refused and what to do."""
    told = {line["call_id"]: run(busy, "explain", line["call_id"]) for line in busy.lines}
    chat, _, thought, *_ = busy.lines
    first = told[chat["call_id"]]
    for part in (
        f"the identity {chat['identity']} of project proj_123 (tenant acme) asked openai",
        "in session ses_one",
        f"{chat['held_usd']} USD was held",
        "40 of output",
        f"The key {chat['key_version']} was put on.",
        "It was sent once: 200 after",
        f"It cost {chat['cost_usd']} USD",
    ):
        assert part in first
    assert (
        "111 reasoning tokens of o-thinks at 6.6 USD a million: 0.0007326 USD"
        in (told[thought["call_id"]])
    )
    [fallen] = [line for line in busy.lines if "fallback_from" in line]
    assert "its fallback second has answered" in told[fallen["call_id"]]
    for line in busy.lines:
        if line["decision"] == "deny":
            reason = REASONS[line["reason"]]
            assert reason.what in told[line["call_id"]]
            assert reason.todo in told[line["call_id"]]
            assert line.get("why", "") in told[line["call_id"]]
    assert "charged 1.000000001 USD by a sweep" in run(busy, "explain", DEAD[1])
    assert "Its gateway died" in run(busy, "explain", DEAD[0])
    gone = run(busy, "explain", "call_0195a000000000000000dead", code=1)
    assert "there is no record" in gone
    assert "no call's id" in run(busy, "explain", "gate_0123", code=2)


def test_resume(busy: Busy, tmp_path: Path) -> None:
    """Each export goes on behind the last that was written whole; one that could not be written is made again."""
    nowhere = tmp_path / "nowhere" / "calls.jsonl"
    told = run(busy, "export", "calls", "--resume", "siem", "--to", str(nowhere), code=1)
    assert "could not be written" in told
    first = run(busy, "export", "calls", "--resume", "siem").splitlines()
    assert len(first) == len(run(busy, "export", "calls").splitlines())
    assert run(busy, "export", "calls", "--resume", "siem") == ""
    one = tmp_path / "one.jsonl"
    one.write_text("kept")
    told = run(busy, "export", "calls", "--resume", "other", "--to", str(one), code=1)
    assert "is there already" in told
    assert one.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["one.jsonl"]


def test_on_a_terminal_beside_a_running_gateway(tmp_path: Path) -> None:
    """The embedded store is read through the gateway; the terminal shows how much was exported, and what was spent."""
    with open_road(tmp_path / "gateway") as road:
        with road.http() as client:
            client.post(CHAT, json=ASKED).raise_for_status()
            client.post(CHAT, json={**ASKED, "model": "no-model"})
        lines = road.wait_lines(2)
        file = tmp_path / "calls.jsonl"
        said = on_terminal(road, "export", "calls", "--to", str(file))
        # How far it is is drawn once it takes long: tests/cli/test_progress.py.
        assert "records in " in said
        assert json.loads(file.read_text().splitlines()[0])["call_id"] == lines[0]["call_id"]
        assert "█" in on_terminal(road, "usage", "--project", road.project, "--by", "model")
        config = ("--config", str(road.gateway.config))
        done = CliRunner().invoke(cli, ["export", "focus", *config], catch_exceptions=False)
        [*rows] = csv.DictReader(done.stdout.splitlines())
        assert sum(Decimal(row["BilledCost"]) for row in rows) == road.used()
        explained = CliRunner().invoke(cli, ["explain", lines[0]["call_id"], *config])
        assert f"It cost {lines[0]['cost_usd']} USD" in explained.stdout


def on_terminal(road: Road, *arguments: str) -> str:
    """All that a person sees of the command."""
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "tollhouse", *arguments]
    with subprocess.Popen(
        [*command, "--config", str(road.gateway.config)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**road.gateway.environ, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"},
    ) as process:
        os.close(theirs)
        seen = b""
        # Linux ends a terminal that nobody has open any more with EIO.
        with contextlib.suppress(OSError):
            while piece := os.read(mine, 4096):
                seen += piece
        assert process.wait(60) == 0, seen
    os.close(mine)
    return seen.decode()
