"""Many calls on a real Redis: the rows of FOCUS are the ledger's sums, page by page, and by unit where it was charged by units."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.support.redis_server import RedisServer
from tests.support.requires import program

from tollhouse.book import empty_record
from tollhouse.call import Amount
from tollhouse.config.load import Config, catalog, load_config
from tollhouse.control.client import perform
from tollhouse.exports.bill import FEMTO, Biller
from tollhouse.exports.focus import COLUMNS, FocusRows
from tollhouse.exports.pages import Cursors, Moved, Perform, RecordReader, Span
from tollhouse.exports.record import Record
from tollhouse.exports.tables import write_csv
from tollhouse.families.units import Charge, Units
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import format_usd
from tollhouse.ledger.records import texts
from tollhouse.ledger.store.client import connect
from tollhouse.prices.table import PriceTable
from tollhouse.timestamps import rfc3339

PRICES: Mapping[str, Mapping[str, Any]] = {
    "openai/thinks": {"input": "1.1", "cached": "0.275", "output": "4.4", "reasoning": "6.6"},
    "openai/cheap": {"input": "0.02", "output": "0.03"},
    "anthropic/writes": {"input": "3", "cached": "0.3", "cache_write": "3.75", "output": "15"},
    "openai/hears": {"input": "2.5", "output": "10", "input_audio": "40", "second": "0.0001"},
    "openai/tiered": {"input": "2", "output": "8", "tier": {"priority": {"input": "3.5"}}},
}
MODELS = [key.split("/") for key in PRICES]
PROJECTS = ("alpha", "beta")
COUNT = 300
PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


class Made(NamedTuple):
    config: Config
    usd: int
    """What the calls came to in nano-dollars, a sweep that was corrected as it was in the end."""
    prices: PriceTable


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    directory = tmp_path_factory.mktemp("many")
    with RedisServer(directory) as server:
        yield call_many(directory, server.url)


def call_many(directory: Path, redis_url: str) -> Made:
    file = directory / "tollhouse.toml"
    file.write_text(f'[redis]\nurl = "{redis_url}"\n[vault]\naddress = "embedded"\n')
    config = load_config(file)
    for project in PROJECTS:
        perform(config, "project_set", {"project": project, "tenant": "many"})
    table = PriceTable({}, PRICES)
    return Made(config, asyncio.run(call_all(config, table)), table)


async def call_all(config: Config, table: PriceTable) -> int:
    ledger = Ledger(connect(config.redis.url, config.state.directory))
    chance = random.Random(11)
    total = 0
    for n in range(COUNT):
        provider, model = chance.choice(MODELS)
        project = chance.choice(PROJECTS)
        scopes = (Scope("tenant", "many", "many"), Scope("project", "many", project))
        call_id = f"call_{n:024x}"
        held = chance.randrange(1, 10**9)
        base = {"call_id": call_id, "tenant": "many", "project": project, "ts": rfc3339(1.8e9)}
        named = {**base, "provider": provider, "model": model, "identity": "tok_0123456789abcdef"}
        await ledger.hold(call_id, scopes, Amount(held, 9, 1), deadline_s=1e-3, carried=named)
        way = n % 10
        if way < 2:
            # Its gateway is dead, and of every second one only slow.
            await swept(ledger, scopes[1])
        if way == 0:
            total += held
            continue
        if way == 2:
            charged, rule, more = held, "hold", {}
        else:
            charge = counted(chance, model)
            cost = table.cost(provider, charge, at=1.8e9)
            assert cost is not None
            charged, rule = cost, "usage"
            more = {
                "tokens": charge.units.token_counts(),
                "units": charge.units.other_counts(),
                "model_served": model,
                "tier": charge.tier,
                "price": "configured",
            }
        line = {**empty_record(), **named, **more, "charged_by": rule, "held_usd": format_usd(held)}
        record = texts({**line, "cost_usd": format_usd(charged)})
        await ledger.settle(call_id, scopes, Amount(charged, 9, 1), record=record)
        total += charged
    await ledger.close()
    return total


async def swept(ledger: Ledger, project: Scope) -> None:
    while not await ledger.sweep(project.tenant):  # noqa: ASYNC110 - Redis's clock says when
        await asyncio.sleep(0)


def counted(chance: random.Random, model: str) -> Charge:
    whole, output = chance.randrange(0, 10_000), chance.randrange(1, 5_000)
    parts: dict[str, int] = {}
    if model == "thinks":
        parts = {"cached": chance.randrange(whole + 1), "reasoning": chance.randrange(output)}
    elif model == "writes":
        parts = {"cached": whole // 3, "cache_write": whole // 4}
    elif model == "hears":
        parts = {"input_audio": whole // 2, "milliseconds": chance.randrange(60_000)}
    tier = "priority" if model == "tiered" and output % 2 else ""
    return Charge(model, Units(input=whole, output=output, requests=1, **parts), tier)


def asking(config: Config) -> Perform:
    return lambda name, arguments: perform(config, name, arguments)


def reading(made: Made, name: str = "", page: int = 7) -> RecordReader:
    ask = asking(made.config)
    return RecordReader(ask, ["many"], ["calls"], Span(), Cursors(ask, name), page)


def as_csv(made: Made, records: RecordReader) -> bytes:
    out = io.BytesIO()
    write_csv(
        out,
        COLUMNS,
        FocusRows(catalog(made.config), Biller(catalog(made.config), made.prices)).of(records),
    )
    return out.getvalue()


def rows(made: Made, records: RecordReader) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(made, records).decode())))


def test_rows_are_the_sums_of_the_ledger(made: Made) -> None:
    """To the nano-dollar: in all, and for each project."""
    found = rows(made, reading(made))
    assert sum(Decimal(row["BilledCost"]) for row in found) == Decimal(format_usd(made.usd))
    for project in PROJECTS:
        kept = perform(made.config, "usage", {"project": project})["rows"]
        assert sum(Decimal(row["usd"]) for row in kept) == sum(
            Decimal(row["BilledCost"]) for row in found if row["SubAccountId"] == project
        )
    calls = sum(int(row["x_CallCount"]) for row in found)
    assert calls == COUNT
    meters = {(row["SkuId"].split("/")[1], row["SkuMeter"]) for row in found}
    assert meters >= {
        ("thinks", "Cached input tokens"),
        ("thinks", "Reasoning tokens"),
        ("writes", "Cache write tokens"),
        ("hears", "Audio input tokens"),
        ("hears", "Seconds of media"),
        ("tiered", "Input tokens"),
        ("cheap", "Unmetered"),
    }
    assert not [row for row in found if row["SkuMeter"] == "Tokens"]
    for row in found:
        assert row["ServiceCategory"] == "AI and Machine Learning"
        if row["ListUnitPrice"]:
            product = Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
            # Each call is rounded up to a nano-dollar.
            off = Decimal(row["BilledCost"]) - product
            assert abs(off) <= Decimal("1e-9") * COUNT


def test_an_export_goes_on(made: Made) -> None:
    """In pages however small; what was not kept comes again, and nothing is left out or comes twice."""
    whole = [record.id for record in reading(made, page=1000)]
    assert [record.id for record in reading(made, page=1)] == whole
    first = reading(made, "cut-off")
    read = [next(iterator).id for iterator in [iter(first)] for _ in range(50)]
    # It has not said that it is done.
    again = reading(made, "cut-off")
    assert [record.id for record in again] == whole
    assert read == whole[:50]
    again.cursors.keep()
    assert list(reading(made, "cut-off")) == []
    middle = reading(made, "middle")
    part: Iterator[Record] = iter(middle)
    for _ in range(50):
        next(part)
    middle.cursors.keep()
    assert [record.id for record in reading(made, "middle")] == whole[50:]


def test_forms(made: Made) -> None:
    """Every column of every row has a form that FOCUS knows."""
    for row in rows(made, reading(made)):
        assert all(row[name] for name in ("BilledCost", "BillingAccountId", "ServiceName", "SkuId"))
        assert "E" not in row["BilledCost"]
        start = datetime.fromisoformat(row["ChargePeriodStart"])
        assert (start.tzinfo, start.minute) == (UTC, 0)
        assert json.loads(row["SkuPriceDetails"])["x_TokenKind"]


def test_two_at_the_same_time(made: Made) -> None:
    """The second one is told that both have the same records."""
    first, second = reading(made, "twice"), reading(made, "twice")
    assert [record.id for record in first] == [record.id for record in second]
    first.cursors.keep()
    with pytest.raises(Moved):
        second.cursors.keep()


def test_what_is_gone_is_said(made: Made) -> None:
    """An export that comes too late, and a range that begins before the oldest record."""

    async def after(read: str) -> None:
        redis = connect(made.config.redis.url, made.config.state.directory)
        await redis.xtrim("toll:{gone}:calls", minid=read, approximate=False)
        await redis.aclose()

    async def add() -> None:
        ledger = Ledger(connect(made.config.redis.url, made.config.state.directory))
        scopes = (Scope("tenant", "gone", "gone"),)
        for n in range(3):
            record = {"call_id": f"call_{n:024x}", "cost_usd": "0"}
            await ledger.settle(f"call_{n}", scopes, Amount(0, 0, 1), record=record)
        await ledger.close()

    def read(name: str) -> tuple[RecordReader, list[Record]]:
        cursors = Cursors(asking(made.config), name)
        reader = RecordReader(cursors.perform, ["gone"], ["calls"], Span(), cursors, 100)
        return reader, list(reader)

    asyncio.run(add())
    reader, found = read("late")
    assert (len(found), reader.missing) == (3, [])
    one = reading(made)
    one.tenants, one.cursors = ["gone"], Cursors(asking(made.config), "late")
    records = iter(one)
    next(records)
    one.cursors.keep()
    asyncio.run(after(found[2].id))
    reader, rest = read("late")
    assert [record.id for record in rest] == [found[2].id]
    [missing] = reader.missing
    assert missing.startswith("records of tenant gone from before 20")


SUPPORTED = "SUB_ACCOUNT_SUPPORTED,TAGGING_SUPPORTED,UNIT_PRICING_SUPPORTED"
"""What a provider of the file is said to have, so that the rules for it are judged as well."""


@pytest.mark.requires("focus-validator")
def test_the_validator_of_focus(made: Made, tmp_path: Path) -> None:
    """All rules of FOCUS 1.2 hold that it can judge. InvoiceId-C-003-C asks for one of two: no invoice, and InvoiceId is null
    (004), or an invoice, and it is not (005). The validator names the other one as a failure, whatever is in the file."""
    validator = Path(program("focus-validator")).resolve()
    file = tmp_path / "costs.csv"
    file.write_bytes(as_csv(made, reading(made)))
    packages = next(validator.parents[1].glob("lib/python*/site-packages"))
    command = [validator, "--data-file", file, "--validate-version", "1.2.0.1"]
    more = ["--focus-dataset", "CostAndUsage", "--applicability-criteria", SUPPORTED]
    done = subprocess.run(
        # It opens a file of its own by a relative path.
        [*command, *more, "--block-download", "--show-violations"],
        cwd=packages,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    judged = dict(re.findall(r"([A-Za-z]+-[A-Z]-\d{3}-[A-Z]): (PASS|FAIL)\b", said))
    assert {rule for rule, verdict in judged.items() if verdict == "FAIL"} == {"InvoiceId-C-005-C"}
    assert judged["InvoiceId-C-003-C"] == judged["InvoiceId-C-004-C"] == "PASS"
    counted = re.search(r"Total: 578 \| Pass: (\d+) \| Fail: 1 \| ", said)
    assert counted, said
    assert f"{counted[1]} of 578 rules hold" in " ".join(PAGE.read_text().split())


def test_items_are_exact() -> None:
    """What rounding adds to a charge is an item's, so that the items are the charge."""
    table = PriceTable({}, PRICES)
    charge = Charge("cheap", Units(input=1, output=1, requests=1))
    parts = table.itemised("openai", charge)
    assert parts is not None
    assert [(part.unit, part.number) for part in parts] == [("input", 1), ("output", 1)]
    assert sum(part.femto_usd for part in parts) == Fraction(50) * FEMTO
