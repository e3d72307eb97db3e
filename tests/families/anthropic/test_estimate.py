"""What is held for a request before anybody knows what it takes."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import pytest

from tollhouse.families.anthropic.estimate import estimate
from tollhouse.families.anthropic.request import read
from tollhouse.families.anthropic.routes import MESSAGES
from tollhouse.families.asked import Dialect, Limits, Mode, Request
from tollhouse.families.units import Charge, Estimate, Units

LIMITS = Limits(context=200_000, answer=64_000)
OWN = Dialect(own_rules=True)
# ``typical``: 8 for the request and 4 for a message; 40 characters are 10 of OpenAI's tokens and 15.5 of Claude's.
SAID = [{"role": "user", "content": "x" * 40}]
PLAIN = 28
# ``worst``: 1024 for the request and 16 for the message, and a token for each byte.
PLAIN_WORST = 1_080


def _held(mode: Mode = "typical", dialect: Dialect = OWN, **more: Any) -> Estimate:
    body = json.dumps({"model": "claude-a", "max_tokens": 500, "messages": SAID, **more}).encode()
    return estimate(read(Request(MESSAGES, "", (), body), dialect), mode, LIMITS, dialect)


def _input(mode: Mode = "typical", **more: Any) -> int:
    return _held(mode, **more).units.input


def _blocks(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def png(width: int, height: int) -> str:
    """The beginning of a PNG file of this size, in base64."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
    return base64.b64encode(data + struct.pack(">I", zlib.crc32(head))).decode()


def _image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


def test_text() -> None:
    """By its length, and its cap as output."""
    assert _held().units == Units(input=PLAIN, output=500, requests=1)
    assert _held("worst").units == Units(input=PLAIN_WORST, output=500, requests=1)
    # A text as a block has 1 or 4 more; 16 more characters have 6.2 more.
    assert _input(**_blocks({"type": "text", "text": "x" * 40})) == PLAIN + 1
    assert _input("worst", **_blocks({"type": "text", "text": "x" * 40})) == PLAIN_WORST + 4
    # 27.5 and 4 for the place of the system, 6.2 for its text, rounded up.
    assert _input(system="x" * 16) == 38
    assert _input("worst", system="x" * 16) == PLAIN_WORST + 16 + 16
    assert _input("worst", system=[{"type": "text", "text": "é"}]) == PLAIN_WORST + 16 + 4 + 2


def test_a_stream_without_a_cap() -> None:
    """It is held slice by slice; ``worst`` holds the longest answer."""
    held = _held(max_tokens=None, stream=True)
    assert (held.units.output, held.grows) == (2_048, True)
    held = _held("worst", max_tokens=None, stream=True)
    assert (held.units.output, held.grows) == (64_000, False)
    assert _held(max_tokens=None).units.output == 64_000


def test_thinking_that_the_cap_does_not_bind() -> None:
    """It is output beside the cap."""
    inside = _held(thinking={"type": "enabled", "budget_tokens": 499})
    assert (inside.units.output, inside.predicted) == (500, 0)
    beside = _held(thinking={"type": "enabled", "budget_tokens": 9_000})
    assert (beside.units.output, beside.predicted) == (500, 9_000)


def test_to_be_cached_changes_the_price_alone() -> None:
    """A token that is kept for an hour is a dearer one, and no other one."""
    held = _held(cache_control={"type": "ephemeral", "ttl": "1h"})
    assert held == _held()._replace(may=frozenset({"cache_write_1h"}))


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        # 54 by its pixels / 750, and 64 patches of 28 x 28.
        (200, 200, 64),
        # 1334 by the one rule and 1296 by the other.
        (1000, 1000, 1_334),
        # Scaled down.
        (8000, 8000, 4_784),
    ],
)
@pytest.mark.parametrize("mode", ["typical", "worst"])
def test_image(mode: Mode, width: int, height: int, tokens: int) -> None:
    """By its pixels, by the older rule or the newer, whichever is more; never by its base64."""
    source = {"type": "base64", "media_type": "image/png", "data": png(width, height)}
    around = {"typical": 8 + 4 + 1, "worst": 1_024 + 16 + 4}[mode]
    assert _input(mode, **_blocks(_image(**source))) == around + tokens


