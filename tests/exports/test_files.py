"""Files of exports: whole or not at all, and never run by a spreadsheet."""

from __future__ import annotations

import csv
import io
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from tollhouse.cli import render
from tollhouse.cli.main import cli
from tollhouse.exports.tables import write_csv
from tollhouse.exports.target import NotWritten, opened

COLUMNS = {"name": "text", "usd": "amount", "at": "time"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_text_is_a_formula(text: str) -> None:
    """In exports as in what `usage` prints; an amount stays a number, also one below zero."""
    out = io.BytesIO()
    row = {"name": text, "usd": Decimal("-1.50"), "at": datetime(2026, 11, 1, tzinfo=UTC)}
    assert write_csv(out, COLUMNS, [row]) == 1
    [_, found] = csv.reader(io.StringIO(out.getvalue().decode(), newline=""))
    assert found == [f"'{text}", "-1.5", "2026-11-01T00:00:00Z"]
    printed = render.as_csv(("model", "usd"), [[text, 1]])
    assert list(csv.reader(io.StringIO(printed, newline="")))[1] == [f"'{text}", "1"]


@pytest.mark.parametrize(
    ("usd", "text"),
    [("0", "0.0"), ("1E+3", "1000.0"), ("1E-15", "0.000000000000001"), ("0.10", "0.1")],
)
def test_amounts_have_no_exponent(usd: str, text: str) -> None:
    out = io.BytesIO()
    write_csv(out, {"usd": "amount"}, [{"usd": Decimal(usd)}])
    assert out.getvalue().decode().splitlines()[1] == text


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, small_files: None) -> None:
    """And no draft beside it."""
    file = tmp_path / "costs.csv"
    file.write_bytes(b"of yesterday")
    with pytest.raises(NotWritten, match=r"costs\.csv could not be written"), opened(file) as out:
        out.write(b"x" * 100_000)
    assert file.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [file]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may become larger than 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_raises_in_between_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "lines") as out:
        out.write(b"x" * (1 // 0))
    assert list(tmp_path.iterdir()) == []


def test_redis_is_not_there(tmp_path: Path) -> None:
    """One line, exit 1, and no file."""
    config = tmp_path / "tollhouse.toml"
    config.write_text('[redis]\nurl = "redis://127.0.0.1:1/0"\n[vault]\naddress = "embedded"\n')
    for command in (
        ["export", "calls", "--to", str(tmp_path / "out")],
        ["explain", f"call_{0:024x}"],
    ):
        done = CliRunner().invoke(cli, [*command, "--config", str(config)], catch_exceptions=False)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "the store can't be reached" in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.glob("*out*")) == []


def test_pictures() -> None:
    """Of what was spent: each row by its own largest day; a day without a call is there."""
    rows = [
        {"days": {"2026-11-01": "1", "2026-11-03": "4"}},
        {"days": {"2026-11-02": "0.000001"}},
        {"days": {}},
    ]
    assert render.spent(rows, one_day_each=False) == ["▃▁█", "▁█▁", "▁▁▁"]
    assert render.spent([{"usd": "2"}, {"usd": "1"}, {"usd": "0"}], one_day_each=True) == [
        "█" * 20,
        "█" * 10,
        "",
    ]
