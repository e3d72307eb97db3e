"""A request to Google, read strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.base import Family
from tollhouse.families.google import GOOGLE
from tollhouse.families.google.contents import CONTENT, PART
from tollhouse.families.google.request import BODY, CONFIG
from tollhouse.families.vertex import VERTEX

LIMITS = Limits(context=1_000_000, answer=65_536)
FLASH = "/v1beta/models/gemini-2.5-flash:generateContent"
THREE = "/v1beta/models/gemini-3.5-flash:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"


def read(
    body: Any,
    path: str = FLASH,
    *,
    family: Family = GOOGLE,
    query: str = "",
    headers: tuple[tuple[str, str], ...] = (),
) -> Asked:
    operation = family.operation("POST", path)
    assert operation is not None
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return family.read(Request(operation, path, headers, raw, query), Dialect())


def why(body: Any, path: str = FLASH) -> str:
    with pytest.raises(Refused) as refused:
        read(body, path)
    return f"{refused.value.denial.code}: {refused.value.denial.why}"


def contents(*parts: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(parts)}]}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (FLASH, "gemini-2.5-flash"),
        ("/v1beta/tunedModels/mine-1:generateContent", "tunedModels/mine-1"),
    ],
)
def test_the_model_stands_in_the_path(path: str, model: str) -> None:
    """It is read from nowhere else."""
    assert read(contents({"text": "a"}), path).model == model


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/publishers/google/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro"),
        (
            "/v1beta1/projects/p/locations/global/publishers/google/models/m%40001:generateContent",
            "m@001",
        ),
        ("/v1/projects/p/locations/eu/endpoints/12:generateContent", "endpoints/12"),
    ],
)
def test_the_model_of_a_path_of_vertex(path: str, model: str) -> None:
    """With a project or in express mode. That of an endpoint of one's own is not known."""
    assert read(contents({"text": "a"}), path, family=VERTEX).model == model


