"""``estimate = "worst"``: no call costs more than was held for it, so that no limit is ever passed.

The real gate that reads, the real prices, the real purse and the ledger; the provider is played by `count`, which charges
what a byte-level tokenizer can come to, and by the dearest tier that it may serve.
"""

from __future__ import annotations

import asyncio
import json
from operator import mul
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.calls import admitted
from tests.support.values import replace
from tests.support.wire import an_exchange

from tollhouse.admit.reading import ReadBody
from tollhouse.budget.purse import Purse
from tollhouse.call import new_call_id
from tollhouse.denial import Refused
from tollhouse.families.units import Charge, Units
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.spool import Spool
from tollhouse.ledger.store.client import connect
from tollhouse.outcome import End, Outcome
from tollhouse.parties import Project
from tollhouse.prices.source import read
from tollhouse.prices.table import PriceTable
from tollhouse.providers.openai import OPENAI

PROJECT = Scope("project", "acme", "proj_1")
LIMITS = ("3 usd/total", "2000000 tokens/total")


@pytest.fixture(scope="session")
def prices() -> PriceTable:
    """The installed table."""
    return PriceTable(read())


# What a client may send.

TEXT = st.one_of(
    st.text(st.characters(categories=None, exclude_categories=())),  # Unpaired surrogates as well.
    st.text(
        st.sampled_from(
            '漢字かな한글😀👨‍👩‍👧\U0001d15e\u0958e\u0301\u0323\\"\n\t\0\x1f\x7f\ufeff\ufdfaİß<|im_end|>'
        )
    ),
    st.builds(mul, st.text(max_size=6), st.integers(1, 400)),
)
SCHEMA = st.recursive(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"description": TEXT, "enum": st.lists(TEXT, max_size=4)},
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(TEXT, inner, max_size=4)}
    ),
    max_leaves=6,
)
FUNCTION = st.fixed_dictionaries(
    {"name": TEXT, "parameters": SCHEMA}, optional={"description": TEXT}
)
PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXT}),
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.fixed_dictionaries(
                {"url": st.just("https://example.com/a.png")},
                optional={"detail": st.sampled_from(["low", "high", "auto"])},
            ),
        }
    ),
    st.just({"type": "file", "file": {"file_id": "file-1"}}),
)
CALLED = st.fixed_dictionaries({"name": TEXT, "arguments": st.one_of(TEXT, SCHEMA.map(json.dumps))})
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
        "content": st.one_of(TEXT, st.none(), st.lists(PART, max_size=3)),
    },
    optional={
        "name": TEXT,
        "tool_call_id": TEXT,
        "tool_calls": st.lists(
            st.fixed_dictionaries({"id": TEXT, "type": st.just("function"), "function": CALLED}),
            max_size=3,
        ),
    },
)
REQUEST = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            ["gpt-4o-mini", "gpt-4.1-nano", "gpt-5-nano", "gpt-6-luna", "o4-mini"]
        ),
        "messages": st.lists(MESSAGE, max_size=5),
    },
    optional={
        "max_completion_tokens": st.integers(0, 5_000),
        "max_tokens": st.integers(0, 5_000),
        "n": st.integers(1, 3),
        "stream": st.booleans(),
        "service_tier": st.sampled_from(["auto", "default", "flex", "priority"]),
        "tools": st.lists(
            st.fixed_dictionaries({"type": st.just("function"), "function": FUNCTION}), max_size=4
        ),
        "functions": st.lists(FUNCTION, max_size=4),
        "response_format": st.fixed_dictionaries(
            {"type": st.just("json_schema"), "json_schema": SCHEMA}
        ),
        "prediction": st.fixed_dictionaries({"type": st.just("content"), "content": TEXT}),
        "web_search_options": st.just({}),
        "safety_identifier": TEXT,
    },
)
SERVED = st.sampled_from(["default", "flex", "priority"])


# What the provider makes of it.


def size(text: Any) -> int:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


def written(value: Any) -> int:
    """A definition as the longest of the templates writes it: all in escapes, with blanks, a token a byte."""
    return len(json.dumps(value)) + 8


def count(body: bytes, context: int, answer: int) -> tuple[int, int]:
    """Tokens of input, and the longest answer that the request allows, at a token a byte; of what is not in the request
    the whole context."""
    request = json.loads(body)
    tokens, far = 70 + 3, "web_search_options" in request
    for message in request["messages"]:
        tokens += (
            8
            + size(message.get("name"))
            + size(message.get("tool_call_id"))
            + size(message["content"])
        )
        tokens += sum(map(written, message.get("tool_calls", ())))
        for part in message["content"] if isinstance(message["content"], list) else ():
            tokens += 2 + size(part.get("text")) + size(part.get("refusal"))
            if part["type"] == "image_url":
                low = part["image_url"].get("detail") == "low"
                # 1536 patches at most: 2.46 tokens each of the nano models, 1.72 of o4-mini.
                dearest = {
                    "gpt-4o-mini": (2833, 48_169),
                    "gpt-6-luna": (256, 2_500),
                    "o4-mini": (2_642, 2_642),
                }
                tokens += dearest.get(request["model"], (3_779, 3_779))[not low]
                far = far or (
                    request["model"] == "gpt-6-luna"
                    and part["image_url"].get("detail") in (None, "auto")
                )
            far = far or part["type"] == "file"
    for definition in (*request.get("tools", ()), *request.get("functions", ())):
        tokens += 12 + written(definition)
    if "response_format" in request:
        tokens += 300 + written(request["response_format"])
    if "tools" in request or "functions" in request:
        tokens += 500
    caps = [request[key] for key in ("max_tokens", "max_completion_tokens") if key in request]
    cap = max(caps) if caps and all(caps) else answer
    output = (cap + size(request.get("prediction", {}).get("content"))) * request.get("n", 1)
    return max(tokens, context) if far else tokens, output


