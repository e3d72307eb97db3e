"""The most that a response may use: its input, its tools, and what is not in the request."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from tollhouse.families.asked import Dialect, Limits, Mode, Request
from tollhouse.families.openai import OPENAI, routes, tools
from tollhouse.families.units import Charge, Estimate, Units

CONTEXT = 400_000
LIMITS = Limits(CONTEXT, answer=128_000)
DIALECT = Dialect("on_request", own_rules=True)
PNG = "data:image/png;base64," + (
    base64.b64encode(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 64, 64) + b"\x08\2\0\0\0" + bytes(9)
    ).decode()
)


def held(
    mode: Mode = "typical", operation: Any = routes.RESPONSES, model: str = "gpt-5", **more: Any
) -> Estimate:
    body = json.dumps({"model": model, **more}).encode()
    asked = OPENAI.read(Request(operation, "", (), body), DIALECT)
    return OPENAI.estimate(asked, mode, LIMITS, DIALECT)


def read(**more: Any) -> int:
    return held(**more).units.input


def said(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


def test_text_is_counted_wherever_it_stands() -> None:
    """A text, a message, its parts, what a function gave: 4 bytes a token, 4 more a message and 3 for the reply."""
    text = "x" * 4000
    assert read(input=text) == 1000 + 4 + 3
    assert read(input=[{"role": "user", "content": text}]) == 1007
    assert read(input=said({"type": "input_text", "text": text})) == 1007
    assert read(input=[{"type": "function_call_output", "output": text}]) == 1007
    output = [{"type": "input_text", "text": text}]
    assert read(input=[{"type": "function_call_output", "output": output}]) == 1007
    summary = [{"type": "summary_text", "text": text}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": summary, "content": []}
    assert read(input=[thought]) == 1007
    assert read(input="", instructions=text) == 1000 + 4 + 4 + 3


def test_what_is_no_input_is_not_counted() -> None:
    """Of fields that are known."""
    plain = read(input="hi")
    assert read(input="hi", metadata={"a": "x" * 400}, include=["x" * 400], user="x" * 99) == plain
    assert read(input="hi", unknown="x" * 400) == plain + 100


def test_an_image_is_counted_by_the_models_rule() -> None:
    """Not by its base64; the size of one that OpenAI keeps does not matter to a rule with a limit."""
    image = {"type": "input_image", "image_url": PNG, "detail": "low"}
    assert read(model="gpt-4o", input=said(image)) == 85 + 7
    kept = {"type": "input_image", "file_id": "file_1", "detail": "low"}
    assert read(model="gpt-4o", input=said(kept)) == 85 + 7
    shot = {"type": "computer_screenshot", "image_url": PNG, "detail": "low"}
    assert read(model="gpt-4o", input=[{"type": "computer_call_output", "output": shot}]) == 92
    # From gpt-5.6 on an image is as dear as it has pixels: 2 x 2 patches of 32.
    assert read(model="gpt-5.6", input=said({"type": "input_image", "image_url": PNG})) == 4 + 7


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": {"id": "conv_1"}},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": said({"type": "input_file", "file_id": "file_1"})},
        {"input": said({"type": "input_file", "file_url": "https://example.com/a.pdf"})},
        {"input": [{"type": "input_file", "file_id": "file_1"}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
        {"model": "gpt-5.6", "input": said({"type": "input_image", "file_id": "file_1"})},
        {
            "model": "gpt-5.6",
            "input": said({"type": "input_image", "image_url": "https://example.com/a.png"}),
        },
        {"model": "gpt-5.6", "input": [{"type": "image_generation_call", "id": "ig_1"}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "mcp", "server_url": "https://example.com"}]},
        {"tools": [{"type": "of next year"}]},
        {"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]},
        {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
    ],
)
def test_what_is_not_in_the_request_counts_as_the_context(more: dict[str, Any]) -> None:
    """Kept, fetched or searched by the provider."""
    assert read(**{"input": "hi", **more}) == CONTEXT


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "name": "f", "parameters": {}},
        {"type": "custom", "name": "f"},
        {"type": "local_shell"},
        {"type": "apply_patch"},
        {"type": "computer"},
        {"type": "computer_use_preview", "display_width": 1, "display_height": 1},
        {"type": "shell"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
    ],
)
@pytest.mark.parametrize("mode", ["typical", "worst"])
def test_tools_of_the_client_are_text(tool: dict[str, Any], mode: Mode) -> None:
    """Their results are items of the next request."""
    found = held(mode, input="hi", tools=[tool])
    assert found.units.input < 5_000
    assert found.beside == ()


def test_each_use_of_a_tool_reads_the_context_again() -> None:
    """In the worst case: as often as the request lets it, or as the constant says."""
    search = [{"type": "web_search"}]
    assert held("worst", input="hi", tools=search, max_tool_calls=3).units.input == 4 * CONTEXT
    assert held("worst", input="hi", tools=search).units.input == 129 * CONTEXT
    assert held("worst", input="hi", tools=search, max_tool_calls=999).units.input == (
        1_000 * CONTEXT
    )
    assert held("worst", input="hi", tools=search, tool_choice="none").units.input == CONTEXT


def test_the_uses_of_tools_have_bounds() -> None:
    """Ten are likely, and never more than the request allows."""
    asked: dict[str, Any] = {
        "input": "hi",
        "tools": [
            {"type": "web_search_preview_2025_03_11"},
            {"type": "file_search", "vector_store_ids": ["vs_1"]},
            {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "16g"}},
        ],
    }
    assert held(**asked).beside == (
        Charge("web_search_preview", Units(requests=10)),
        Charge("file_search", Units(requests=10)),
        Charge("code_interpreter", Units(requests=16)),
    )
    assert held("worst", **asked, max_tool_calls=2).beside == (
        Charge("web_search_preview", Units(requests=2)),
        Charge("file_search", Units(requests=2)),
        Charge("code_interpreter", Units(requests=32)),
    )
    assert held(**asked, max_tool_calls=0).beside == ()
    added = [{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}]
    assert held(input=added).beside == (Charge("web_search", Units(requests=10)),)


def test_tools_of_a_kept_prompt_are_not_known() -> None:
    """In the worst case it has every one."""
    assert held(input="hi", prompt={"id": "p"}).beside == ()
    worst = held("worst", input="hi", prompt={"id": "p"}, max_tool_calls=5)
    assert [charge.model for charge in worst.beside] == [
        *("web_search", "file_search", "code_interpreter")
    ]
    assert worst.units.input == 6 * CONTEXT


def test_an_image_that_is_drawn() -> None:
    """By its tokens at the image model, larger ones in proportion to their pixels."""

    def drawn(mode: Mode = "typical", **tool: Any) -> Units:
        [charge] = held(
            mode, input="hi", max_tool_calls=2, tools=[{"type": "image_generation", **tool}]
        ).beside
        assert charge.model == tool.get("model", tools.DEFAULT_IMAGE_MODEL)
        return charge.units

    assert drawn(model="gpt-image-1.5").output == 6_240
    assert drawn(size="1024x1024").output == 6_240
    assert drawn(size="3072x2048", partial_images=3).output == 4 * 6_240 + 300
    assert drawn(output_format="gif", frame_count=2).output == 12_480
    assert drawn("worst").output == 6_240 * 4 * 2
    assert drawn().input == drawn().input_image == 8_000 + 16 * 6_240


def test_a_compaction_has_no_cap() -> None:
    """Its output is predicted, so that nothing tries to lower it."""
    found = held(operation=routes.COMPACT, input="x" * 40_000)
    assert (found.units.input, found.units.output, found.predicted) == (10_007, 0, 10_007)
    assert held("worst", routes.COMPACT, input="hi").predicted == 128_000


@pytest.mark.parametrize(
    ("model", "options", "tool"),
    [
        ("gpt-4o-search-preview", None, "web_search_preview"),
        ("gpt-4o-mini-search-preview-2025-03-11", {}, "web_search_preview"),
        ("gpt-5-search-api", None, "web_search"),
        ("gpt-4.1", {}, "web_search"),
        ("gpt-4.1", None, ""),
    ],
)
def test_a_chat_that_searches(model: str, options: Any, tool: str) -> None:
    """One search for an answer."""
    found = held(
        operation=routes.CHAT,
        model=model,
        messages=[],
        **({} if options is None else {"web_search_options": options}),
    )
    assert found.beside == ((Charge(tool, Units(requests=1)),) if tool else ())
