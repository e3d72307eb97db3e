import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import MAX_DEPTH
from tollhouse.families.openai.request import read
from tollhouse.families.openai.rewrite import rewrite
from tollhouse.families.openai.routes import CHAT, EMBEDDINGS

_OPERATIONS = {"chat": CHAT, "embeddings": EMBEDDINGS}


def _read(body: bytes, kind: str = "chat", usage_in_stream: Any = "on_request") -> Asked:
    return read(Request(_OPERATIONS[kind], "", (), body), Dialect(usage_in_stream))


def _chat(**more: Any) -> bytes:
    return json.dumps(
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "é"}], **more}
    ).encode()


def _why(body: bytes, kind: Any = "chat") -> str:
    with pytest.raises(Refused) as refused:
        _read(body, kind)
    assert refused.value.denial.code == "bad_request"
    return refused.value.denial.why


def test_a_plain_request_is_read_and_left_alone():
    """What the budget needs is read, and the body is the same object."""
    body = _chat(max_completion_tokens=50, n=3, service_tier="flex")
    prepared = _read(body)
    assert rewrite(body, prepared) is body
    assert (prepared.model, prepared.stream, prepared.cap, prepared.choices) == (
        "gpt-4o",
        False,
        50,
        3,
    )
    assert (prepared.asks_for_usage, prepared.tier, prepared.may, prepared.asks) == (
        False,
        "flex",
        set(),
        set(),
    )
    assert prepared.document.tree["messages"][0]["content"] == "é"


@pytest.mark.parametrize(
    ("store", "keeps"),
    [(None, False), (False, False), (0, False), (True, True), (1, True), ("true", True)],
)
def test_an_answer_that_is_kept(store: object, keeps: bool):
    """Whatever a lenient server may take for true: such a call creates something, and is not sent twice."""
    assert _read(_chat(store=store)).keeps is keeps


def test_embeddings_have_no_output():
    """An embeddings request writes nothing and is never a stream."""
    prepared = _read(
        b'{"model":"m","input":["a"],"stream":true,"n":"x"}', "embeddings", "on_request"
    )
    assert (prepared.writes, prepared.choices, prepared.stream, prepared.asks_for_usage) == (
        False,
        1,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ({}, None),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 9, "max_completion_tokens": 4}, 9),
        ({"max_tokens": None}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": 0, "max_completion_tokens": 4}, None),
        ({"max_tokens": None, "max_completion_tokens": 4}, 4),
    ],
)
def test_the_cap_is_the_highest_that_could_hold(caps: dict[str, Any], expected: int | None):
    """Of two caps the greater is held for; null is no cap, and 0 may be none."""
    assert _read(_chat(**caps)).cap == expected


@pytest.mark.parametrize(
    ("more", "asks"),
    [
        ({"modalities": ["text", "audio"]}, {"output_audio"}),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text"}, {"type": "input_audio", "input_audio": {}}],
                    }
                ]
            },
            {"input_audio"},
        ),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, {"input_audio"}),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "video_url", "video_url": {"url": "https://x"}}],
                    }
                ]
            },
            set(),
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
                ]
            },
            set(),
        ),
    ],
)
def test_audio_is_noticed(more: dict[str, Any], asks: set[str]):
    """Audio on either side is told, since its rates are others; so is what may have some."""
    asked = _read(_chat(**more))
    assert asked.asks == asks
    assert asked.may == {"input_audio", "output_audio", "cached_audio"}


def test_objects_that_the_messages_name():
    """Files, and the sound of an earlier answer, each once."""
    file = {"type": "file", "file": {"file_id": "file-1"}}
    messages = [
        {"role": "user", "content": [file, file, {"type": "text", "text": "file_id"}]},
        {"role": "assistant", "audio": {"id": "audio_1"}},
        {"role": "assistant", "audio": {"id": 7}, "content": "file-2"},
        7,
    ]
    tools = [{"type": "function", "function": {"parameters": {"file_id": "no id"}}}]
    assert _read(_chat(messages=messages, tools=tools)).objects == ("file-1", "audio_1")
    assert _read(_chat(messages=5)).objects == ()


def test_text_and_images_have_no_audio():
    """A model for audio takes text at the rate of text."""
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "https://x"}},
    ]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "audio": None, "content": None},
        "odd",
    ]
    assert not _read(_chat(messages=messages, modalities=["text"])).may


