import json
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tollhouse.prices.file import PricedProvider, PriceFileError, file_name, find, load, matches


def test_the_file_is_private_and_named_for_what_made_it(price_directory: Path, priced: dict[str, PricedProvider]):
    """One file, 0600, whose name changes with genai-prices' version and with the exporter; no leftover beside it."""
    assert [path.name for path in price_directory.iterdir()] == [file_name()]
    assert file_name().startswith(f"prices-{version('genai-prices')}-")
    assert stat.S_IMODE((price_directory / file_name()).stat().st_mode) == 0o600
    assert set(priced) >= {"openai", "anthropic", "google", "azure", "aws", "mistral", "cohere"}


def test_a_file_that_is_there_is_not_written_again(price_directory: Path, priced: dict[str, PricedProvider]):
    """The second start reads what the first has written, and it is the same."""
    path = price_directory / file_name()
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert load(price_directory) == priced
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def _damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(whole[:-5])
    elif how == "other":
        path.write_text(
            json.dumps({"providers": {"openai": {"fallback": [], "models": [[["in", ["x"]], [[None, [1]]], []]]}}})
        )
    elif how == "link":
        (path.parent / "elsewhere").write_bytes(whole)
        path.symlink_to(path.parent / "elsewhere")
    else:
        path.write_bytes(whole)
        path.chmod(0o666)


@pytest.mark.parametrize("how", ["cut", "other", "link", "writable"])
def test_a_file_that_cannot_be_trusted_is_made_anew(
    tmp_path: Path, price_directory: Path, priced: dict[str, PricedProvider], how: str
):
    """Damaged, of another shape, a link, or writable by others: written again, whole."""
    path = tmp_path / file_name()
    path.write_bytes((price_directory / file_name()).read_bytes())
    _damage(path, how)
    assert load(tmp_path) == priced
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_a_directory_that_cannot_be_written_says_so(tmp_path: Path):
    """The error names the file, the reason and what to do."""
    with pytest.raises(PriceFileError, match=r"could not be written.*state directory"):
        load(tmp_path / "missing")


def test_genai_prices_stays_out_of_the_process(price_directory: Path, priced: dict[str, PricedProvider]):
    """Loading the table imports neither genai_prices nor pydantic, and costs less than 5 MB."""
    code = (
        "import gc, sys, psutil, pathlib, tollhouse.prices.table as p; me = psutil.Process(); gc.collect();"
        "before = me.memory_info().rss; table = p.PriceTable.load(pathlib.Path(sys.argv[1]));"
        "gc.collect(); print(me.memory_info().rss - before, 'genai_prices' in sys.modules, 'pydantic' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(price_directory)], capture_output=True, text=True, check=True)
    grown, *imported = run.stdout.split()
    assert imported == ["False", "False"]
    assert int(grown) < 5_000_000


@pytest.mark.parametrize(
    ("match", "name", "expected"),
    [
        (("in", ("gpt-4o", "x")), "gpt-4o", True),
        (("in", ("gpt-4o",)), "gpt-4o-mini", False),
        (("starts", "gpt-"), "gpt-4o", True),
        (("ends", "-mini"), "gpt-4o", False),
        (("contains", "4o"), "gpt-4o-mini", True),
        (("regex", r"^gpt-\d$"), "gpt-5", True),
        (("regex", r"^gpt-\d$"), "gpt-5x", False),
        (("and", (("starts", "a"), ("ends", "z"))), "abc", False),
        (("or", (("starts", "a"), ("ends", "z"))), "abc", True),
    ],
)
def test_match_rules(match: tuple[str, object], name: str, expected: bool):
    """Each rule of genai-prices' matching."""
    assert matches(match, name) is expected


def test_names_are_looked_up_as_genai_prices_does(priced: dict[str, PricedProvider]):
    """Every id and alias finds the model that genai-prices finds, also through another provider and a compact date."""
    from genai_prices.data import providers

    known = {provider.id: provider for provider in providers}
    common = {
        "GPT-4o",
        "claude-opus-5-20260101",
        "gpt-5.4-20260305",
        "gpt-5.6-luna-2026-07-30",
        "nonsense",
        "-",
        " gpt-4o",
    }
    common |= {
        f"{name}-{date}" for name in ("gpt-4o", "o3") for date in ("20260231", "20240806", "20240229", "20230229")
    }
    for provider_id, table in priced.items():
        names = common | {model.id for model in known[provider_id].models}
        names |= {
            text for other in (provider_id, *table.fallback) for m in priced[other].models for text in _texts(m.match)
        }
        names |= {name.replace("-2026-", "-2026").replace("-2025-", "-2025") for name in names}
        provider = known[provider_id]
        own = {id(model): entry for model, entry in zip(provider.models, table.models, strict=True)}
        fallen = {
            id(model): entry
            for other in table.fallback
            for model, entry in zip(known[other].models, priced[other].models, strict=True)
        }
        for name in names:
            expected = provider.find_model(name, all_providers=providers)
            found = find(priced, provider_id, name)
            if expected is None:
                assert found is None, (provider_id, name)
            else:
                assert found is not None, (provider_id, name)
                assert found[0] is (own | fallen)[id(expected)], (provider_id, name)
                assert found[1] is (id(expected) in own)


def _texts(match: tuple[str, object]) -> list[str]:
    kind, what = match
    if kind in ("or", "and"):
        return [text for part in what for text in _texts(part)]  # type: ignore[attr-defined]
    if kind == "in":
        return list(what)  # type: ignore[call-overload]
    return [] if kind == "regex" else [str(what), f"{what}x", f"x{what}"]