@pytest.mark.parametrize(
    "config",
    [
        {"maxOutputTokens": 50, "candidateCount": 3},
        {"max_output_tokens": 50, "candidate_count": 3},
        {"maxOutputTokens": 50, "candidate_count": 3, "temperature": None},
    ],
)
@pytest.mark.parametrize("name", ["generationConfig", "generation_config"])
def test_either_spelling_is_read(name: str, config: dict[str, Any]) -> None:
    """Each field in its own."""
    asked = read({**contents({"text": "a"}), name: config})
    assert (asked.cap, asked.choices) == (50, 3)
    assert GOOGLE.estimate(asked, "typical", LIMITS, Dialect()).units.output == 150


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"generationConfig": {}, "generation_config": {}}, "both"),
        ({"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 1}}, "both"),
        ({"contents": [{"parts": [], "role": "user"}], "systemInstruction": 7}, "object"),
        ({"generationConfig": {"maxoutputtokens": 1}}, '"generationConfig.maxOutputTokens"'),
        ({"generationConfig": {"max_outputTokens": 1}}, '"generationConfig.maxOutputTokens"'),
        ({"generationConfig": {"maxOutputTokens": "50"}}, "whole number"),
        ({"generationConfig": {"maxOutputTokens": -1}}, "whole number"),
        ({"generationConfig": {"maxOutputTokens": True}}, "whole number"),
        ({"generationConfig": {"responseModalities": [3]}}, "short strings"),
        ({"generationConfig": []}, "object"),
        (contents({"text": 3}), "string"),
        (contents({"inlineData": {"mimeType": "image/png"}}), "base64"),
        (contents({"inlineData": {"data": "aa", "mime_type": "a", "mimeType": "b"}}), "both"),
        (contents({"fileData": {"fileUri": "ftp://a.example/b"}}), "fileUri"),
        ({"cachedContent": "c1"}, "name of an object"),
        ({"contents": "a", "model": "models/gemini-2.5-pro"}, "not that of the path"),
        ({"tools": [{"fileSearch": {"fileSearchStoreNames": ["s1"]}}]}, "name of an object"),
        ({"tools": [3]}, "list of objects"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(body: Any, said: str) -> None:
    """With a sentence that says why."""
    found = why(body)
    assert found.startswith("bad_request: ")
    assert said in found


def test_a_cap_of_zero_is_none() -> None:
    """A field that is 0 is missing in proto3."""
    assert read({"generationConfig": {"maxOutputTokens": 0}}).cap is None


@pytest.mark.parametrize(
    ("query", "event"),
    [("alt=sse", b"data: {"), ("", b",\r\n{"), ("alt=json", b",\r\n{"), ("%24alt=SSE", b"data: {")],
)
def test_the_framing_that_was_asked_for(query: str, event: bytes) -> None:
    """Our last event has it."""
    from tollhouse.denial import Denial

    asked = read(contents({"text": "a"}), STREAM, query=query)
    assert asked.stream
    last = GOOGLE.last_event(Denial("budget_exceeded"), "call_7", asked)
    assert last.startswith(event)
    assert last.endswith(b"]" if event[:1] == b"," else b"}\n\n")


def test_two_framings_are_refused() -> None:
    """Nobody knows which the provider takes."""
    with pytest.raises(Refused):
        read(contents({"text": "a"}), STREAM, query="alt=sse&alt=json")


@pytest.mark.parametrize(
    ("uri", "objects"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/files/f-1", ("files/f-1",)),
        (
            "https://GenerativeLanguage.googleapis.com:443/v1/files/f-1:download?alt=media",
            ("files/f-1",),
        ),
        ("files/f-1", ("files/f-1",)),
        ("https://www.youtube.com/watch?v=9hE5-98ZeCg", ()),
        ("gs://bucket/files/f-1", ()),
        ("https://storage.googleapis.com/b/files/f-1", ()),
    ],
)
def test_files_that_are_named(uri: str, objects: tuple[str, ...]) -> None:
    """Also in the answer of a function. What is not in the request is as large as the context."""
    part = {"file_data": {"file_uri": uri, "mime_type": "image/png"}}
    for one in (part, {"functionResponse": {"name": "f", "parts": [part]}}):
        asked = read(contents(one))
        assert asked.objects == objects
        for mode in ("typical", "worst"):
            held = GOOGLE.estimate(asked, mode, LIMITS, Dialect())  # type: ignore[arg-type]
            assert held.units.input >= 1_000_000


@pytest.mark.parametrize(
    "uri",
    [
        "https://generativelanguage.googleapis.com/v1beta/files%2ff-1",
        "https://generativelanguage.googleapis.com/v1beta/cachedContents/c",
        "https://a@generativelanguage.googleapis.com/v1beta/files/",
        "//generativelanguage.googleapis.com/v1beta/files/f-1",
        "https://other.googleapis.com/v1beta/files/f-1",
        "https://a.example\\@generativelanguage.googleapis.com/v1beta/files/f-1",
        "http://[",
        "",
    ],
)
def test_a_file_that_can_not_be_told_is_refused(uri: str) -> None:
    """Another tenant's could hide behind it."""
    assert "fileUri" in why(contents({"fileData": {"fileUri": uri}}))


def test_stores_and_caches_that_are_named() -> None:
    """A project before the name does not count: it has a number and a name."""
    body = {
        "cached_content": "projects/7/locations/global/cachedContents/c1",
        "tools": [{"file_search": {"file_search_store_names": ["fileSearchStores/s1"]}}],
    }
    assert read(body).objects == ("fileSearchStores/s1", "cachedContents/c1")


@pytest.mark.parametrize(
    ("body", "headers", "tier"),
    [
        ({"serviceTier": "flex"}, (), "flex"),
        ({"service_tier": "SERVICE_TIER_PRIORITY"}, (), "priority"),
        ({"serviceTier": "unspecified"}, (), ""),
        ({}, (("x-vertex-ai-llm-shared-request-type", "priority"),), "priority"),
        ({}, (("x-vertex-ai-llm-request-type", "shared"),), ""),
    ],
)
def test_the_tier(body: Any, headers: Any, tier: str) -> None:
    """In the body at Gemini, in a header at Vertex."""
    assert read(body, headers=headers).tier == tier


@pytest.mark.parametrize(
    ("path", "modalities", "asks"),
    [
        (FLASH, ["TEXT", "Image"], {"output_image"}),
        (FLASH, ["AUDIO"], {"output_audio"}),
        ("/v1beta/models/gemini-2.5-flash-tts:generateContent", ["AUDIO"], set()),
    ],
)
def test_what_is_asked_for_by_name(path: str, modalities: list[str], asks: set[str]) -> None:
    """The output of a model that only speaks has one price, which is that of sound."""
    asked = read({"generationConfig": {"responseModalities": modalities}}, path)
    assert asked.asks == asks


def test_video_has_no_price() -> None:
    """As an answer, and as what vectors are made of."""
    video = {"inlineData": {"mimeType": "video/mp4", "data": "aGk="}}
    embed = "/v1beta/models/gemini-embedding-2:embedContent"
    assert why({"content": {"parts": [video]}}, embed).startswith("model_unpriced")
    asked = {"generationConfig": {"responseModalities": ["VIDEO"]}}
    assert why(asked).startswith("model_unpriced")


@pytest.mark.parametrize(
    ("path", "config", "reasons"),
    [
        (FLASH, {}, True),
        (FLASH, {"thinkingConfig": {"thinkingBudget": 0}}, False),
        (FLASH, {"thinking_config": {"thinking_budget": -1}}, True),
        ("/v1beta/models/gemini-2.0-flash:generateContent", {}, False),
        ("/v1beta/models/gemini-next:generateContent", {}, True),
    ],
)
def test_who_reasons_in_silence(path: str, config: Any, reasons: bool) -> None:
    """Whoever is not known to do without."""
    assert read({"generationConfig": config}, path).reasons is reasons


def test_models_that_may_be_taken_instead() -> None:
    """By Vertex's routing: named ones are judged, and its own choice is unknown."""
    manual = {
        "generationConfig": {"routingConfig": {"manualMode": {"modelName": "gemini-2.5-pro"}}}
    }
    assert read(manual).other_models == ("gemini-2.5-pro",)
    assert not read(manual).models_unknown
    auto: Any = {"generationConfig": {"routing_config": {"auto_mode": {}}}}
    assert read(auto).models_unknown


@pytest.mark.parametrize(
    ("tool", "beside"),
    [
        ({"googleSearch": {}}, {"google_search"}),
        ({"google_search_retrieval": {}}, {"google_search"}),
        ({"googleMaps": {}}, {"google_maps"}),
        ({"urlContext": {}}, set()),
        ({"codeExecution": {}}, set()),
    ],
)
def test_tools_that_google_runs(tool: Any, beside: set[str]) -> None:
    """Each is bounded, and what it finds is as large as the context."""
    for path, most in ((FLASH, 1), (THREE, 10)):
        held = GOOGLE.estimate(read({"tools": [tool]}, path), "typical", LIMITS, Dialect())
        assert {charge.model for charge in held.beside} == beside
        assert all(charge.units.requests == most for charge in held.beside)
        assert held.units.input >= 1_000_000


@pytest.mark.parametrize(
    ("tool", "uses"),
    [
        ({"retrieval": {"vertexAiSearch": {}}}, {"retrieval"}),
        ({"parallel_ai_search": {}}, {"parallel_ai_search"}),
        ({"exaAiSearch": {"apiKey": "k"}}, {"exa_ai_search"}),
        ({"type": "retrieval"}, {"retrieval"}),
        ({"type": "retrieval", "retrieval_types": ["rag_store", "a new one"]}, {"retrieval"}),
        ({"type": "retrieval", "retrieval_types": ["exa_ai_search"]}, {"exa_ai_search"}),
        ({"type": "retrieval", "parallel_ai_search_config": {}}, {"parallel_ai_search"}),
    ],
)
def test_a_tool_whose_uses_are_not_counted(tool: Any, uses: set[str]) -> None:
    """One use is held, under a name of its own. A cache with one would hide it."""
    path, body = THREE, {"tools": [tool]}
    if "type" in tool:
        path, body = "/v1beta/interactions", {"model": "m", "input": "a", "tools": [tool]}
    else:
        cached = {"model": "models/gemini-3-flash", "tools": [tool]}
        assert "with each request instead" in why(cached, "/v1beta/cachedContents")
    held = GOOGLE.estimate(read(body, path), "typical", LIMITS, Dialect())
    assert {(charge.model, charge.units.requests) for charge in held.beside} == {
        (use, 1) for use in uses
    }
    assert held.units.input >= 1_000_000


def test_tools_of_the_client() -> None:
    """They bring in nothing."""
    tool = {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}
    held = GOOGLE.estimate(read({"tools": [tool]}), "typical", LIMITS, Dialect())
    assert held.units.input < 100
    assert held.beside == ()


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        (b"{}", b'{"generationConfig":{"maxOutputTokens":5}}'),
        (b'{"contents":"a"}', b'{"generationConfig":{"maxOutputTokens":5},"contents":"a"}'),
        (b'{"generation_config": null}', b'{"generation_config": {"maxOutputTokens":5}}'),
        (b'{"generationConfig":{}}', b'{"generationConfig":{"maxOutputTokens":5}}'),
        (
            b'{"generation_config":{"topK":1,"max_output_tokens" : 70}}',
            b'{"generation_config":{"topK":1,"max_output_tokens" : 5}}',
        ),
        (
            b'{"generationConfig":{"maxOutputTokens":0}}',
            b'{"generationConfig":{"maxOutputTokens":5}}',
        ),
        (
            b'{"generationConfig":{"maxOutputTokens":4}}',
            b'{"generationConfig":{"maxOutputTokens":4}}',
        ),
    ],
)
def test_a_cap_is_lowered_where_it_stands(body: bytes, lowered: bytes) -> None:
    """And no other byte changes."""
    assert GOOGLE.rewrite(body, read(body)._replace(lowered_to=5)) == lowered


def test_a_cap_of_an_interaction_is_lowered() -> None:
    """Its fields have one spelling."""
    body = b'{"model":"gemini-3.5-flash","input":"a"}'
    asked = read(body, "/v1beta/interactions")
    assert GOOGLE.rewrite(body, asked._replace(lowered_to=5)) == (
        b'{"generation_config":{"max_output_tokens":5},"model":"gemini-3.5-flash","input":"a"}'
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": "a"}, "either"),
        ({"model": "m", "agent": "a"}, "either"),
        ({"model": "m", "previousInteractionId": "x"}, '"previous_interaction_id"'),
        ({"model": "m", "input": {"type": "image"}}, '"data" or a "uri"'),
        ({"model": "m", "stream": 1}, "true or false"),
        ({"model": "m", "tools": [{"type": ["google_search"]}]}, "string"),
    ],
)
def test_an_interaction_is_read_strictly(body: Any, said: str) -> None:
    """With a sentence that says why."""
    assert said in why(body, "/v1beta/interactions")