@pytest.mark.parametrize(
    ("more", "n"),
    [
        ({"n": 3, "best_of": 5}, 5),
        ({"n": 3, "best_of": 2}, 3),
        ({"best_of": 4}, 4),
        ({"n": None}, 1),
    ],
)
def test_every_answer_that_is_written_counts(more: dict[str, Any], n: int):
    """Also those of which only the best is sent."""
    assert _read(_chat(**more)).choices == n


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b"[]", "not a JSON object"),
        (b'"model"', "not a JSON object"),
        (b'\xef\xbb\xbf{"model":"m"}', "byte order mark (BOM)"),
        ('{"model":"m"}'.encode("utf-16"), "UTF-8"),
        (b'{"model":"\xff"}', "UTF-8"),
        (b'{"model":"m"} {}', "not valid JSON"),
        (b'{"model":"m",}', "not valid JSON"),
        (b'{"model":"m","temperature":NaN}', "NaN"),
        (b'{"model":"m","temperature":-Infinity}', "-Infinity"),
        (b'{"model":"m","n":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"model":"m","model":"m"}', 'key "model" twice'),
        (b'{"model":"m","\\u006dodel":"x"}', 'key "model" twice'),
        (b'{"model":"m","max_tokens":1,"max_tokens":2}', 'key "max_tokens" twice'),
        (
            b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}',
            "twice",
        ),
        (b'{"model":"m","messages":[{"content":"a","content":"b"}]}', 'key "content" twice'),
        (b'{"model":"m","Model":"x"}', 'key "Model"'),
        (b'{"MODEL":"m"}', 'key "MODEL"'),
        ('{"model":"m","ſtream":true}'.encode(), "lower case"),
        (
            b'{"model":"m","stream":true,"stream_options":{"Include_Usage":false}}',
            "stream_options.include_usage",
        ),
        (b'{"messages":[]}', 'no "model"'),
        (b'{"model":null}', '"model" must be'),
        (b'{"model":["m"]}', '"model" must be'),
        (b'{"model":""}', '"model" must be'),
        (b'{"model":"a\\nb"}', '"model" must be'),
        (b'{"model":"\\ud800"}', '"model" must be'),
        (b'{"model":"' + b"m" * 257 + b'"}', '"model" must be'),
        (b'{"model":"m","stream":"true"}', '"stream" must be'),
        (b'{"model":"m","stream":1}', '"stream" must be'),
        (b'{"model":"m","stream_options":true}', '"stream_options" must be'),
        (b'{"model":"m","stream_options":{"include_usage":1}}', "include_usage"),
        (b'{"model":"m","max_tokens":-1}', '"max_tokens" must be'),
        (b'{"model":"m","max_tokens":1.5}', '"max_tokens" must be'),
        (b'{"model":"m","max_completion_tokens":true}', '"max_completion_tokens" must be'),
        (b'{"model":"m","max_tokens":99999999999}', '"max_tokens" must be'),
        (b'{"model":"m","n":0}', '"n" must be'),
        (b'{"model":"m","n":129}', '"n" must be'),
        (b'{"model":"m","service_tier":1}', '"service_tier" must be'),
    ],
)
def test_a_body_that_two_parsers_could_read_differently_is_refused(body: bytes, says: str):
    """Duplicate keys, other cases of known keys, what is no JSON, and wrong types end with 400 and say why."""
    assert says in _why(body)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 3000, 70_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_depth_bomb_is_refused(depth: int, opening: bytes, closing: bytes):
    """Deep nesting is a 400, not a crash, whether the parser could have stood it or not."""
    body = b'{"model":"m","x":' + opening * depth + b"1" + closing * depth + b"}"
    assert "nests deeper" in _why(body)


