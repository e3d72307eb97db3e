"""What companies and servers that speak OpenAI's API say in their own way. Their whole answers are samples of the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.families.samples.kit import sse

from tollhouse.config.load import catalog, load_config
from tollhouse.families.asked import Asked, Dialect
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai import OPENAI
from tollhouse.families.openai.meter import JsonMeter
from tollhouse.families.openai.paid import paid_of
from tollhouse.families.openai.responses_usage import ResponseTold
from tollhouse.families.openai.usage import Told, usage_of
from tollhouse.families.units import Charge, Units
from tollhouse.providers import BUILT_IN

PROVIDERS = {provider.name: provider for provider in BUILT_IN}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
UNITS = Units(input=9, output=4, requests=1)


def told(**members: Any) -> tuple[Charge, ...]:
    found = Told()
    for key, value in members.items():
        found.read(key, value)
    return found.charges()


def streamed(*frames: dict[str, Any], edits: bool = False) -> tuple[tuple[Charge, ...], bytes]:
    """The charges of a stream, and what its client gets."""
    asked = Asked("m", stream=True, asks_for_usage=edits, kind="chat")
    meter = OPENAI.meter(asked, AnswerHead(200, (("content-type", "text/event-stream"),)))
    out = meter.feed(sse(*map(json.dumps, frames), "[DONE]")) + meter.flush()
    return meter.finish(), out


def test_what_is_paid_stands_without_a_count() -> None:
    """One request. Zeros of a server that does not count say nothing."""
    paid = {"cost_in_usd_ticks": 50}
    assert told(model="m", usage=paid) == (Charge("m", Units(requests=1), paid=5),)
    assert told(model="m", usage={"cost_in_usd_ticks": 0}) == ()
    zeros = {"prompt_tokens": 0, "completion_tokens": 0}
    assert told(model="m", usage=zeros | paid)[0].paid == 5
    assert told(model="m", usage=USAGE | paid) == (Charge("m", UNITS, paid=5),)
    response = ResponseTold()
    response.read({"model": "m", "usage": paid})
    assert response.charges() == (Charge("m", Units(requests=1), paid=5),)


@pytest.mark.parametrize(
    ("usage", "nano_usd"),
    [
        ({"cost_in_usd_ticks": 0}, 0),
        ({"cost_in_usd_ticks": 10}, 1),
        ({"cost_in_usd_ticks": 11}, 2),
        ({"cost_in_usd_ticks": -1}, None),
        ({"cost_in_usd_ticks": True}, None),
        ({"cost": 0.00014, "is_byok": False}, 140_000),
        ({"cost": 0.0001400000001, "is_byok": False}, 140_001),
        ({"cost": 1e-12, "is_byok": False}, 1),
        ({"cost": 2, "cost_details": {}}, 2_000_000_000),
        (
            {"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}},
            21_000_000,
        ),
        # Nobody knows the other bill.
        ({"cost": 0.001, "is_byok": True, "cost_details": None}, None),
        ({"cost": 0.001, "seconds": 9.2}, 1_000_000),
        # Some other server's word for something else.
        ({"cost": 0.001}, None),
        ({"cost": "0.001", "is_byok": False}, None),
        ({"cost": float("nan"), "is_byok": False}, None),
        ({"cost": float("inf"), "is_byok": False}, None),
        ({"cost": {"total_cost": 0.006}}, 6_000_000),
        ({"cost": {"request_cost": 0.006}}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_what_the_account_pays(usage: object, nano_usd: int | None) -> None:
    """Rounded up to a nano-dollar; None where it is not said."""
    assert paid_of(usage) == nano_usd


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 3}, 6),
        ({"prompt_cache_hit_tokens": 6, "prompt_tokens_details": {"cached_tokens": 5}}, 5),
        ({"prompt_cache_hit_tokens": None}, 0),
        ({"prompt_cache_hit_tokens": 60}, 9),
    ],
)
def test_deepseeks_cache(details: dict[str, Any], cached: int) -> None:
    found = usage_of({**USAGE, **details})
    assert found is not None
    assert found.cached == cached


MODELS = {
    "models": [
        {"model": "a", "usage": {"prompt_tokens": 6, "completion_tokens": 1, "total_time": 0.1}},
        {"model": "b", "usage": {"prompt_tokens": 3, "completion_tokens": 3}},
    ]
}
BOTH = (
    Charge("a", Units(input=6, output=1, requests=1)),
    Charge("b", Units(input=3, output=3, requests=1)),
)


def test_a_system_of_several_models() -> None:
    """Each has its own charge: plain, and in Groq's own frame of a stream."""
    assert told(usage=USAGE, model="groq/compound", usage_breakdown=MODELS) == BOTH
    last = {
        "model": "groq/compound",
        "choices": [],
        "x_groq": {"usage": USAGE, "usage_breakdown": MODELS},
    }
    assert streamed(last)[0] == BOTH


@pytest.mark.parametrize(
    "models",
    [
        None,
        {},
        {"models": None},
        {"models": [{"model": "a", "usage": None}]},
        {"models": [{"model": 1, "usage": USAGE}]},
        {"models": [MODELS["models"][0]] * 33},
    ],
)
def test_a_breakdown_that_cannot_be_read(models: object) -> None:
    """The whole is charged."""
    assert told(usage=USAGE, model="m", usage_breakdown=models) == (Charge("m", UNITS),)


TOOLS = [
    {"index": 0, "type": "search", "arguments": "{}"},
    {"index": 1, "type": "python"},
    {"index": 2, "type": "browser_search"},
    {"index": 3, "type": "visit"},
]
USES = (
    Charge("m", UNITS),
    Charge("web_search", Units(requests=2)),
    Charge("code_interpreter", Units(requests=1)),
    Charge("visit", Units(requests=1)),
)


