"""A newer file of prices: what is taken, what is refused, and which prices count then."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.support.price_file import IDS, price_file

from tollhouse.families.units import Charge, Units
from tollhouse.prices import kept
from tollhouse.prices.kept import PriceFileError, Snapshot, current, judged
from tollhouse.prices.rates import PricedModel, PricedProvider, Rates
from tollhouse.prices.table import PriceTable

NOW = 1_795_435_200.0
"""2026-11-23, 12:00 UTC."""


def a_provider(name: str, **model: Any) -> dict[str, Any]:
    usual = {
        "id": "m",
        "match": {"or": [{"equals": "M"}, {"starts_with": "m-"}]},
        "prices": [
            {"prices": {"input_mtok": 1, "output_mtok": 2.5}},
            {"constraint": {"start_date": "2026-11-20"}, "prices": {"input_mtok": 3}},
        ],
    }
    return {"id": name, "name": name, "api_pattern": "x", "models": [{**usual, **model}]}


def a_file(**model: Any) -> list[dict[str, Any]]:
    return [a_provider(name, **model) for name in IDS]


def packed(document: object) -> bytes:
    return json.dumps(document).encode()


def before(newest: str = "2026-11-01", models: int = 1) -> Snapshot:
    from datetime import date

    model = PricedModel(("in", ()), ((None, Rates()),), ())
    table = {"openai": PricedProvider((), (model,) * models)}
    return Snapshot(table, "genai-prices 0.2.3", date.fromisoformat(newest))


def test_a_file_is_read_as_genai_prices_means_it() -> None:
    """Dates, times of the day, steps, tiers, all rules of names: as from the package."""
    match = {
        "and": [
            {"contains": "a"},
            {"ends_with": "z"},
            {"regex": "^a"},
            {"or": [{"equals": "az"}, {"starts_with": "a"}]},
        ]
    }
    step = {"base": 1, "tiers": [{"start": 200000, "price": 2.5}]}
    prices = [
        {"prices": {"input_mtok": step, "requests_kcount": None}},
        {
            "constraint": {"start_time": "16:30:00Z", "end_time": "00:30:00Z"},
            "prices": {"input_mtok": 0.27},
        },
        {"constraint": {"start_date": "2026-11-20"}, "prices": {"output_mtok": 4}},
    ]
    variants = [
        {
            "when": {"service_tier": "priority"},
            "prices": {"input_mtok": 5},
            "constraint": {"start_date": "2027-01-01"},
        }
    ]
    made = judged(
        packed(a_file(match=match, prices=prices, price_variants=variants, context_window=1000)),
        before(),
        NOW,
    )
    [model] = made.providers["openai"].models
    assert model == PricedModel(
        (
            "and",
            (
                ("contains", "a"),
                ("ends", "z"),
                ("regex", "^a"),
                ("or", (("in", ("az",)), ("starts", "a"))),
            ),
        ),
        (
            (None, Rates(input=(9 * 10**9, 200_000, 22_500_000_000))),
            (("daily", 59_400, 1_800), Rates(input=2_430_000_000)),
            (("from", 1_795_132_800), Rates(output=36 * 10**9)),
        ),
        (("priority", ("from", 1_798_761_600), Rates(input=45 * 10**9)),),
        1000,
    )
    assert made.kept
    assert made.newest.isoformat() == "2026-11-20", "a price of the future is none of today"
    assert made.name.startswith("genai-prices file ")
    assert len(made.name) == len("genai-prices file ") + 12


def broken(change: str) -> bytes:
    """A file with one mistake."""
    document: Any = deepcopy(a_file())
    [model] = document[0]["models"]
    match change:
        case "a list of nothing":
            document = []
        case "no list":
            document = {"openai": 1}
        case "no provider openai":
            document = [entry for entry in document if entry["id"] != "openai"]
        case "an unknown rule":
            model["match"] = {"sounds_like": "m"}
        case "a rule too deep":
            for _ in range(30):
                model["match"] = {"or": [model["match"]]}
        case "a wrong expression":
            model["match"] = {"regex": "("}
        case "an unknown constraint":
            model["prices"][1]["constraint"] = {"moon": "full"}
        case "a text for a price":
            model["prices"] = {"input_mtok": "1"}
        case "true for a price":
            model["prices"] = {"input_mtok": True}
        case "a price below 0":
            model["prices"] = {"input_mtok": -1}
        case "NaN":
            model["prices"] = {"input_mtok": float("nan")}
        case "a price too fine":
            model["prices"] = {"input_mtok": 1e-12}
        case "a price without end":
            model["prices"] = {"input_mtok": 77}
            return packed(document).replace(b"77", b"1e99999999")
        case "a price without number":
            model["prices"] = {"input_mtok": 77}
            return packed(document).replace(b"77", b"1e9999999999999999999999")
        case "a model without prices":
            del model["prices"]
        case "no UTF-8":
            return b"\xff"
        case "half of it":
            return packed(document)[:-9]
        case "more behind it":
            return packed(document) + b"[]"
        case "too deep":
            return b"[" * 100_000
    return packed(document)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("a list of nothing", "has no 'anthropic'"),
        ("no list", "does not begin with a list"),
        ("no provider openai", "has no 'openai'"),
        ("an unknown rule", "a match has 'sounds_like', which this version does not know"),
        ("a rule too deep", "a match has ''"),
        ("a wrong expression", "is no regular expression"),
        ("an unknown constraint", "a constraint has moon"),
        ("a text for a price", "'1' is no price"),
        ("true for a price", "'True' is no price"),
        ("a price below 0", "a price must be a number of at least 0"),
        ("NaN", "NaN is no price"),
        ("a price too fine", "more decimals than can be kept"),
        ("a price without end", "has at most 30 digits"),
        ("a price without number", "that can be read"),
        ("a model without prices", "has no 'prices', or an entry has none"),
        ("no UTF-8", "can't decode byte"),
        ("half of it", "cannot|Expecting|Unterminated|that can be read"),
        ("more behind it", "something stands behind its list"),
        ("too deep", "that can be read|no object"),
    ],
)
def test_a_file_that_is_not_sound_is_refused(change: str, said: str) -> None:
    """The text says what is wrong."""
    with pytest.raises(PriceFileError, match=said):
        judged(broken(change), before(), NOW)


def test_an_older_file_is_refused() -> None:
    """By the latest day on which one of its prices begins."""
    content = packed(a_file())
    assert judged(content, before("2026-11-20"), NOW).newest.isoformat() == "2026-11-20"
    with pytest.raises(PriceFileError, match=r"is older than genai-prices 0\.2\.3: .*2026-11-20"):
        judged(content, before("2026-11-21"), NOW)


def test_a_file_with_half_the_models_is_refused() -> None:
    """It is one that was cut, or that is of something else."""
    assert judged(packed(a_file()), before(models=2 * len(IDS)), NOW).models == len(IDS)
    with pytest.raises(PriceFileError, match=f"has {len(IDS)} models"):
        judged(packed(a_file()), before(models=2 * len(IDS) + 2), NOW)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as opened:
        opened.truncate(kept.MOST_BYTES + 1)
    with pytest.raises(PriceFileError, match="more than 32 MiB"):
        kept.read(file)


def test_the_kept_file_counts(tmp_path: Path) -> None:
    """It takes the place of the package's prices, and a table that is in use takes it over."""
    assert not current(tmp_path, NOW).kept
    kept.keep(tmp_path, price_file(2))
    assert (tmp_path / "prices.json").stat().st_mode & 0o777 == 0o600
    found = current(tmp_path, NOW)
    assert found.kept
    table = PriceTable(found.providers, name=found.name, clock=lambda: NOW)
    charge = Charge("m7", Units(input=10**6))
    assert table.quote("openai", charge) == (2_000_000_000, found.name)
    kept.keep(tmp_path, price_file(3))
    newer = current(tmp_path, NOW)
    table.renew(newer.providers, newer.name)
    assert table.quote("openai", charge) == (3_000_000_000, newer.name)


@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
def test_a_kept_file_that_is_broken_is_not_used(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The package's prices count, and the log says why."""
    (tmp_path / "prices.json").write_bytes(content)
    with caplog.at_level(logging.ERROR):
        assert not current(tmp_path, NOW).kept
    assert "prices.json is not used" in caplog.text


def test_newer_prices_of_the_package_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After an update of Tollhouse the kept file may be the older one."""
    kept.keep(tmp_path, price_file(2, starts="2024-01-01"))
    with caplog.at_level(logging.ERROR):
        assert not current(tmp_path, NOW).kept
    assert "is older than genai-prices" in caplog.text