def test_many_shallow_objects_are_no_bomb():
    """A long conversation is not deep."""
    _read(_chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}]}] * 500))
    nested: Any = 1
    for _ in range(MAX_DEPTH - 1):
        nested = [nested]
    _read(_chat(x=nested, y=[[]] * 200))


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (
            b'{"model":"m","stream":true}',
            b'{"stream_options":{"include_usage":true},"model":"m","stream":true}',
        ),
        (
            b' \n{ "model":"m","stream":true}',
            b' \n{"stream_options":{"include_usage":true}, "model":"m","stream":true}',
        ),
        (
            b'{"model":"m","stream_options":null,"stream":true}',
            b'{"model":"m","stream_options":{"include_usage":true},"stream":true}',
        ),
        (
            b'{"model":"m","stream_options":{ },"stream":true}',
            b'{"model":"m","stream_options":{"include_usage":true },"stream":true}',
        ),
        (
            b'{"model":"m","stream":true,"stream_options": {"include_obfuscation":false}}',
            b'{"model":"m","stream":true,"stream_options": {"include_usage":true,"include_obfuscation":false}}',
        ),
        (
            b'{"model":"m","stream":true,"stream_options":{"include_usage" : false, "include_obfuscation":false}}',
            b'{"model":"m","stream":true,"stream_options":{"include_usage" : true, "include_obfuscation":false}}',
        ),
        (
            b'{"model":"m","user":"\\"stream_options\\": \xc3\xa9","stream_options":{"include_usage":null},"stream":true}',
            b'{"model":"m","user":"\\"stream_options\\": \xc3\xa9","stream_options":{"include_usage":true},"stream":true}',
        ),
        (
            b'{"model":"m","stream":true,"\\u0073tream_options":{"include_\\u0075sage":false}}',
            b'{"model":"m","stream":true,"\\u0073tream_options":{"include_\\u0075sage":true}}',
        ),
    ],
)
def test_usage_is_asked_for_with_the_smallest_edit(body: bytes, edited: bytes):
    """Absent, null or false becomes true, and every other byte stays."""
    prepared = _read(body)
    assert (rewrite(body, prepared), prepared.asks_for_usage, prepared.stream) == (
        edited,
        True,
        True,
    )


@given(
    st.dictionaries(
        st.text(max_size=5).map(lambda key: f"x{key}"),
        st.text(max_size=8) | st.lists(st.integers()),
    ),
    st.sampled_from(
        [
            None,
            {},
            {"include_usage": False},
            {"include_obfuscation": False, "include_usage": None},
            "absent",
        ]
    ),
    st.booleans(),
    st.randoms(),
)
def test_the_edited_body_says_the_same_and_asks_for_usage(
    more: Any, options: Any, ascii_only: bool, random: Any
):
    """Whatever else is in the body and in which order, the edited one parses to the same, with include_usage true."""
    document = {
        **more,
        "model": "m",
        "stream": True,
        **({} if options == "absent" else {"stream_options": options}),
    }
    items = list(document.items())
    random.shuffle(items)
    body = json.dumps(dict(items), ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    prepared = _read(body)
    wanted = {
        **document,
        "stream_options": {**(document.get("stream_options") or {}), "include_usage": True},
    }
    assert json.loads(rewrite(body, prepared)) == wanted


@pytest.mark.parametrize(
    ("body", "usage_in_stream"),
    [
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}', "on_request"),
        (b'{"model":"m","stream":false}', "on_request"),
        (b'{"model":"m","stream":null}', "on_request"),
        (b'{"model":"m","stream":true}', "always"),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":false}}', "always"),
    ],
)
def test_nothing_is_injected_where_usage_comes_anyway(body: bytes, usage_in_stream: Any):
    """Asked for by the client, not a stream, or a provider that would refuse the option: untouched."""
    prepared = _read(body, "chat", usage_in_stream)
    assert rewrite(body, prepared) is body
    assert not prepared.asks_for_usage


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        (b'{"model":"m"}', b'{"max_completion_tokens":7,"model":"m"}'),
        (b' { "model":"m"}', b' {"max_completion_tokens":7, "model":"m"}'),
        (b'{"model":"m","max_tokens" : 50 }', b'{"model":"m","max_tokens" : 7 }'),
        (
            b'{"max_tokens":50,"model":"m","max_completion_tokens":9}',
            b'{"max_tokens":7,"model":"m","max_completion_tokens":7}',
        ),
        (
            b'{"max_tokens":5,"model":"m","max_completion_tokens":9}',
            b'{"max_tokens":5,"model":"m","max_completion_tokens":7}',
        ),
        (b'{"max_tokens":null,"model":"m"}', b'{"max_tokens":7,"model":"m"}'),
        (
            b'{"max_tokens":null,"model":"m","max_completion_tokens":8}',
            b'{"max_tokens":null,"model":"m","max_completion_tokens":7}',
        ),
        (b'{"max_tokens":0,"model":"m"}', b'{"max_tokens":7,"model":"m"}'),
        (
            b'{"max_tokens":0,"model":"m","max_completion_tokens":null}',
            b'{"max_tokens":7,"model":"m","max_completion_tokens":null}',
        ),
        (
            b'{"model":"m","x":{"max_tokens":50},"max_tokens":50}',
            b'{"model":"m","x":{"max_tokens":50},"max_tokens":7}',
        ),
        (
            '{"model":"m","a":"\u00fc","max_tokens":50}'.encode(),
            '{"model":"m","a":"\u00fc","max_tokens":7}'.encode(),
        ),
    ],
)
def test_the_cap_is_lowered_where_it_stands(body: bytes, lowered: bytes):
    """Every cap above it, none below; one is added where there is none; no other byte changes."""
    assert rewrite(body, Asked(lowered_to=7)) == lowered
    assert _read(lowered, "chat", "always").cap == 7


