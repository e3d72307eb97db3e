"""How a request for messages is read, and how its cap is lowered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.denial import Refused
from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.anthropic.extras import Other, Runs
from tollhouse.families.anthropic.request import read
from tollhouse.families.anthropic.rewrite import rewrite
from tollhouse.families.anthropic.routes import COUNT, MESSAGES
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.formats.document import SMALL

SAID = [{"role": "user", "content": "é"}]


def _body(**more: Any) -> bytes:
    return json.dumps({"model": "claude-a", "max_tokens": 50, "messages": SAID, **more}).encode()


def _read(body: bytes, model: str | None = None) -> Asked:
    return read(Request(MESSAGES, "", (), body), Dialect(), model)


def _read_or_refused(body: bytes) -> Asked | str:
    try:
        return _read(body)
    except Refused as refused:
        return refused.denial.code


def _why(body: bytes) -> str:
    with pytest.raises(Refused) as refused:
        _read(body)
    assert refused.value.denial.code == "bad_request"
    return refused.value.denial.why


def test_a_plain_request_is_read_and_left_alone() -> None:
    """What the budget needs is read, and the body is the same object."""
    body = _body(stream=True)
    asked = _read(body)
    assert rewrite(body, asked) is body
    assert (asked.model, asked.other_models, asked.models_unknown) == ("claude-a", (), False)
    assert (asked.stream, asked.cap, asked.least_cap, asked.kind) == (True, 50, 1, "messages")
    assert (asked.tier, asked.may, asked.objects, asked.reasons) == ("", frozenset(), (), True)
    assert (asked.choices, asked.asks_for_usage) == (1, False)


def test_the_model_may_stand_in_the_path() -> None:
    """Vertex and Bedrock: the body has none, or it does not count."""
    body = b'{"anthropic_version":"vertex-2023-10-16","max_tokens":5,"messages":[]}'
    assert _read(body, "claude-b").model == "claude-b"
    assert _read(_body(), "claude-b").model == "claude-b"
    assert _why(body) == 'The body has no "model".'


def test_no_cap() -> None:
    """The provider answers 400 for nothing. A cap of 0 is one: it only fills the cache."""
    assert _read(b'{"model":"m","messages":[]}').cap is None
    assert _read(b'{"model":"m","max_tokens":null}').cap is None
    assert _read(b'{"model":"m","max_tokens":0}').cap == 0


@pytest.mark.parametrize(
    ("more", "tier"),
    [
        ({"service_tier": "auto"}, "auto"),
        ({"service_tier": "standard_only"}, "standard"),
        ({"speed": "standard", "inference_geo": None}, ""),
        ({"speed": "fast"}, "fast"),
        ({"inference_geo": "global"}, "global"),
        ({"speed": "fast", "inference_geo": "us"}, "fast+us"),
        ({"fallbacks": [{"model": "claude-b", "speed": "fast"}]}, "fast"),
    ],
)
def test_tier(more: dict[str, Any], tier: str) -> None:
    """All that is asked for and changes the price."""
    assert _read(_body(**more)).tier == tier


@pytest.mark.parametrize(
    ("thinking", "least", "beside"),
    [
        ({"type": "enabled", "budget_tokens": 40}, 41, 0),
        ({"type": "adaptive"}, 1, 0),
        ({"type": "disabled", "budget_tokens": 40}, 1, 0),
        # Between tools it may be more than the cap.
        ({"type": "enabled", "budget_tokens": 50}, 1, 50),
        ({"type": "enabled", "budget_tokens": 9_000}, 1, 9_000),
        (None, 1, 0),
    ],
)
def test_thinking(thinking: Any, least: int, beside: int) -> None:
    """It has to stay below the cap, or it is not bound by the cap at all."""
    asked = _read(_body(thinking=thinking))
    assert (asked.least_cap, asked.detail.thinks_beside) == (least, beside)


@pytest.mark.parametrize(
    ("model", "more", "reasons"),
    [
        ("claude-3-5-haiku-latest", {}, False),
        ("claude-sonnet-4-5-20250929", {}, False),
        ("claude-opus-4-7", {}, False),
        ("anthropic.claude-sonnet-4-20250514-v1:0", {}, False),
        ("claude-opus-4-7", {"thinking": {"type": "adaptive"}}, True),
        ("claude-opus-4-7", {"fallbacks": [{"model": "claude-opus-5"}]}, True),
        ("claude-opus-5", {}, True),
        ("claude-opus-5", {"thinking": {"type": "disabled"}}, False),
        ("kimi-k3", {}, True),
    ],
)
def test_silence(model: str, more: dict[str, Any], reasons: bool) -> None:
    """It is thinking where it is asked for, and of a model that nobody knows."""
    assert _read(_body(**more), model).reasons == reasons


def test_thinking_of_a_fallback() -> None:
    """A lowered cap is lowered for the fallback too, and has to stay above its thinking."""
    thinks = {"type": "enabled", "budget_tokens": 45}
    asked = _read(_body(fallbacks=[{"model": "claude-b", "thinking": thinks}]))
    assert (asked.least_cap, asked.detail.thinks_beside) == (46, 0)
    disabled = {"thinking": {"type": "disabled"}}
    assert not _read(_body(**disabled)).reasons
    assert _read(_body(**disabled, fallbacks=[{"model": "claude-b", "thinking": thinks}])).reasons


def test_tools_of_the_providers() -> None:
    """Those of the client are no more than input."""
    tools = [
        {"name": "mine", "input_schema": {}},
        {"type": "custom", "name": "mine", "input_schema": {}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "computer_20251124", "name": "computer"},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "browser_toolset_20260801"},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 4},
        {"type": "web_fetch_20250910", "name": "web_fetch", "max_content_tokens": 900},
        {"type": "mcp_toolset", "mcp_server_name": "m"},
        {"type": "advisor_20260301", "name": "advisor", "model": "claude-b", "max_tokens": 7},
        {"type": "something_new"},
    ]
    asked = _read(_body(tools=tools))
    assert asked.detail.runs == (
        Runs("web_search_20250305", 4),
        Runs("web_fetch_20250910", None, 900),
        Runs("mcp_toolset"),
        Runs("advisor_20260301"),
        Runs("something_new"),
    )
    assert asked.detail.advisors == (Other("claude-b", 7),)
    assert asked.other_models == ("claude-b",)
    assert _read(_body(mcp_servers=[{"type": "url"}])).detail.runs == (Runs("mcp_toolset"),)


def test_fallbacks() -> None:
    """Each may have a cap of its own, and the largest is held."""
    entries = [
        {"model": "claude-b", "max_tokens": 90},
        {"model": "claude-c"},
        {"model": "claude-a"},
    ]
    asked = _read(_body(fallbacks=entries))
    assert (asked.other_models, asked.cap) == (("claude-b", "claude-c"), 90)
    assert not asked.models_unknown
    # Models of the provider's own choice.
    assert _read(_body(fallbacks="default")).models_unknown
    assert not _read(_body(fallbacks=None)).models_unknown


def test_objects() -> None:
    """All that the provider keeps and the body names, each once, wherever it stands."""
    document = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    asked = _read(
        _body(
            container={
                "id": "container_1",
                "skills": [
                    {"type": "custom", "skill_id": "skill_1"},
                    {"type": "anthropic", "skill_id": "pdf"},
                ],
            },
            thread={"type": "continue", "previous_message_id": "msg_1"},
            diagnostics={"previous_message_id": "msg_2"},
            messages=[
                {
                    "role": "user",
                    "content": [
                        document,
                        {"type": "tool_result", "content": [document]},
                        {"type": "container_upload", "file_id": "file_2"},
                    ],
                }
            ],
        )
    )
    assert set(asked.objects) == {
        "container_1", "skill_1", "msg_1", "msg_2", "file_1", "file_2",
    }  # fmt: skip
    assert len(asked.objects) == 6
    assert _read(_body(container="container_2")).objects == ("container_2",)
    assert _read(_body(thread={"type": "create"})).detail.keeps_thread


@pytest.mark.parametrize(
    ("more", "hour"),
    [
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, True),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, False),
        ({"cache_control": {"type": "ephemeral"}}, False),
        ({"system": [{"type": "text", "text": "a", "cache_control": {"ttl": "1h"}}]}, True),
        ({"tools": [{"name": "a", "cache_control": {"ttl": "1h"}}]}, True),
    ],
)
def test_an_hour_in_the_cache(more: dict[str, Any], hour: bool) -> None:
    """It costs twice the input, wherever it is asked for."""
    assert _read(_body(**more)).may == (frozenset({"cache_write_1h"}) if hour else frozenset())


def test_names_written_as_escapes_in_a_large_body() -> None:
    """A long string is not decoded, and an escape for each character makes one of a name."""
    escaped = '"' + "".join(f"\\u{ord(letter):04x}" for letter in "web_search_20250305") + '"'
    body = (
        b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"'
        + b"x" * SMALL
        + b'"}],"tools":[{"name":"web_search","type":'
        + escaped.encode()
        + b"}]}"
    )
    assert _read(body).detail.runs == (Runs("web_search_20250305"),)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"max_tokens": -1}, '"max_tokens" must be a whole number'),
        ({"max_tokens": "5"}, '"max_tokens" must be a whole number'),
        ({"max_tokens": True}, '"max_tokens" must be a whole number'),
        ({"stream": 1}, '"stream" must be true or false.'),
        ({"model": ""}, '"model" must be a string of 1 to 256'),
        ({"model": "a\n"}, '"model" must be a string of 1 to 256'),
        ({"messages": {}}, '"messages" must be a list.'),
        ({"system": 5}, '"system" must be a string or a list.'),
        ({"tools": {}}, '"tools" must be a list.'),
        ({"tools": [5]}, '"tools" must be a list of objects.'),
        ({"tools": [{"type": 5}]}, '"tools.type" must be a string.'),
        ({"tools": [{"type": "web_search_1", "max_uses": -1}]}, '"tools.max_uses" must be a whole'),
        ({"tools": [{"type": "advisor_1"}]}, '"tools.model" must be a string'),
        ({"tools": [{"Type": "custom"}]}, 'it is "tools.type", in lower case.'),
        ({"thinking": []}, '"thinking" must be an object.'),
        ({"thinking": {"budget_tokens": "5"}}, '"thinking.budget_tokens" must be a whole number'),
        ({"thinking": {"Budget_Tokens": 5}}, 'it is "thinking.budget_tokens", in lower case.'),
        ({"fallbacks": {}}, '"fallbacks" must be a list.'),
        ({"fallbacks": [{}]}, '"fallbacks.model" must be a string'),
        ({"fallbacks": [{"model": "m"}] * 33}, '"fallbacks" may have at most 32 entries.'),
        ({"service_tier": 5}, '"service_tier" must be a string.'),
        ({"container": 5}, '"container" must be a string or an object.'),
        ({"container": {"id": 5}}, "An id of a file, a container, a skill or a message"),
        ({"context_management": {"edits": [5]}}, '"edits" must be a list of objects.'),
        ({"billing_policy": {"bill_to": "user_profile"}}, "The body asks for another payer"),
        ({"Max_Tokens": 5}, 'it is "max_tokens", in lower case.'),
        ({"INFERENCE_GEO": "us"}, 'it is "inference_geo", in lower case.'),
    ],
)
def test_refused(more: dict[str, Any], why: str) -> None:
    """What a parser could read otherwise, or not at all."""
    assert why in _why(_body(**more))


def test_many_objects_are_refused() -> None:
    """There is a bound on what is asked of the store."""
    files = [{"type": "container_upload", "file_id": f"file_{n}"} for n in range(1_001)]
    assert "more than 1000 objects" in _why(_body(messages=[{"role": "user", "content": files}]))


def test_to_count_tokens_writes_nothing() -> None:
    """It is read as strictly, and costs nothing."""
    asked = ANTHROPIC.read(Request(COUNT, "", (), b'{"model":"m","messages":[]}'), Dialect())
    assert (asked.model, asked.writes, asked.kind) == ("m", False, "count_tokens")
    with pytest.raises(Refused):
        ANTHROPIC.read(Request(COUNT, "", (), b'{"model":"m","Model":"n"}'), Dialect())


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{ "max_tokens" : 9 ,"model":"m"}', b'{ "max_tokens" : 3 ,"model":"m"}'),
        (b'{"model":"m"}', b'{"max_tokens":3,"model":"m"}'),
        (b'{"model":"m","max_tokens":null}', b'{"model":"m","max_tokens":3}'),
        (b'{"model":"m","max_tokens":2}', b'{"model":"m","max_tokens":2}'),
        (
            b'{"model":"m","max_tokens":9,"fallbacks":[{"model":"a","max_tokens":12},'
            b' {"model":"b{","max_tokens":1},{"model":"c","max_tokens":null}]}',
            b'{"model":"m","max_tokens":3,"fallbacks":[{"model":"a","max_tokens":3},'
            b' {"model":"b{","max_tokens":1},{"model":"c","max_tokens":null}]}',
        ),
        (
            b'{"fallbacks":[{"max_tokens":12,"model":"a"}],"model":"m","max_tokens":9}',
            b'{"fallbacks":[{"max_tokens":3,"model":"a"}],"model":"m","max_tokens":3}',
        ),
        (
            b'{"model":"m","messages":[{"max_tokens":9}],"max_tokens":9}',
            b'{"model":"m","messages":[{"max_tokens":9}],"max_tokens":3}',
        ),
    ],
)
def test_a_lowered_cap(body: bytes, sent: bytes) -> None:
    """That of the request and those of its fallbacks, and no other byte."""
    asked = _read(body)
    found = rewrite(body, asked._replace(lowered_to=3))
    assert found == sent
    assert (_read(found).cap or 0) <= 3


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_KEYS = st.sampled_from(
    ["tools", "messages", "system", "thinking", "fallbacks", "container", "thread", "mcp_servers",
     "context_management", "compaction", "cache_control", "speed", "billing_policy", "output_config"]
)  # fmt: skip


@given(more=st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_whatever_is_sent(more: dict[str, Any]) -> None:
    """It is refused, or it is read; an estimate of what was read raises nothing."""
    asked = _read_or_refused(_body(**more))
    if isinstance(asked, str):
        assert asked == "bad_request"
        return
    limits = Limits(context=1_000, answer=100)
    for mode in ("typical", "worst"):
        held = ANTHROPIC.estimate(asked, mode, limits, Dialect())  # type: ignore[arg-type]
        assert held.units.input >= 1
        assert held.units.output == 50
