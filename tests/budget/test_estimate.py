import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.budget import estimate
from tollhouse.budget.estimate import estimate_input_tokens

FIXED = estimate.TOKENS_PER_MESSAGE + estimate.TOKENS_PER_REPLY


def chat(content: Any, model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def wav(seconds: int, rate: int = 16_000) -> str:
    data = bytes(seconds * rate * 2)
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    )
    return base64.b64encode(head + b"data" + struct.pack("<I", len(data)) + data).decode()


def test_text_is_four_bytes_a_token() -> None:
    """ASCII text by its length, other text by its UTF-8 bytes."""
    assert estimate_input_tokens(chat("x" * 4000)) == 1000 + FIXED
    assert estimate_input_tokens(chat("語" * 4000)) == 3000 + FIXED


def test_text_parts_count_as_text() -> None:
    """The two ways of writing the same message come to the same."""
    assert estimate_input_tokens(chat([{"type": "text", "text": "x" * 4000}])) == estimate_input_tokens(
        chat("x" * 4000)
    )


@pytest.mark.parametrize(
    ("model", "detail", "tokens"),
    [
        ("gpt-4o", "low", 85),
        ("gpt-4o", "high", 1536),
        ("gpt-4o", None, 1536),
        ("gpt-4o-mini", "low", 2833),
        ("gpt-4o-mini", "auto", 48_169),
        ("gpt-4.1-nano", "low", 3779),
        ("gpt-5", "original", 24_600),
    ],
)
def test_an_image_costs_by_its_detail(model: str, detail: str | None, tokens: int) -> None:
    """The most that this detail can come to, whatever the length of the base64 or the URL."""
    for url in ("https://example.com/cat.png", "data:image/png;base64," + "A" * 1_000_000):
        image = {"url": url} | ({"detail": detail} if detail else {})
        request = chat([{"type": "image_url", "image_url": image}], model)
        assert abs(estimate_input_tokens(request) - FIXED - tokens) <= 1


def test_audio_costs_by_its_length() -> None:
    """Ten tokens a second: of a WAV by its own header, of an MP3 by the lowest bit rate in ordinary use."""

    def part(data: str, form: str) -> dict[str, Any]:
        return chat([{"type": "input_audio", "input_audio": {"data": data, "format": form}}])

    assert abs(estimate_input_tokens(part(wav(60), "wav")) - FIXED - 600) <= 2
    mp3 = base64.b64encode(bytes(4_000 * 60)).decode()
    assert abs(estimate_input_tokens(part(mp3, "mp3")) - FIXED - 600) <= 2


def test_a_lying_wav_header_makes_the_sound_no_shorter_than_48_khz_stereo() -> None:
    """A header that claims an impossible rate is not believed."""
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 4 * 10**9, 4 * 10**9, 1, 8)
    data = base64.b64encode(head + bytes(80_000)).decode()
    request = chat([{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}])
    assert estimate_input_tokens(request) >= 100


def test_files_and_references_are_held_generously() -> None:
    """A file counts by its bytes; what is only named by an id could be anything."""
    data = "data:application/pdf;base64," + base64.b64encode(bytes(20_000)).decode()
    assert abs(estimate_input_tokens(chat([{"type": "file", "file": {"file_data": data}}])) - FIXED - 10_000) <= 2
    assert estimate_input_tokens(chat([{"type": "file", "file": {"file_id": "file-1"}}])) > 100_000
    before = {"role": "assistant", "audio": {"id": "audio_1"}}
    assert estimate_input_tokens({"model": "m", "messages": [before]}) > 3_000


def test_tools_and_schemas_count() -> None:
    """Definitions of functions, a response's schema, a prediction and tool calls are input."""
    parameters = {"type": "object", "properties": {"q": {"type": "string", "description": "x" * 4000}}}
    tool = {"type": "function", "function": {"name": "search", "parameters": parameters}}
    assert estimate_input_tokens(chat("hi", tools=[tool])) > 1000
    assert estimate_input_tokens(chat("hi", functions=[tool["function"]])) > 1000
    assert estimate_input_tokens(chat("hi", response_format={"type": "json_schema", "json_schema": parameters})) > 1000
    assert estimate_input_tokens(chat("hi", prediction={"type": "content", "content": "x" * 4000})) > 1000
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "x" * 4000}}]}
    assert estimate_input_tokens({"model": "m", "messages": [call]}) > 1000


def test_what_is_unknown_counts_by_its_bytes() -> None:
    """A part, a message or a field that a later API brings is counted as text, not as nothing."""
    assert estimate_input_tokens(chat([{"type": "hologram", "voxels": "x" * 4000}])) > 1000
    assert estimate_input_tokens(chat([{"type": "text", "text": "hi", "more": "x" * 4000}])) > 1000
    assert estimate_input_tokens(chat("hi", memories=["x" * 4000])) > 1000
    assert estimate_input_tokens({"model": "m", "messages": ["x" * 4000]}) > 1000


def test_settings_are_no_input() -> None:
    """Sampling settings, caps and names of the caller cost nothing."""
    more = {"temperature": 1, "max_tokens": 10**6, "user": "u" * 400, "stream": True, "metadata": {"a": "b" * 400}}
    assert estimate_input_tokens(chat("hi", **more)) == estimate_input_tokens(chat("hi"))


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ("x" * 400, 100),
        (["x" * 400, "y" * 4, "z"], 102),
        ([1, 2, 3], 3),
        ([[1, 2, 3], [4, 5]], 5),
        ("", 1),
        ([], 1),
        ([""], 1),
    ],
)
def test_embeddings(value: Any, tokens: int) -> None:
    """A string, several, or tokens already counted by the client."""
    assert estimate_input_tokens({"model": "text-embedding-3-small", "input": value}) == tokens


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON, st.sampled_from(["messages", "input", "tools"]))
def test_nothing_that_json_can_say_breaks_it(value: Any, other: Any, field: str) -> None:
    """Any document is estimated, at one token or more."""
    assert estimate_input_tokens({"model": value, field: other}) >= 1
    assert estimate_input_tokens({"messages": [{"role": "user", "content": [other]}]}) >= 1
    assert estimate_input_tokens({"messages": [{"content": [{"type": "image_url", "image_url": value}]}, other]}) >= 1


@given(st.text(min_size=1))
def test_text_is_never_below_a_quarter_of_its_bytes(text: str) -> None:
    """The estimate holds what it says, for any Unicode."""
    assert estimate_input_tokens(chat(text)) * 4 >= len(text.encode("utf-8", "replace"))
    assert json.dumps(chat(text))