@pytest.mark.parametrize("around", [0, 20_000, 100_000])
def test_tools_that_groq_has_run(around: int) -> None:
    """They are charged apart. Of an answer that is too long to be kept nobody knows which they were."""
    meter = JsonMeter()
    choice = {"message": {"content": "x" * around, "executed_tools": TOOLS}}
    meter.feed(json.dumps({"model": "m", "choices": [choice], "usage": USAGE}).encode())
    meter.flush()
    unknown = (Charge("m", UNITS), Charge("executed_tools", Units(requests=1)))
    assert meter.finish() == (unknown if around > 65_536 else USES)


def test_tools_of_a_stream() -> None:
    """A tool is told of when it begins and when it ends, and is one use."""

    def chunk(*tools: dict[str, Any]) -> dict[str, Any]:
        return {"model": "m", "choices": [{"index": 0, "delta": {"executed_tools": list(tools)}}]}

    last = {"model": "m", "choices": [], "x_groq": {"usage": USAGE}}
    frames = (chunk(TOOLS[0]), chunk({**TOOLS[0], "output": "x"}), chunk(*TOOLS[1:]), last)
    assert streamed(*frames)[0] == USES


def test_what_is_paid_covers_the_tools() -> None:
    usage = {**USAGE, "cost_in_usd_ticks": 70}
    found = told(usage=usage, model="m", choices=[{"message": {"executed_tools": TOOLS}}])
    assert found == (Charge("m", UNITS, paid=7),)


def test_pages_that_xai_has_searched() -> None:
    """They are charged apart, where the answer does not say what all of it costs."""
    found = told(usage={**USAGE, "num_sources_used": 3}, model="m")
    assert found == (Charge("m", UNITS), Charge("live_search", Units(requests=3)))


@pytest.mark.parametrize(
    ("error", "code"),
    [("over_capacity", "over_capacity"), ("You said: hello", "error"), (None, ""), ("", "")],
)
def test_an_error_in_groqs_own_frame(error: str | None, code: str) -> None:
    """A code is told on, and a text, which may repeat the request, is not."""
    found = Told()
    found.read("x_groq", {"id": "r", "error": error})
    assert found.error == code


def test_counts_in_each_chunk_replace_each_other() -> None:
    """vLLM with ``continuous_usage_stats``, and Fireworks: the last one counts."""
    frames = [
        {
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": "x"}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count},
        }
        for count in (1, 2, 3, 4)
    ]
    charges, out = streamed(*frames, edits=True)
    assert charges == (Charge("m", UNITS),)
    assert b"usage" not in out
    assert out.count(b'"content": "x"') == 4


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": None},
        {},
    ],
)
def test_a_server_that_does_not_count(usage: object) -> None:
    """Ollama and LM Studio send zeros or nothing: that is no count, and the hold or the text decides."""
    assert told(usage=usage, model="m") == ()
    assert streamed({"model": "m", "choices": [], "usage": usage})[0] == ()


def test_details_that_are_null() -> None:
    """vLLM's, unless it is told to count them."""
    usage = {**USAGE, "prompt_tokens_details": None, "completion_tokens_details": None}
    assert told(usage=usage, model="m") == (Charge("m", UNITS),)


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("groq", Dialect("always", least_seconds=10)),
        ("deepseek", Dialect("on_request")),
        ("xai", Dialect("on_request")),
        ("openrouter", Dialect("always")),
        ("together", Dialect("always")),
        ("fireworks", Dialect("always")),
        ("perplexity", Dialect("always")),
    ],
)
def test_dialects(name: str, dialect: Dialect) -> None:
    """A stream that does not tell its usage unasked is made to."""
    assert PROVIDERS[name].dialect == dialect


@pytest.mark.parametrize("name", ["vllm", "ollama", "lmstudio"])
def test_servers_of_ones_own_are_configuration(name: str, tmp_path: Any) -> None:
    """They speak OpenAI's whole API, are asked for usage, and follow none of OpenAI's own rules."""
    file = tmp_path / "tollhouse.toml"
    file.write_text(
        f'[providers.{name}]\nfamily = "openai"\nhosts = ["llm.internal"]\n[vault]\naddress = "embedded"\n'
    )
    provider = catalog(load_config(file)).by_host("llm.internal")
    assert provider is not None
    assert (provider.family, provider.dialect) == (OPENAI, Dialect("on_request"))


@pytest.mark.parametrize(
    ("name", "path", "closed"),
    [
        ("groq", "/openai/v1/chat/completions", "/v1/chat/completions"),
        ("deepseek", "/chat/completions", "/anthropic/v1/messages"),
        ("deepseek", "/beta/chat/completions", "/beta/v1/chat/completions"),
        ("xai", "/v1/images/generations", "/v1/audio/speech"),
        ("openrouter", "/api/v1/chat/completions", "/api/v1/files"),
        ("openrouter", "/api/v1/embeddings", "/v1/embeddings"),
        ("together", "/v1/audio/transcriptions", "/v1/queue/submit"),
        ("fireworks", "/inference/v1/embeddings", "/v1/embeddings"),
        ("perplexity", "/chat/completions", "/v1/files"),
    ],
)
def test_paths(name: str, path: str, closed: str) -> None:
    """Each company has its own, and what only another has is closed."""
    family = PROVIDERS[name].family
    assert family.operation("POST", path) is not None
    assert family.operation("POST", closed) is None
