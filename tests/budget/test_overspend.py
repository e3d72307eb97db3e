"""With ``estimate = "worst"`` no answer costs more than is held: pictures, sound, tools of the caller's and of the provider's.

The worst answer is worked out here by the rules that the providers publish. Its text is a token a byte, which is the most that a
byte-level tokenizer makes of it; it uses each of the provider's tools as often as the request allows, and writes up to its cap.
"""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import wave
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.calls import PROJECT, admitted, requested
from tests.support.values import replace

from tollhouse.budget.charges import Charges
from tollhouse.budget.hold import CallHold
from tollhouse.families.units import Charge, Units
from tollhouse.outcome import End, Outcome
from tollhouse.prices.source import read
from tollhouse.prices.table import PriceTable
from tollhouse.providers import Provider
from tollhouse.providers.anthropic import ANTHROPIC
from tollhouse.providers.bedrock import BEDROCK
from tollhouse.providers.gemini import GEMINI
from tollhouse.providers.mistral import MISTRAL
from tollhouse.providers.openai import OPENAI

CAP = 700


class Asks(NamedTuple):
    texts: list[str]
    pictures: list[tuple[int, int]]
    """Width and height."""
    seconds: list[int]
    """Of sound."""
    tools: list[str]
    """What the caller's own tools are for."""
    uses: int
    """The most uses of tools that the provider runs."""


class Api(NamedTuple):
    provider: Provider
    path: str
    body: Callable[[Asks], dict[str, Any]]
    picture: Callable[[int, int], int]
    """Tokens of one."""
    second: int = 0
    """Tokens of a second of sound; 0: it takes none."""
    ran: tuple[str, ...] = ()
    """Tools that the provider runs, each of which has a price for a use."""


@cache
def prices() -> Charges:
    return Charges(PriceTable(read()))


def png(width: int, height: int) -> str:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head).decode()


def wav(seconds: int) -> str:
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(1_000)
        sound.writeframes(bytes(seconds * 1_000))
    return base64.b64encode(made.getvalue()).decode()


def fitted(width: float, height: float, longest: float) -> tuple[float, float]:
    by = min(1.0, longest / max(width, height))
    return width * by, height * by


def in_tiles_of_512(width: int, height: int) -> int:
    """https://developers.openai.com/api/docs/guides/images-vision: gpt-4o, high detail."""
    wide, high = fitted(width, height, 2_048)
    by = min(1.0, 768 / min(wide, high))
    return 85 + 170 * math.ceil(wide * by / 512) * math.ceil(high * by / 512)


def by_pixels(width: int, height: int) -> int:
    """https://platform.claude.com/docs/en/build-with-claude/vision: no more than 1,568 tokens."""
    wide, high = fitted(width, height, 1_568)
    return min(math.ceil(wide * high / 750), 1_568)


def in_tiles_of_768(width: int, height: int) -> int:
    """https://ai.google.dev/gemini-api/docs/tokens: 258 for a small one, and for each tile of a large one."""
    if width <= 384 and height <= 384:
        return 258
    side = min(max(min(width, height) / 1.5, 256), 768)
    return 258 * math.ceil(width / side) * math.ceil(height / side)


def in_patches_of_16(width: int, height: int) -> int:
    """https://docs.mistral.ai/capabilities/vision: of at most 1,540 pixels a side, and a break a row."""
    wide, high = fitted(width, height, 1_540)
    return (math.ceil(wide / 16) + 1) * math.ceil(high / 16)


def nova(width: int, height: int) -> int:
    """https://docs.aws.amazon.com/nova/latest/userguide/modalities-image.html: 1,300 to 2,600."""
    return 2_600


def _function(purpose: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    return {"name": "f", "description": purpose, "parameters": schema}


def _chat(asks: Asks, model: str = "gpt-4o") -> dict[str, Any]:
    said: list[dict[str, Any]] = [{"type": "text", "text": text} for text in asks.texts]
    said += [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(*size)}"}}
        for size in asks.pictures
    ]
    said += [
        {"type": "input_audio", "input_audio": {"data": wav(each), "format": "wav"}}
        for each in asks.seconds
    ]
    tools = [{"type": "function", "function": _function(each)} for each in asks.tools]
    body = {"model": model, "messages": [{"role": "user", "content": said}], "max_tokens": CAP}
    return body | ({"tools": tools} if tools else {})


def _seen(asks: Asks) -> dict[str, Any]:
    return _chat(asks._replace(seconds=[]))


def _spoken(asks: Asks) -> dict[str, Any]:
    return _chat(asks._replace(pictures=[]), "gpt-audio")


