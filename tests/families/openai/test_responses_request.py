"""What is read in a request to the Responses, Conversations or completions API, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.openai import OPENAI, routes

LIMITS = Limits(context=400_000, answer=128_000)
DIALECT = Dialect("on_request", own_rules=True)


def read(body: Any, operation: Any = routes.RESPONSES) -> Asked:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OPENAI.read(Request(operation, "", (), raw), DIALECT)


def asked(**more: Any) -> Asked:
    return read({"model": "gpt-5", "input": "hi", **more})


def why(body: Any, operation: Any = routes.RESPONSES) -> str:
    with pytest.raises(Refused) as refused:
        read(body, operation)
    assert refused.value.denial.code == "bad_request"
    return refused.value.denial.why


def test_what_the_budget_needs_is_read() -> None:
    """Model, cap, stream and tier."""
    found = asked(max_output_tokens=50, stream=True, service_tier="flex", temperature=1)
    assert (found.model, found.cap, found.stream, found.tier) == ("gpt-5", 50, True, "flex")
    assert (found.choices, found.writes, found.asks_for_usage) == (1, True, False)


@pytest.mark.parametrize("cap", [None, 0])
def test_no_cap(cap: int | None) -> None:
    """Null and 0 bound nothing."""
    assert asked(max_output_tokens=cap).cap is None


@pytest.mark.parametrize(
    ("model", "reasoning", "reasons"),
    [
        ("gpt-5", None, True),
        ("gpt-5", {"effort": "low"}, True),
        ("gpt-5", {"effort": None, "summary": "auto"}, True),
        ("gpt-5", {"effort": "none"}, False),
        ("gpt-4o", None, False),
        ("gpt-4.1-mini", {"effort": "high"}, False),
        ("o3", None, True),
    ],
)
def test_who_can_reason_in_silence(model: str, reasoning: Any, reasons: bool) -> None:
    """Of models and requests."""
    assert asked(model=model, reasoning=reasoning).reasons is reasons


def test_a_background_stream_is_none_that_the_budget_could_end() -> None:
    """Its whole answer is held: the provider goes on without its reader."""
    found = asked(background=True, stream=True)
    assert (found.stream, found.detail.streams, found.detail.background) == (False, True, True)
    held = OPENAI.estimate(found, "typical", LIMITS, DIALECT)
    assert (held.units.output, held.grows) == (128_000, False)
    streamed = OPENAI.estimate(asked(stream=True), "typical", LIMITS, DIALECT)
    assert (streamed.units.output, streamed.grows) == (2_048, True)


def test_objects_that_the_body_names() -> None:
    """Each id once, wherever the API takes one; nothing that only looks like one."""
    found = asked(
        previous_response_id="resp_1",
        conversation="conv_1",
        prompt={"id": "pmpt_1", "variables": {"a": {"type": "input_file", "file_id": "file_0"}}},
        input=[
            {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
            {"type": "function_call_output", "output": [{"type": "input_file", "file_id": "f2"}]},
            {"type": "code_interpreter_call", "container_id": "cntr_1"},
            {"role": "user", "content": "file_id"},
        ],
        tools=[
            {"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]},
            {"type": "code_interpreter", "container": "cntr_1"},
            {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f3"]}},
            {"type": "shell", "environment": {"type": "container_reference", "container_id": "c"}},
            {"type": "image_generation", "input_image_mask": {"file_id": "file_1"}},
            {"type": "function", "name": "f", "parameters": {"file_id": {"type": "string"}}},
        ],
        prompt_cache_options={"comparison_response_id": "resp_2"},
        metadata={"file_id": "not one"},
    )
    assert found.objects == (
        *("resp_1", "conv_1", "pmpt_1", "resp_2", "file_1", "f2", "cntr_1"),
        *("vs_1", "vs_2", "f3", "c", "file_0"),
    )
    assert asked(conversation={"id": "conv_1"}).objects == ("conv_1",)


@pytest.mark.parametrize(
    ("item", "kept"),
    [
        ({"type": "item_reference", "id": "msg_1"}, True),
        ({"id": "msg_1"}, True),
        ({"id": "msg_1", "type": None}, True),
        ({"type": "image_generation_call", "id": "ig_1"}, True),
        ({"type": "image_generation_call", "id": "ig_1", "status": "completed"}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text"}]}, True),
        ({"type": "compaction", "id": "cmp_1"}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}, False),
        ({"type": "image_generation_call", "id": "ig_1", "result": "x"}, False),
        ({"type": "message", "id": "msg_1", "role": "user", "content": "hi"}, False),
        ({"id": "msg_1", "role": "user", "content": "hi"}, False),
        ({"type": "item_reference", "id": 7}, False),
        ("msg_1", False),
    ],
)
def test_items_that_the_provider_keeps(item: Any, kept: bool) -> None:
    """A reference, and an item that the request names without what is in it."""
    named = (item["id"],) if kept else ()
    assert asked(input=[item]).objects == named
    assert read({"items": [item]}, routes.CONVERSATION_CHANGE).objects == named


def test_ids_of_objects_in_paths() -> None:
    """They are groups of the routes' patterns."""
    named = {
        route.path.pattern: match["object"]
        for route in routes.RESPONSE_ROUTES
        for path in ("/v1/responses/resp_1", "/v1/conversations/conv_1/items/msg_1")
        if (match := route.path.fullmatch(path)) and "object" in match.groupdict()
    }
    assert set(named.values()) == {"resp_1", "conv_1"}
    kept = OPENAI.operation("DELETE", "/v1/responses/resp_1")
    assert kept is not None
    assert (kept.cost, kept.objects) == ("free", "deletes")