def test_an_agent_works_with_models_of_its_own() -> None:
    """They are unknown, and so is the end of what works in the background."""
    asked = read({"agent": "deep-research", "input": "a", "stream": True}, "/v1beta/interactions")
    assert asked.models_unknown
    assert (asked.stream, asked.cap) == (False, None)
    body = {"model": "gemini-3.5-flash", "input": "a", "background": True, "stream": True}
    assert not read(body, "/v1beta/interactions").stream


def test_the_time_of_a_cache() -> None:
    """Begun hours count. A time of day can't be priced."""
    body: dict[str, Any] = {"model": "models/gemini-2.5-flash", "contents": "a", "ttl": "7200s"}
    held = GOOGLE.estimate(read(body, "/v1beta/cachedContents"), "typical", LIMITS, Dialect())
    [storage] = held.beside
    assert (storage.model, storage.units.requests) == ("cache_storage", 1)
    for wrong in ({"ttl": 3600}, {"ttl": "1h"}, {"expireTime": "2027-01-01T00:00:00Z"}):
        assert "ttl" in why({**body, **wrong}, "/v1beta/cachedContents")


NAMES = st.sampled_from(
    [*BODY.values(), *CONFIG.values(), *CONTENT.values(), *PART.values(), "mimeType", "fileUri"]
)
ANY = st.recursive(
    st.none() | st.integers() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.sampled_from(["type", "uri", "data"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, ANY, max_size=6), ANY)
def test_any_body_is_read_or_refused(body: dict[str, Any], inner: Any) -> None:
    """Nothing else is raised, and what was read has an estimate."""
    interaction = {**body, "model": "m", "input": inner, "tools": inner}
    for one, path in (
        (body, FLASH),
        ({"contents": [{"parts": [body]}]}, FLASH),
        ({"generationConfig": body, "tools": [body]}, FLASH),
        ({"requests": [body]}, "/v1beta/models/gemini-embedding-2:batchEmbedContents"),
        (interaction, "/v1beta/interactions"),
        (body, "/v1beta/cachedContents"),
        (body, "/v1beta/models/gemini-2.5-flash:countTokens"),
        ({"instances": inner, "parameters": body}, "/v1beta/models/imagen-4:predict"),
        (body, "/v1beta/tunedModels"),
        (
            {"model": "m", "messages": [], "extra_body": {"google": body}},
            "/v1beta/openai/chat/completions",
        ),
    ):
        try:
            asked = read(one, path)
        except Refused:
            continue
        for mode in ("typical", "worst"):
            GOOGLE.estimate(asked, mode, LIMITS, Dialect())  # type: ignore[arg-type]
