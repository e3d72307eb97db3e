import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.formats.document import Document
from tollhouse.families.openai import estimate


def estimate_input_tokens(request: dict[str, Any], **more: Any) -> int:
    return estimate.estimate_input_tokens(Document(request, {}), **more)


def estimate_prediction_tokens(request: dict[str, Any], **more: Any) -> int:
    return estimate.estimate_prediction_tokens(Document(request, {}), **more)


FIXED = estimate.TOKENS_PER_MESSAGE + estimate.TOKENS_PER_REPLY


def chat(content: Any, model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def test_text_is_counted_by_its_script() -> None:
    """ASCII is 4 bytes a token, a Chinese character one token."""
    assert estimate_input_tokens(chat("x" * 4000)) == 1000 + FIXED
    assert estimate_input_tokens(chat("語" * 4000)) == 4000 + FIXED


def test_text_parts_count_as_text() -> None:
    """The two ways of writing the same message come to the same."""
    assert estimate_input_tokens(
        chat([{"type": "text", "text": "x" * 4000}])
    ) == estimate_input_tokens(chat("x" * 4000))


def test_a_file_counts_by_its_bytes() -> None:
    """Not by its base64."""
    data = "data:application/pdf;base64," + base64.b64encode(bytes(20_000)).decode()
    assert (
        abs(
            estimate_input_tokens(chat([{"type": "file", "file": {"file_data": data}}]))
            - FIXED
            - 10_000
        )
        <= 2
    )


def part(**part: Any) -> dict[str, Any]:
    return chat([part])


ELSEWHERE = {
    "a file's id": part(type="file", file={"file_id": "file-1"}),
    "a file's URL": part(type="file", file={"file_data": "https://example.com/a.pdf"}),
    "a sound's URL": part(
        type="input_audio", input_audio={"data": "https://example.com/a.wav", "format": "wav"}
    ),
    "a video's URL": part(type="video_url", video_url={"url": "https://example.com/a.mp4"}),
    "a document of another API": part(
        type="document", source={"type": "url", "url": "https://example.com/a.pdf"}
    ),
    "an image that is never scaled down": chat(
        [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}], "gpt-6-sol"
    ),
    "files beside a message": {
        "model": "m",
        "messages": [{"role": "user", "content": "hi", "file_ids": ["file-1"]}],
    },
    "an earlier answer": chat("hi", previous_response_id="resp_1"),
    "a conversation": chat("hi", conversation={"id": "conv_1"}),
    "the web": chat("hi", web_search_options={}),
    "the web, by the model's name": chat("hi", "gpt-4o-search-preview"),
    "the web, by OpenRouter": chat("hi", plugins=[{"id": "web"}]),
    "a tool of the provider's": chat(
        "hi", tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]
    ),
    "one with a name": chat("hi", tools=[{"type": "web_search_20250305", "name": "web_search"}]),
    "one without a type": chat("hi", tools=[{"google_search": {}}]),
    "a cache": chat("hi", extra_body={"google": {"cached_content": "cachedContents/1"}}),
    "a template of one's own": chat("hi", chat_template="{{ 'x' * 1000000 }}"),
}


@pytest.mark.parametrize("worst", [False, True])
@pytest.mark.parametrize("what", ELSEWHERE)
def test_what_is_not_in_the_request_is_the_context_limit(what: str, worst: bool) -> None:
    """No more, whatever else is named, and no less than the text amounts to."""
    request = ELSEWHERE[what]
    assert estimate_input_tokens(request, worst=worst, context=77_000) == 77_000
    more = {
        **request,
        "messages": [*request["messages"], {"role": "user", "content": "x" * 400_000}],
    }
    assert 100_000 <= estimate_input_tokens(more, worst=worst, context=77_000) < 410_000