def test_an_image_that_cannot_be_looked_at() -> None:
    """It is the largest: a model sees no larger one, wherever it comes from. Only Anthropic's own rules are sure."""
    for source in (
        {"type": "url", "url": "https://example.com/a.png"},
        {"type": "file", "file_id": "file_1"},
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
    ):
        assert _input(**_blocks(_image(**source))) == 13 + 4_784
        assert _input("worst", **_blocks(_image(**source))) == 1_044 + 4_784
    block = _blocks(_image(type="base64", media_type="image/png", data=png(200, 200)))
    assert _held("worst", Dialect(), **block).units.input == LIMITS.context


def _pdf(data: bytes) -> dict[str, Any]:
    source = {
        "type": "base64",
        "media_type": "application/pdf",
        "data": base64.b64encode(data).decode(),
    }
    return _blocks({"type": "document", "source": source, "title": "abcd"})


def test_pdf() -> None:
    """By its pages where they can be counted, else by its bytes; nobody knows for sure. The title has 1.55 tokens."""
    pages = b"%PDF-1.4 " + b"<< /Type /Page >> " * 3 + b"<< /Type /Pages >>"
    assert _input(**_pdf(pages)) == 8 + 4 + 1 + 3 * 4_600 + 2
    assert _input(**_pdf(b"%PDF-1.5 " + b"\0" * 400_000)) == 8 + 4 + 1 + 200_008
    assert _input(**_pdf(b"%PDF-1.5 ")) == 8 + 4 + 1 + 4_600 + 2
    assert _input("worst", **_pdf(pages)) == LIMITS.context


def test_documents() -> None:
    """Text counts as text; what is elsewhere, as the context limit."""
    text = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "x" * 40},
    }
    assert _input(**_blocks(text)) == PLAIN + 1
    inner = [{"type": "text", "text": "x" * 40}]
    nested = {"type": "document", "source": {"type": "content", "content": inner}}
    assert _input(**_blocks(nested)) == PLAIN + 2
    for source in (
        {"type": "url", "url": "https://example.com/a.pdf"},
        {"type": "file", "file_id": "file_1"},
    ):
        for mode in ("typical", "worst"):
            document = _blocks({"type": "document", "source": source})
            assert _input(mode, **document) == LIMITS.context  # type: ignore[arg-type]


def test_results_of_tools() -> None:
    """A result may have text or blocks of its own, also images."""
    source = {"type": "base64", "media_type": "image/png", "data": png(200, 200)}
    result = {"type": "tool_result", "content": [_image(**source)]}
    assert _input(**_blocks(result)) == 8 + 4 + 1 + 1 + 64
    assert _input(**_blocks({"type": "tool_result", "content": "x" * 40})) == PLAIN + 1


@pytest.mark.parametrize(
    "more",
    [
        {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "m"}]},
        {"tools": [{"type": "mcp_toolset", "mcp_server_name": "m"}]},
        {"thread": {"type": "continue", "previous_message_id": "msg_1"}},
    ],
)
def test_input_that_is_elsewhere(more: dict[str, Any]) -> None:
    """Nobody can know how much it is."""
    assert _input(**more) >= LIMITS.context
    assert _input("worst", **more) >= LIMITS.context