def test_to_ask_for_a_response_again_is_free() -> None:
    """Trap 28: a response is charged once, where it is made; its replay repeats the usage."""
    for query in ("", "stream=true&starting_after=3"):
        operation = OPENAI.operation("GET", "/v1/responses/resp_1", query)
        assert operation is not None
        assert operation.cost == "free"


def test_models_beside_the_own() -> None:
    """Those that draw are judged as well, also where the tool names none."""
    tools: Any = [{"type": "image_generation"}]
    assert asked(tools=tools).other_models == ("gpt-image-2.6-sunburst",)
    tools = [
        {
            "type": "image_generation",
            "model": "gpt-image-2",
            "output_format": "svg",
            "svg": {"model": "gpt-5.4"},
        }
    ]
    assert asked(tools=tools).other_models == ("gpt-image-2", "gpt-5.4")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b'{"model":"m","model":"n"}', "twice"),
        ({"model": "m", "Model": "n"}, "in lower case"),
        ({"model": "m", "Max_Output_Tokens": 1}, "in lower case"),
        ({"model": "m", "reasoning": {"Effort": "none"}}, '"reasoning.effort"'),
        (b'{"model":"m","temperature":NaN}', "NaN"),
        ({"input": "hi"}, 'no "model"'),
        ({"model": 5}, "must be a string"),
        ({"model": "m", "input": 5}, '"input" must be'),
        ({"model": "m", "stream": "true"}, '"stream" must be true or false'),
        ({"model": "m", "background": 1}, '"background" must be'),
        ({"model": "m", "max_output_tokens": True}, '"max_output_tokens" must be'),
        ({"model": "m", "max_output_tokens": 1.5}, "whole number"),
        ({"model": "m", "max_output_tokens": -1}, "whole number"),
        ({"model": "m", "max_tool_calls": "9"}, '"max_tool_calls" must be'),
        ({"model": "m", "tools": {}}, '"tools" must be an array'),
        ({"model": "m", "reasoning": "none"}, '"reasoning" must be an object'),
        ({"model": "m", "previous_response_id": 1}, '"previous_response_id" must be'),
        ({"model": "m", "conversation": {}}, '"conversation.id" must be'),
        ({"model": "m", "prompt": {"id": None}}, '"prompt.id" must be'),
        ({"model": "m", "multi_agent": {"enabled": True}}, "nothing bounds"),
    ],
)
def test_what_is_refused(body: Any, words: str) -> None:
    """With a sentence that says what is wrong."""
    assert words in why(body)


def test_agents_that_are_off() -> None:
    """Are no reason to refuse."""
    assert asked(multi_agent={"enabled": False, "max_concurrent_subagents": 3}).model == "gpt-5"