@pytest.mark.parametrize(
    ("more", "others", "unknown"),
    [
        ({}, (), False),
        ({"models": ["a", "b", "a"]}, ("a", "b"), False),
        ({"fallbacks": ["a"], "models": ["b"]}, ("b", "a"), False),
        ({"models": None, "fallbacks": [], "route": None}, (), False),
        ({"models": "a"}, (), True),
        ({"fallbacks": [{"m": ["a"]}]}, (), True),
        ({"fallbacks": ["a", {"model": "b"}]}, ("a",), True),
        ({"context_window_fallbacks": [{"m": ["a"]}]}, (), True),
        ({"route": "fallback"}, (), True),
        (
            {"tools": [{"type": "image_generation", "model": "a"}, {"type": "function"}]},
            ("a",),
            False,
        ),
        ({"tools": [{"type": "image_generation", "model": ["a"]}]}, (), True),
        ({"models": ["x" * 300]}, (), True),
        ({"models": [f"m{n}" for n in range(40)]}, tuple(f"m{n}" for n in range(32)), True),
    ],
)
@pytest.mark.parametrize("kind", ["chat", "embeddings"])
def test_every_model_that_can_be_reached_is_named(
    more: Any, others: tuple[str, ...], unknown: bool, kind: Any
):
    """In the lists that routers take; what can't be read is said to be there."""
    prepared = _read(json.dumps({"model": "m", **more}).encode(), kind, "always")
    assert (prepared.other_models, prepared.models_unknown) == (others, unknown)


def test_another_spelling_of_a_list_of_models_is_refused():
    """Go's encoding/json would read it."""
    with pytest.raises(Refused):
        _read(b'{"model":"m","Models":["a"]}', "chat", "always")


@pytest.mark.parametrize(
    ("model", "more", "reasons"),
    [
        ("gpt-4o", {}, False),
        ("gpt-4.1-mini", {}, False),
        ("gpt-4-turbo", {}, False),
        ("gpt-3.5-turbo", {}, False),
        ("openai/gpt-4o", {}, False),
        ("ft:gpt-4o-mini:acme", {}, False),
        ("gpt-5-chat-latest", {}, False),
        ("gpt-5", {}, True),
        ("gpt-5", {"reasoning_effort": "none"}, False),
        ("gpt-5", {"reasoning_effort": "low"}, True),
        ("gpt-45", {}, True),
        ("o3", {}, True),
        ("deepseek-reasoner", {}, True),
        ("gpt-4o", {"models": ["o3"]}, True),
    ],
)
def test_who_can_reason_in_silence(model: str, more: dict[str, Any], reasons: bool):
    """Any model that is not known to be without reasoning, unless the request says that it is not to."""
    assert _read(json.dumps({"model": model, **more}).encode()).reasons is reasons


def _escaped(text: str) -> str:
    """Each character as an escape, which JSON allows and no provider minds."""
    return "".join(f"\\u{ord(character):04x}" for character in text)


@pytest.mark.parametrize("size", [10, 70_000], ids=["small", "large"])
def test_a_name_that_is_written_in_escapes_is_the_name(size: int) -> None:
    """Escapes make a long string of a name, and the strings of a large body that are long are cut out of it. What is judged is
    what the provider reads."""
    names = ("gpt-4o-2024-08-06", "o1-pro-2025-03-19", "gpt-5-pro-2025-10-06", "input_audio")
    body = (
        '{"model":"A","models":["B"],"tools":[{"model":"C"}],'
        '"messages":[{"role":"user","content":[{"type":"D","input_audio":{}},{"type":"text","text":"text"}]}]}'
    )
    for mark, name in zip("ABCD", names, strict=True):
        body = body.replace(f'"{mark}"', f'"{_escaped(name)}"')
    asked = _read(body.replace('"text"}]', f'"{"x" * size}"}}]').encode())
    assert asked.model == "gpt-4o-2024-08-06"
    assert (asked.other_models, asked.models_unknown) == (
        ("o1-pro-2025-03-19", "gpt-5-pro-2025-10-06"),
        False,
    )
    assert asked.asks == {"input_audio"}


def test_a_long_model_of_a_large_body_is_no_model() -> None:
    assert "256" in _why(b'{"model":"' + b"x" * 70_000 + b'","messages":[]}')