def _responses(asks: Asks) -> dict[str, Any]:
    said: list[dict[str, Any]] = [{"type": "input_text", "text": text} for text in asks.texts]
    said += [
        {"type": "input_image", "image_url": f"data:image/png;base64,{png(*size)}"}
        for size in asks.pictures
    ]
    tools: list[dict[str, Any]] = [{"type": "function", **_function(each)} for each in asks.tools]
    tools += [{"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}]
    return {
        "model": "gpt-4o",
        "input": [{"role": "user", "content": said}],
        "tools": tools,
        "max_tool_calls": asks.uses,
        "max_output_tokens": CAP,
    }


def _messages(asks: Asks) -> dict[str, Any]:
    said: list[dict[str, Any]] = [{"type": "text", "text": text} for text in asks.texts]
    said += [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": png(*size)},
        }
        for size in asks.pictures
    ]
    tools: list[dict[str, Any]] = [
        {"name": "f", "description": each, "input_schema": _function(each)["parameters"]}
        for each in asks.tools
    ]
    tools.append({"type": "web_search_20250305", "name": "web_search", "max_uses": asks.uses})
    return {
        "model": "claude-sonnet-4-5",
        "messages": [{"role": "user", "content": said}],
        "tools": tools,
        "max_tokens": CAP,
    }


def _contents(asks: Asks) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": text} for text in asks.texts]
    parts += [
        {"inlineData": {"mimeType": "image/png", "data": png(*size)}} for size in asks.pictures
    ]
    parts += [{"inlineData": {"mimeType": "audio/wav", "data": wav(n)}} for n in asks.seconds]
    tools: list[dict[str, Any]] = [{"googleSearch": {}}]
    if asks.tools:
        tools.append({"functionDeclarations": [_function(each) for each in asks.tools]})
    return {
        "contents": [{"role": "user", "parts": parts}],
        "tools": tools,
        "generationConfig": {"maxOutputTokens": CAP},
    }


def _mistral(asks: Asks) -> dict[str, Any]:
    return _chat(asks._replace(seconds=[]), "mistral-medium-latest")


def _converse(asks: Asks) -> dict[str, Any]:
    said: list[dict[str, Any]] = [{"text": text} for text in asks.texts]
    said += [
        {"image": {"format": "png", "source": {"bytes": png(*size)}}} for size in asks.pictures
    ]
    schema = {"json": _function("")["parameters"]}
    tools = [
        {"toolSpec": {"name": "f", "description": each, "inputSchema": schema}}
        for each in asks.tools
    ]
    body = {
        "messages": [{"role": "user", "content": said}],
        "inferenceConfig": {"maxTokens": CAP},
    }
    return body | ({"toolConfig": {"tools": tools}} if tools else {})


APIS = {
    "chat": Api(OPENAI, "/v1/chat/completions", _seen, in_tiles_of_512),
    "sound": Api(OPENAI, "/v1/chat/completions", _spoken, lambda *size: 0, second=10),
    "responses": Api(
        OPENAI,
        "/v1/responses",
        _responses,
        in_tiles_of_512,
        ran=("web_search", "file_search"),
    ),
    "claude": Api(ANTHROPIC, "/v1/messages", _messages, by_pixels, ran=("web_search",)),
    "gemini": Api(
        GEMINI,
        "/v1beta/models/gemini-2.5-flash:generateContent",
        _contents,
        in_tiles_of_768,
        second=32,
        ran=("google_search",),
    ),
    "mistral": Api(MISTRAL, "/v1/chat/completions", _mistral, in_patches_of_16),
    "nova": Api(
        BEDROCK,
        "/model/us.amazon.nova-lite-v1:0/converse",
        _converse,
        nova,
    ),
}
_ASKS = st.builds(
    Asks,
    st.lists(st.text(max_size=200), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 9_000), st.integers(1, 9_000)), max_size=3),
    st.lists(st.integers(1, 90), max_size=2),
    st.lists(st.text(max_size=100), max_size=3),
    st.integers(1, 20),
)


def worst(api: Api, asks: Asks) -> tuple[Charge, ...]:
    """The bill of the worst answer. All uses go to the dearest of the tools that the provider runs,
    one of whose results nobody can foresee: the input is read once here."""
    sound = sum(asks.seconds) * api.second
    into = sum(len(text.encode()) for text in (*asks.texts, *asks.tools)) + sound
    into += sum(api.picture(*size) for size in asks.pictures)
    own = Charge("", Units(input=into, input_audio=sound, output=CAP, requests=1))
    uses = 1 if api.ran == ("google_search",) else asks.uses
    return (own, *(Charge(tool, Units(requests=uses)) for tool in api.ran))


@pytest.mark.parametrize("name", APIS)
@given(asks=_ASKS)
def test_no_answer_costs_more_than_is_held(name: str, asks: Asks) -> None:
    """In nano-dollars and in tokens, by the real prices."""
    api = APIS[name]
    project = replace(PROJECT, estimate="worst", limits=("10 usd/day",))
    at = admitted(api.path, provider=api.provider, project=project)
    call = requested(json.dumps(api.body(asks)).encode(), at)
    held, priced = prices().amount(call, call.estimate)
    assert priced
    hold = CallHold(call, call.estimate, held)
    charged = prices().charge(hold, Outcome(End.WHOLE, 200, metered=True, charges=worst(api, asks)))
    assert charged is not None
    amount, rule = charged
    assert rule == "usage"
    assert 0 < amount.nano_usd <= held.nano_usd
    assert amount.tokens <= held.tokens