def test_tools_of_the_client() -> None:
    """The provider's own text for tools, once; 12 for the tool, and its JSON."""
    tool = {"name": "toll", "input_schema": {}}
    # 27.5 + 804 + 12; the object is 1, its keys 1.55 and 4.65, its name 1.55, the schema 1.
    assert _input(tools=[tool]) == 854
    # The JSON has 36 characters, written twice as long.
    assert _input("worst", tools=[tool]) == PLAIN_WORST + 2_048 + 64 + 2 * 36
    # One that the provider describes itself, with 1234; type and name are 1.55 + 5.04 + 1.55 + 1.55 and 1.
    own = {"type": "bash_20250124", "name": "bash"}
    assert _input(tools=[own]) == 2_077


def test_a_search() -> None:
    """With each turn the model reads all again and what was found; the searches stand beside."""
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    typical = _held(tools=[tool])
    seen = _input(tools=[{**tool, "type": "custom"}])
    assert typical.beside == (Charge("web_search", Units(requests=2)),)
    # Three turns: with nothing, with one and with two searches' 10,000.
    assert 30_000 + 3 * seen < typical.units.input < 30_000 + 3 * (seen + 1_250)
    worst = _held("worst", tools=[tool])
    assert worst.units.input == 3 * LIMITS.context
    assert worst.beside == (Charge("web_search", Units(requests=2)),)
    # Without a bound, up to the turns that the provider takes.
    free = {"type": "web_search_20250305", "name": "web_search"}
    assert _held("worst", tools=[free]).units.input == 11 * LIMITS.context
    assert _held("worst", tools=[free]).beside == (Charge("web_search", Units(requests=100)),)
    assert _held(tools=[free]).beside == (Charge("web_search", Units(requests=10)),)
    assert _held(tools=[{**tool, "max_uses": 0}]).beside == ()


def test_code() -> None:
    """A container by its time, unless a newer search brings it free."""
    code = {"type": "code_execution_20250825", "name": "code_execution"}
    assert _held(tools=[code]).beside == (Charge("code_execution", Units(milliseconds=300_000)),)
    assert _held("worst", tools=[code]).beside == (
        Charge("code_execution", Units(milliseconds=3_600_000)),
    )
    fetch = {"type": "web_fetch_20260209", "name": "web_fetch"}
    assert _held(tools=[code, fetch]).beside == ()


def test_an_adviser() -> None:
    """A second model, which reads what the first has read and written."""
    tool = {"type": "advisor_20260301", "name": "advisor", "model": "claude-b", "max_uses": 2}
    assert _held("worst", tools=[tool]).beside == (
        Charge("claude-b", Units(input=400_000, output=128_000, requests=1)),
    )
    [typical] = _held(tools=[{**tool, "max_tokens": 100}]).beside
    assert (typical.model, typical.units.output) == ("claude-b", 200)
    assert 2 * (PLAIN + 500) < typical.units.input < 2 * (PLAIN + 500 + 2_500)


def test_a_summary_of_the_context() -> None:
    """One more pass, which the cap does not bind: in ``typical`` if the input may reach the trigger."""
    edit = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 20}}
    instructed = {"context_management": {"edits": [edit]}}
    [summary] = _held(**instructed).beside
    seen = _input(**instructed)
    assert summary == Charge("claude-a", Units(input=seen, output=8_192, requests=1))
    assert _held(context_management={"edits": [{"type": "compact_20260112"}]}).beside == ()
    assert _held("worst", **instructed).beside == (
        Charge("claude-a", Units(input=200_000, output=64_000, requests=1)),
    )
    assert len(_held(compaction={"type": "summarize"}).beside) == 1
    assert _held(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}).beside == ()


def test_fallbacks() -> None:
    """``worst``: an attempt that declines after its first words is charged as well."""
    more = {"fallbacks": [{"model": "claude-b"}, {"model": "claude-c", "max_tokens": 900}]}
    assert _held(**more).beside == ()
    held = _held("worst", **more)
    assert held.units.output == 900
    assert held.beside == (
        Charge("claude-b", Units(input=PLAIN_WORST, output=900, requests=1)),
        Charge("claude-c", Units(input=PLAIN_WORST, output=900, requests=1)),
    )
