"""What Google counts, in the one normal form. Answers are made with google-genai's own types."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from tollhouse.families.google.models import plain, version
from tollhouse.families.google.usage import (
    Grounded,
    interaction_units,
    metadata_units,
    tool_counts,
)
from tollhouse.families.units import Charge, Units


def metadata(**counts: Any) -> dict[str, Any]:
    made = types.GenerateContentResponseUsageMetadata(**counts)
    return made.model_dump(mode="json", by_alias=True, exclude_none=True)


def kinds(*counts: tuple[str, int]) -> list[types.ModalityTokenCount]:
    return [
        types.ModalityTokenCount(modality=types.MediaModality(kind), token_count=count)
        for kind, count in counts
    ]


def test_thoughts_and_tools_are_added() -> None:
    """Candidates have no thoughts in them, and a tool's prompt stands beside the prompt."""
    counts = metadata(
        prompt_token_count=100,
        tool_use_prompt_token_count=30,
        candidates_token_count=20,
        thoughts_token_count=50,
        cached_content_token_count=60,
        total_token_count=200,
    )
    assert metadata_units(counts) == Units(
        input=130, output=70, cached=60, reasoning=50, requests=1
    )


def test_kinds_of_tokens() -> None:
    """One may occur twice; a page and a frame are images; a tool's prompt has kinds of its own."""
    counts = metadata(
        prompt_token_count=100,
        tool_use_prompt_token_count=10,
        cached_content_token_count=40,
        candidates_token_count=30,
        prompt_tokens_details=kinds(
            ("TEXT", 10),
            ("AUDIO", 20),
            ("AUDIO", 5),
            ("IMAGE", 25),
            ("DOCUMENT", 20),
            ("VIDEO", 20),
        ),
        tool_use_prompt_tokens_details=kinds(("IMAGE", 10)),
        cache_tokens_details=kinds(("AUDIO", 7), ("TEXT", 33)),
        candidates_tokens_details=kinds(("IMAGE", 20), ("AUDIO", 10)),
    )
    assert metadata_units(counts) == Units(
        input=110,
        output=30,
        cached=40,
        input_audio=25,
        cached_audio=7,
        input_image=75,
        output_image=20,
        output_audio=10,
        requests=1,
    )


@pytest.mark.parametrize(
    ("total", "output"),
    [(0, 4), (13, 4), (12, 4), (20, 11)],
)
def test_the_larger_of_sum_and_total_counts(total: int, output: int) -> None:
    """What no field tells is output."""
    counts = metadata(prompt_token_count=9, candidates_token_count=4, total_token_count=total)
    assert metadata_units(counts) == Units(input=9, output=output, requests=1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"trafficType": "ON_DEMAND"},
        {"candidatesTokenCount": 4},
        {"promptTokenCount": None},
        {"promptTokenCount": True},
        {"promptTokenCount": -1},
        {"promptTokenCount": "9x"},
    ],
)
def test_without_a_prompt_there_is_no_count(value: object) -> None:
    """Null is not zero."""
    assert metadata_units(value) is None


def test_parts_are_never_more_than_the_whole() -> None:
    """Whatever the provider says."""
    counts = {
        "promptTokenCount": "9",
        "cachedContentTokenCount": 20,
        "promptTokensDetails": [{"modality": "audio", "tokenCount": 30}, 7, {"modality": 3}],
        "candidatesTokensDetails": None,
    }
    assert metadata_units(counts) == Units(input=9, cached=9, input_audio=9, requests=1)


def test_an_interaction() -> None:
    """The same under other names, and with its searches."""
    usage = {
        "total_input_tokens": 100,
        "total_tool_use_tokens": 20,
        "total_cached_tokens": 50,
        "total_output_tokens": 30,
        "total_thought_tokens": 10,
        "total_tokens": 160,
        "input_tokens_by_modality": [{"modality": "image", "tokens": 40}],
        "output_tokens_by_modality": [{"modality": "audio", "tokens": 30}],
        "grounding_tool_count": [
            {"type": "google_search", "count": 2},
            {"type": "retrieval", "count": 9},
            {"type": "google_maps", "count": 1},
            {"type": "google_search", "count": 1},
        ],
    }
    assert interaction_units(usage) == Units(
        input=120,
        output=40,
        cached=50,
        reasoning=10,
        input_image=40,
        output_audio=30,
        requests=1,
    )
    assert tool_counts(usage) == (
        Charge("google_search", Units(requests=3)),
        Charge("google_maps", Units(requests=1)),
    )
    assert tool_counts(None) == ()


@pytest.mark.parametrize(
    ("model", "queries", "uses"),
    [
        ("gemini-2.5-flash", ["a", "b"], 1),
        ("gemini-2.0-flash", ["", " "], 0),
        ("gemini-3.5-flash", ["a", "b", "a", "", " b "], 2),
        ("gemini-4-argon", ["a"], 1),
        ("gemini-flash-latest", ["a", "b"], 2),
        ("gemini-3.5-flash", [], 0),
    ],
)
def test_searches(model: str, queries: list[str], uses: int) -> None:
    """From Gemini 3 on each query that is not empty, once; before that the prompt."""
    made = types.GroundingMetadata(web_search_queries=queries)
    grounded = Grounded({"google_search"})
    # Each piece of a stream may repeat them.
    for _ in range(2):
        grounded.read(made.model_dump(mode="json", by_alias=True, exclude_none=True))
    expected = (Charge("google_search", Units(requests=uses)),) if uses else ()
    assert grounded.charges(model) == expected


def test_maps() -> None:
    """An answer that has places in it; its queries are those of the only tool that was asked for."""
    found = {"groundingChunks": [{"maps": {"uri": "u"}}], "webSearchQueries": ["a", "b"]}
    for tools, uses in (
        ({"google_maps"}, {"google_maps": 2}),
        ({"google_maps", "google_search"}, {"google_search": 2, "google_maps": 1}),
    ):
        grounded = Grounded(tools)
        grounded.read(found)
        charges = grounded.charges("gemini-3.5-flash")
        assert {charge.model: charge.units.requests for charge in charges} == uses


@pytest.mark.parametrize(
    ("name", "known", "generation"),
    [
        ("models/gemini-2.5-flash", "gemini-2.5-flash", 2),
        ("publishers/google/models/gemini-3.5-flash", "gemini-3.5-flash", 3),
        ("google/gemini-2.0-flash-001", "gemini-2.0-flash-001", 2),
        ("tunedModels/models", "tunedModels/models", 0),
        ("claude-sonnet-4-5%4020250929", "claude-sonnet-4-5@20250929", 0),
    ],
)
def test_names_of_models(name: str, known: str, generation: int) -> None:
    """As the table of prices has them."""
    assert (plain(name), version(plain(name))) == (known, generation)