@pytest.mark.parametrize(
    "request_",
    [
        chat("hi", previous_response_id=None, web_search_options=None),
        chat("see https://example.com/file_id"),
        chat(
            "hi",
            tools=[
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"file_id": {}, "url": {}}},
                }
            ],
        ),
        chat(
            "hi",
            response_format={
                "type": "json_schema",
                "json_schema": {"properties": {"conversation": {}}},
            },
        ),
        part(type="video_url", video_url={"url": "data:video/mp4;base64,AAAA"}),
        {"model": "text-search-ada-doc-001", "input": "hi"},
    ],
)
@pytest.mark.parametrize("worst", [False, True])
def test_what_only_looks_like_it_is_not(request_: dict[str, Any], worst: bool) -> None:
    """Nulls, texts, schemas with such names, data that is here."""
    assert estimate_input_tokens(request_, worst=worst, context=77_000) < 5_000


def test_the_sound_of_earlier_answers() -> None:
    """Each is an answer at most, all of them together one context."""
    before = {"role": "assistant", "audio": {"id": "audio_1"}}
    for count, tokens in ((1, 16_000), (2, 32_000), (9, 100_000)):
        request = {"model": "m", "messages": [before] * count}
        assert (
            abs(estimate_input_tokens(request, context=100_000, answer=16_000) - tokens)
            <= 4 * count + 3
        )


def test_tools_and_schemas_count() -> None:
    """Definitions of functions, a response's schema and tool calls are input."""
    parameters = {
        "type": "object",
        "properties": {"q": {"type": "string", "description": "x" * 4000}},
    }
    tool = {"type": "function", "function": {"name": "search", "parameters": parameters}}
    assert estimate_input_tokens(chat("hi", tools=[tool])) > 1000
    assert estimate_input_tokens(chat("hi", functions=[tool["function"]])) > 1000
    assert (
        estimate_input_tokens(
            chat("hi", response_format={"type": "json_schema", "json_schema": parameters})
        )
        > 1000
    )
    call = {
        "role": "assistant",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "x" * 4000}}],
    }
    assert estimate_input_tokens({"model": "m", "messages": [call]}) > 1000


def test_what_is_unknown_counts_by_its_bytes() -> None:
    """A part, a message or a field that a later API brings is counted as text, not as nothing."""
    assert estimate_input_tokens(chat([{"type": "hologram", "voxels": "x" * 4000}])) > 1000
    assert estimate_input_tokens(chat([{"type": "text", "text": "hi", "more": "x" * 4000}])) > 1000
    assert estimate_input_tokens(chat("hi", memories=["x" * 4000])) > 1000
    assert estimate_input_tokens({"model": "m", "messages": ["x" * 4000]}) > 1000


@pytest.mark.parametrize(
    ("prediction", "typical", "worst"),
    [
        (None, 0, 0),
        ({"type": "content", "content": "x" * 4000}, 1000, 4000),
        ({"type": "content", "content": [{"type": "text", "text": "x" * 4000}]}, 1005, 8060),
        ("x" * 4000, 1000, 4000),
    ],
)
def test_a_prediction_is_output(prediction: Any, typical: int, worst: int) -> None:
    """What of it is not used is charged as output, and none of it as input."""
    request = chat("hi", prediction=prediction)
    assert estimate_input_tokens(request) == estimate_input_tokens(chat("hi"))
    assert estimate_prediction_tokens(request) == typical
    assert estimate_prediction_tokens(request, worst=True) == worst


def test_a_role_of_ones_own_is_text() -> None:
    """Templates write it out; those of the API are in the count of the message."""
    assert estimate_input_tokens({"messages": [{"role": "x" * 4000, "content": "hi"}]}) > 1000
    assert estimate_input_tokens({"messages": [{"role": ["x" * 4000], "content": "hi"}]}) > 1000