def test_a_cap_is_lowered_where_it_stands() -> None:
    """And put in where there is none; no other byte changes."""
    for body, lowered in (
        (b'{ "model":"m" ,"input":"a"}', b'{"max_output_tokens":3, "model":"m" ,"input":"a"}'),
        (b'{"model":"m", "max_output_tokens" : 50 }', b'{"model":"m", "max_output_tokens" : 3 }'),
        (b'{"model":"m","max_output_tokens":2}', b'{"model":"m","max_output_tokens":2}'),
        (b'{"max_output_tokens":null,"model":"m"}', b'{"max_output_tokens":3,"model":"m"}'),
    ):
        assert OPENAI.rewrite(body, read(body)._replace(lowered_to=3)) == lowered


def test_free_bodies() -> None:
    """A count of tokens needs no model; a conversation needs no body."""
    assert read({"input": "hi"}, routes.COUNT).model == ""
    found = read({"model": "m", "previous_response_id": "resp_1"}, routes.COUNT)
    assert (found.model, found.objects, found.writes) == ("m", ("resp_1",), False)
    assert read(b"", routes.CONVERSATION).objects == ()
    assert "items" in why({"items": "x"}, routes.CONVERSATION)
    assert "must be" in why({"previous_response_id": []}, routes.CONVERSATION)


def test_completions() -> None:
    """Trap 39: the cap is for each prompt and for each of the answers that are made."""

    def completion(**more: Any) -> Asked:
        body = {"model": "gpt-3.5-turbo-instruct", "prompt": "a", **more}
        return read(body, routes.COMPLETIONS)

    found = completion()
    assert (found.cap, found.choices, found.reasons) == (16, 1, False)
    assert completion(max_tokens=5, n=2, best_of=3).choices == 3
    assert completion(prompt=["a", "b"], n=2).choices == 4
    assert completion(prompt=[1, 2, 3]).choices == 1
    assert completion(prompt=[[1, 2], [3]]).choices == 2
    assert completion(max_tokens=None).cap == 16
    assert completion(stream=True).asks_for_usage
    assert not completion(stream=True, stream_options={"include_usage": True}).asks_for_usage
    held = OPENAI.estimate(completion(prompt=["a" * 400, "b" * 40]), "typical", LIMITS, DIALECT)
    assert (held.units.input, held.units.output) == (3 + 100 + 10, 32)
    tokens = completion(prompt=[[7] * 400, [8] * 40])
    assert OPENAI.estimate(tokens, "typical", LIMITS, DIALECT).units.input == 3 + 440
    for field in ({"prompt": 5}, {"n": 0}, {"n": 129}, {"echo": "yes"}, {"Best_Of": 2}):
        assert why({"model": "m", **field}, routes.COMPLETIONS)


def test_another_server_has_another_default() -> None:
    """Only OpenAI's own is known."""
    request = Request(routes.COMPLETIONS, "", (), b'{"model":"llama","prompt":"a"}')
    assert OPENAI.read(request, Dialect("on_request")).cap is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "input_text", "file"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "content", "output", "text", "image_url", "file_id", "tools"),
                    *("container", "environment", "summary", "id", "action", "model", "size"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_ITEM = st.dictionaries(
    st.sampled_from(["type", "content", "output", "image_url", "file_data", "result", "tools"]),
    _JSON
    | st.sampled_from(
        [
            *("message", "item_reference", "image_generation_call", "input_image", "input_file"),
            *("web_search", "image_generation", "code_interpreter", "namespace", "shell"),
        ]
    ),
)


@given(
    body=st.fixed_dictionaries(
        {"model": st.just("gpt-5")},
        optional={
            "input": st.lists(_ITEM | _JSON, max_size=4),
            "tools": st.lists(_ITEM | _JSON, max_size=4),
            "instructions": _JSON,
            "prompt": _JSON,
            "conversation": _JSON,
            "text": _JSON,
            "reasoning": _JSON,
            "tool_choice": _JSON,
            "background_options": _JSON,
        },
    ),
    mode=st.sampled_from(["typical", "worst"]),
)
def test_nothing_else_than_a_refusal_is_raised(body: Any, mode: Any) -> None:
    """Whatever the client sends."""
    try:
        found = read(body)
    except Refused:
        return
    assert OPENAI.estimate(found, mode, LIMITS, DIALECT).units.input > 0