async def spend(
    directory: Path, prices: PriceTable, project: Project, calls: list[tuple[bytes, str, float]]
) -> tuple[list[tuple[int, int, int]], list[tuple[str, int, int]]]:
    """Makes the calls one after the other, as far as they are let through: tokens of input held for and counted, and the
    cost beyond the hold, of each; then every limit, as ``(text, limit, used)``."""
    redis = connect("embedded", directory)
    ledger = Ledger(redis)
    reading = ReadBody(max_body_bytes=1 << 20, idle_s=60, window=prices.window)
    purse = Purse(ledger, prices, Spool(directory))
    await ledger.set_limits(PROJECT, parse_limits(LIMITS))
    counted = []
    for body, served, share in calls:
        at = admitted(project=project, call_id=new_call_id())
        exchange, _ = an_exchange(at.arrival.head, body)
        try:
            requested = await reading(at, exchange)
            covered = await purse(requested, exchange)
        except Refused:
            continue
        asked, hold = covered.requested.asked, covered.hold
        window = prices.window("openai", asked.model)
        into, out = count(
            covered.requested.body or b"",
            OPENAI.most_input(window),
            OPENAI.most_output(asked.model, window),
        )
        tier = served if asked.tier in ("", "auto") else asked.tier
        usage = Units(
            input=into,
            cache_write=int(into * share),
            output=out,
            reasoning=int(out * share),
            requests=1,
        )
        charges = (Charge(asked.model, usage, tier),)
        charge = purse.charge(at.id, Outcome(End.WHOLE, 200, metered=True, charges=charges))
        assert charge is not None
        amount, charged_by = charge
        assert charged_by == "usage"
        counted.append(
            (requested.estimate.units.input, into, amount.nano_usd - hold.amount.nano_usd)
        )
        await purse.settle(at.id, amount, {"call_id": at.id})
    [shown] = await ledger.show([PROJECT])
    await ledger.close()
    return counted, [(row.limit.text, row.limit.amount, row.used) for row in shown.limits]


WORST = Project("proj_1", "acme", LIMITS, estimate="worst")


@settings(
    max_examples=60,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(
    requests=st.lists(
        st.tuples(REQUEST, st.booleans(), SERVED, st.floats(0, 1)), min_size=1, max_size=6
    ),
    clamp=st.booleans(),
)
def test_nothing_is_overspent(
    tmp_path: Path,
    prices: PriceTable,
    requests: list[tuple[dict[str, Any], bool, str, float]],
    clamp: bool,
) -> None:
    """Random requests in random Unicode, plain, streamed and clamped: not one costs more than its hold."""
    calls = [
        # As \u escapes, or as UTF-8 where it can be.
        (json.dumps(request, ensure_ascii=escaped or not _whole(request)).encode(), served, share)
        for request, escaped, served, share in requests
    ]
    project = replace(WORST, on_shortfall="clamp" if clamp else "reject")
    counted, limits = asyncio.run(spend(tmp_path / "none", prices, project, calls))
    for held, used, beyond in counted:
        assert used <= held
        assert beyond <= 0
    assert all(used <= limit for _, limit, used in limits)


def _whole(request: Any) -> bool:
    try:
        json.dumps(request, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("estimate", ["worst", "typical"])
def test_the_same_requests_by_both_estimates(
    tmp_path: Path, prices: PriceTable, estimate: Any
) -> None:
    """Text of which each byte is a token: what is typical is overspent, what is worst never is, and gets through."""
    request = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "\x01" * 30_000}],
        "max_tokens": 1,
    }
    calls = [(json.dumps(request).encode(), "default", 0.0)] * 100
    counted, limits = asyncio.run(spend(tmp_path, prices, replace(WORST, estimate=estimate), calls))
    overspent = any(used > limit for _, limit, used in limits)
    assert overspent is (estimate == "typical")
    if estimate == "worst":
        assert len(counted) == 39, (
            "all for which there was room: 0.0752 USD each, and 0.1319 left for the last"
        )
        assert all(beyond <= 0 for _, _, beyond in counted)


@pytest.mark.parametrize("character", ["\x01", "a", "\u6f22"])
def test_long_definitions_are_held_as_they_are_written(
    tmp_path: Path, prices: PriceTable, character: str
) -> None:
    """A tool's description of which the provider may write each character as an escape."""
    function = {"name": "f", "description": character * 10_000, "parameters": {}}
    request = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "a" * 70_000}],
        "max_tokens": 1,
        "tools": [{"type": "function", "function": function}],
    }
    calls = [(json.dumps(request).encode(), "default", 0.0)]
    [(held, used, beyond)], _ = asyncio.run(spend(tmp_path, prices, WORST, calls))
    assert used <= held
    assert beyond <= 0
