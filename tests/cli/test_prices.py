"""`tollhouse prices`: what a model costs and why, what has no price, and newer prices from a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.price_file import price_file

from tollhouse.accounts.directory import Directory
from tollhouse.call import Amount
from tollhouse.cli.main import cli
from tollhouse.control.operations import Operations
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.store.client import connect
from tollhouse.prices.builtin import CHECKED
from tollhouse.prices.source import version_of

OWN = """
[prices."openai/mine"]
input = "1"
output = "2.50"
[[prices."openai/mine".above]]
tokens = 200000
input = "2"
[prices."openai/mine".tier.priority]
output = "5"
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """`tollhouse` on embedded stores: exit code, stdout, stderr."""
    file = tmp_path / "tollhouse.toml"

    def write(more: str = "") -> None:
        file.write_text(f'[redis]\nurl = "embedded"\n[vault]\naddress = "embedded"\n{more}')

    write()

    def invoke(*arguments: str, more: str | None = None) -> tuple[int, str, str]:
        if more is not None:
            write(more)
        done = CliRunner().invoke(
            cli, ["prices", *arguments], env={"TOLLHOUSE_CONFIG": str(file)}, catch_exceptions=False
        )
        return done.exit_code, done.stdout, done.stderr

    return invoke


def test_a_configured_price_is_shown(run: Any) -> None:
    """Each rate with its unit, its step and its tier, and that it is configured."""
    code, out, _ = run("show", "mine", more=OWN)
    assert code == 0
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["openai", "input", "1", "million", "tokens", "-", "-", "-", "configured"],
        ["openai", "input", "2", "million", "tokens", "-", "200000", "-", "configured"],
        ["openai", "output", "2.5", "million", "tokens", "-", "-", "-", "configured"],
        ["openai", "output", "5", "million", "tokens", "priority", "-", "-", "configured"],
    ]


def test_a_price_of_genai_prices_is_shown(run: Any) -> None:
    """With the release that it is from, its tiers, and what a region makes of it."""
    code, out, _ = run("show", "gpt-5.4", "--provider", "openai", "--at", "2026-11-23", "--json")
    assert code == 0
    [shown] = json.loads(out)["prices"]
    assert (shown["provider"], shown["price_list"]) == ("openai", "openai")
    assert shown["source"] == f"genai-prices {version_of()}"
    rates = {
        (r["unit"], r["tier"], r["above_tokens"]): (r["usd"], r["per"]) for r in shown["rates"]
    }
    assert rates["input", None, None] == ("2.5", "million tokens")
    assert rates["input", "priority", None] == ("5", "million tokens")
    assert [factor["factor"] for factor in shown["factors"]] == ["x1.1", "x6", "x0.5"]


def test_the_date_decides(run: Any) -> None:
    """o3 cost 10 USD until 2025-06-09, and 2 since."""
    for at, usd in (("2025-06-09", "10"), ("2025-06-10", "2")):
        _, out, _ = run("show", "o3", "--provider", "openai", "--at", at, "--json")
        [shown] = json.loads(out)["prices"]
        assert shown["rates"][0] == {
            "unit": "input",
            "usd": usd,
            "per": "million tokens",
            "above_tokens": None,
            "tier": None,
            "models": None,
        }


def test_the_built_in_table_is_shown_with_its_page(run: Any) -> None:
    """A tool by the models that use it, an image model, a reranker, seconds of sound."""
    _, out, _ = run("show", "google_search", "--provider", "gemini", "--json")
    [shown] = json.loads(out)["prices"]
    assert shown["source"] == f"built-in {CHECKED[:7]}"
    assert shown["source_url"].startswith("https://ai.google.dev/")
    assert [(rate["models"], rate["usd"]) for rate in shown["rates"]] == [
        ("*gemini-[12]*", "0.035"),
        ("*gemini-[3-9]*", "0.014"),
        (None, "0.035"),
    ]
    for model, provider, unit, usd, per in (
        ("dall-e-3", "openai", "images", "0.12", "image"),
        ("rerank-v3.5", "cohere", "searches", "0.002", "search"),
        ("whisper-1", "openai", "sound", "0.36", "hour"),
    ):
        _, out, _ = run("show", model, "--provider", provider, "--json")
        rate = json.loads(out)["prices"][0]["rates"][0]
        assert (rate["unit"], rate["usd"], rate["per"]) == (unit, usd, per)


def test_a_model_without_a_price_says_no(run: Any) -> None:
    """Exit 1 in one line, with what to do. A rate of 0 that nobody filled in is no price."""
    for model in ("nonsense", "moderation"):
        code, out, err = run("show", model, "--provider", "openai")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f'[prices."openai/{model}"]' in err
    code, _, err = run("show", "gpt-4o", "--provider", "nobody")
    assert code == 2
    assert "there is no provider 'nobody'" in err