def test_settings_are_no_input() -> None:
    """Sampling settings, caps and names of the caller cost nothing."""
    more = {
        "temperature": 1,
        "max_tokens": 10**6,
        "user": "u" * 400,
        "stream": True,
        "metadata": {"a": "b" * 400},
    }
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
    request = {
        "model": "text-embedding-3-small",
        "input": value,
        "encoding_format": "base64",
        "dimensions": 8,
    }
    assert estimate_input_tokens(request) == tokens


def test_embeddings_with_more_than_text() -> None:
    """An instruction counts; each input that is somewhere else is a context of its own."""
    assert estimate_input_tokens({"input": "x", "instruction": "y" * 400}) == 101
    images = [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"image": "x", "url": "http://y"},
    ]
    assert estimate_input_tokens({"model": "gpt-6", "input": images}, context=8_000) == 16_000


def test_worst_is_a_token_a_byte() -> None:
    """Of anything that a string can be, beside what may be put around it."""
    empty = estimate_input_tokens(chat(""), worst=True)
    assert empty == estimate.TEMPLATE_MOST + estimate.TOKENS_PER_MESSAGE_MOST
    for text, size in (
        ("x" * 9, 9),
        ("\0\x1f", 2),
        ("é", 2),
        ("語", 3),
        ("😀", 4),
        ("e\u0301", 3),
        ("\ud800", 3),
    ):
        assert estimate_input_tokens(chat(text), worst=True) == empty + size, ascii(text)
        tokens = {"model": "m", "input": [text, text]}
        assert estimate_input_tokens(tokens, worst=True) == 2 * (
            size + estimate.TOKENS_PER_MESSAGE_MOST
        )
    assert estimate_input_tokens({"model": "m", "input": [1, 2, 3]}, worst=True) == 3 + 16


def test_worst_of_tools_is_what_any_provider_may_write() -> None:
    """As JSON indented by 4 with all in escapes, which is the longest in use."""
    properties = {
        f"p{i}": {"type": "string", "enum": ["語", "😀\0"], "description": "a\nb"}
        for i in range(30)
    }
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": properties}},
    }
    bare = estimate_input_tokens(chat(""), worst=True)
    held = estimate_input_tokens(chat("", tools=[tool] * 3), worst=True) - bare
    assert held >= 3 * len(json.dumps(tool)) * 2
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps({"語": [1, 2, 3]})},
    }
    held = (
        estimate_input_tokens(
            {"messages": [{"role": "assistant", "tool_calls": [call]}]}, worst=True
        )
        - bare
    )
    assert held >= 2 * len(json.dumps([call])) - estimate.TOKENS_PER_MESSAGE_MOST


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("worst", [False, True])
@given(
    JSON,
    JSON,
    st.sampled_from(
        ["messages", "input", "tools", "prediction", "extra_body", "web_search_options"]
    ),
)
def test_nothing_that_json_can_say_breaks_it(
    worst: bool, value: Any, other: Any, field: str
) -> None:
    """Any document is estimated, at one token or more, and at worst at no less than typically."""
    for request in (
        {"model": value, field: other},
        {"messages": [{"role": value, "content": [other]}]},
        {"messages": [{"content": [{"type": "image_url", "image_url": value}]}, other]},
        {
            "messages": [
                {"content": [{"type": "input_audio", "input_audio": value}, {"type": value}]}
            ]
        },
        {
            "messages": [{"content": [{"type": "file", "file": value}]}],
            "tools": [value, {"type": other}],
        },
    ):
        assert estimate_input_tokens(request, worst=worst) >= 1
        assert estimate_prediction_tokens(request, worst=worst) >= 0
        assert estimate_input_tokens(request, worst=True) >= estimate_input_tokens(request)


@given(st.text(min_size=1))
def test_text_is_never_below_a_quarter_of_its_bytes(text: str) -> None:
    """The estimate holds what it says, for any Unicode."""
    assert estimate_input_tokens(chat(text)) * 4 >= len(text.encode("utf-8", "replace"))
    assert json.dumps(chat(text))