def test_all_is_well(run: Any) -> None:
    """Exit 0 where every model has a price."""
    code, out, err = run(
        "check",
        "--json",
        more='[projects.p]\ntenant = "acme"\nmodels = ["gpt-4o*", "anthropic/claude-*", "*"]\n',
    )
    assert code == 0
    assert json.loads(out) == {"prices": f"genai-prices {version_of()}", "findings": []}
    assert "every model that was looked at has a price" in err


def test_models_of_a_list_without_a_price_are_named(run: Any) -> None:
    """Exit 1. A pattern is one if no model that it fits has a price."""
    more = (
        '[projects.p]\ntenant = "acme"\n'
        'models = ["gpt-4o", "openai/no-such", "no-such-*", "vllm/llama", "tts-1"]\n'
        '[providers.vllm]\nfamily = "openai"\nhosts = ["llm.internal"]\n'
        '[prices."vllm/*"]\ninput = "0"\noutput = "0"\n'
    )
    code, out, _ = run("check", "--json", more=more)
    assert code == 1
    assert json.loads(out)["findings"] == [
        {"what": "openai/no-such", "where": "projects.p.models", "why": "it has no price"}
    ]
    code, out, _ = run("check", more=more.replace('"vllm/*"', '"vllm/other"'))
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        "openai/no-such",
        "no-such-*",
        "vllm/llama",
    ]


@pytest.mark.parametrize(
    "model",
    [
        "dall-e-*",
        "omni-moderation-*",
        "cohere/rerank-v3*",
        "openrouter/*:free",
        "bedrock/us.amazon.nova-*",
        "bedrock/*nova-lite*",
        "openai/gpt-4o-mini-2024*",
        "azure/my-deployment",
    ],
)
def test_a_model_with_a_price_is_no_finding(run: Any, model: str) -> None:
    """Whatever table it is from, wherever the pattern's text stands in it, and behind a deployment."""
    more = (
        f'[projects.p]\ntenant = "acme"\nmodels = ["{model}"]\n'
        '[providers.azure]\nhosts = ["x.openai.azure.com"]\n[providers.azure.models]\nmy-deployment = "gpt-4o"\n'
    )
    code, out, _ = run("check", "--json", more=more)
    assert (code, json.loads(out)["findings"]) == (0, [])


def test_models_that_were_used_without_a_price_are_named(tmp_path: Path, redis_url: str) -> None:
    """By the sums that Redis keeps of each project: exit 1."""

    async def use(*models: str) -> None:
        redis = connect(redis_url, tmp_path)
        ledger = Ledger(redis)
        await Operations(Directory(redis), ledger).project_set("p", "acme", [])
        scopes = [Scope("project", "acme", "p")]
        for model in models:
            await ledger.hold(model, scopes, Amount(10, 1))
            record = {"provider": "openai", "model": model}
            await ledger.settle(model, scopes, Amount(5, 2), record=record)
        await ledger.close()

    asyncio.run(use("gpt-4o", "was-used"))
    file = tmp_path / "tollhouse.toml"
    file.write_text(f'[redis]\nurl = "{redis_url}"\n[vault]\naddress = "embedded"\n')
    done = CliRunner().invoke(cli, ["prices", "check", "--json", "--config", str(file)])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["findings"] == [
        {"what": "openai/was-used", "where": "used", "why": "it has no price"}
    ]


def test_old_prices_are_named(run: Any) -> None:
    """By the day of their latest."""
    assert run("check", "--older-than", "2026-01-01")[0] == 0
    code, out, _ = run("check", "--older-than", "2030-01-01", "--json")
    assert code == 1
    assert [finding["what"] for finding in json.loads(out)["findings"]] == [
        f"genai-prices {version_of()}",
        f"built-in {CHECKED[:7]}",
    ]


def test_newer_prices_are_kept(run: Any, tmp_path: Path) -> None:
    """A sound file is taken, and counts from then on; a broken or an older one changes nothing."""
    newer, broken, older = (tmp_path / name for name in ("newer.json", "broken.json", "older.json"))
    newer.write_bytes(price_file(2))
    broken.write_bytes(price_file(3)[:-5])
    older.write_bytes(price_file(4, starts="2026-11-19"))
    code, out, err = run("update", "--from", str(newer), "--json")
    assert code == 0, err
    done = json.loads(out)
    assert done["prices"].startswith("genai-prices file ")
    assert (done["newest"], done["in_use"]) == ("2026-11-20", False)
    assert "the next `tollhouse run` uses it" in err
    kept = (tmp_path / "state" / "prices.json").read_bytes()
    assert kept == newer.read_bytes()
    for file, why in ((broken, "can be read"), (older, "is older than"), (tmp_path, "")):
        code, out, err = run("update", "--from", str(file))
        assert (code in (1, 2), out) == (True, "")
        assert why in err
        assert err.count("\n") == 1
    assert (tmp_path / "state" / "prices.json").read_bytes() == kept
    _, out, _ = run("show", "gpt-4o", "--provider", "openai", "--json")
    [shown] = json.loads(out)["prices"]
    assert shown["source"] == done["prices"]
    assert shown["rates"][0]["usd"] == "2"
