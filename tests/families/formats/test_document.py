"""A body of any size is read as a small one is, in bounded steps and memory."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.denial import Refused
from tollhouse.families.formats.document import (
    LIGHT_TREE,
    LONG_STRING,
    MAX_DEPTH,
    MAX_PLAIN,
    MAX_TREE,
    SMALL,
    TooHeavy,
    beside_others,
    parsed,
    string_end,
)
from tollhouse.families.formats.jsonscan import places
from tollhouse.families.formats.text_tokens import text_tokens

MIB = 1 << 20
PADDING = b" " * SMALL
"""Makes a body one that is not read in one go."""

_strings = st.text(max_size=40) | st.sampled_from(
    ["é" * 600, "\\" * 700, 'a"b' * 500, "日本" * 400, "\ud800" * 300, "x" * 70_000]
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _strings,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
    ),
    max_leaves=12,
)


def _why(body: bytes) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        parsed(body)
    return refused.value.denial.code, refused.value.denial.why


@given(st.dictionaries(st.text(max_size=10), _values, max_size=5), st.booleans())
def test_a_large_body_says_what_a_small_one_would(tree: dict[str, Any], ascii_only: bool) -> None:
    """Whatever is in it; a long string has the tokens of its text."""
    try:
        body = json.dumps(tree, ensure_ascii=ascii_only).encode() + PADDING
    except UnicodeEncodeError:
        body = json.dumps(tree).encode() + PADDING
    document = parsed(body)
    tokens = sorted(text_tokens(text) for text in _texts(json.loads(body)))
    again = [
        document.long[text].tokens if text in document.long else text_tokens(text)
        for text in _texts(document.tree)
    ]
    assert sorted(again) == tokens
    assert _shape(document.tree) == _shape(json.loads(body))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


def _shape(value: Any) -> Any:
    """All but the texts."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return str if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a":1,"a":2}', 'key "a" twice'),
        (b'{"a":{"b":1,"\\u0062":2}}', 'key "b" twice'),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"a":"' + b"x" * 2000 + b'\xff"}', "UTF-8"),
        (b'{"a":"' + b"x" * 2000 + b'\n"}', "not valid JSON"),
        (b'{"a":"' + b"x" * 2000 + b'\\q"}', "not valid JSON"),
        (b'{"a":"' + b"x" * 2000, "not valid JSON"),
        (b'{"a":"' + b"x" * 2000 + b'\\"}', "not valid JSON"),
        (PADDING + b'{"' + b"k" * 2000 + b'":1}', "a key of more than"),
        (b'{"a":1}{}', "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", f"deeper than {MAX_DEPTH}"),
    ],
)
def test_what_is_refused_small_is_refused_large(body: bytes, says: str) -> None:
    """With the same code, and words that say why."""
    for padded in (
        (body, PADDING + body) if not body.startswith(b"\xef") else (body, body + PADDING)
    ):
        code, why = _why(padded)
        assert code == "bad_request"
        assert says in why or len(padded) <= SMALL


@pytest.mark.parametrize(
    "body",
    [
        b'{"m":[' + b"{}," * (10 * MIB) + b"{}]}",
        b'{"m":[' + b"0," * (15 * MIB) + b"0]}",
        b'{"m":[' + b'"",' * (10 * MIB) + b"0]}",
        b'{"m":[' + b'"a":' * 100 + b"0," * 420_000 + b"0]}",
        b'{"m":' + b"[" * (31 * MIB) + b"}",
        b'{"m":[' + b'"' + b"x" * 900 + b'",' * 1 + (b'"' + b"x" * 900 + b'",') * 6_000 + b"0]}",
        b'{"m":' + b" " * (MAX_PLAIN + 1) + b"1}",
    ],
)
def test_more_than_is_read_is_refused(body: bytes) -> None:
    """Of values, and of what is no long text: 413, and the sentence says how many."""
    code, why = _why(body)
    assert code == "body_too_large"
    assert "send fewer" in why


@pytest.mark.parametrize(
    "text",
    [
        "a" * (31 * MIB),
        '\\"' * (15 * MIB),
        "\\u00e9" * (5 * MIB),
        "\\ud83d\\ude00" * (2 * MIB),
        "é" * (15 * MIB),
    ],
    ids=["plain", "quotes", "escapes", "pairs", "two bytes"],
)
def test_one_long_string_takes_little_memory(text: str) -> None:
    """Less than twice its bytes beside the body, whatever is in it."""
    body = b'{"model":"m","input":"' + text.encode() + b'"}'
    tracemalloc.start()
    try:
        document = parsed(body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * len(body)
    (long,) = document.long.values()
    whole = json.loads(f'"{text}"')
    assert long.bytes == len(whole.encode())
    assert long.tokens == text_tokens(whole)


def test_a_word_of_ours_can_not_be_sent() -> None:
    """A client's string is never taken for one of the long ones."""
    body = json.dumps({"a": "x" * (LONG_STRING + 1), "b": "long-0-0"}).encode() + PADDING
    first, second = parsed(body), parsed(body)
    assert first.tree["b"] == "long-0-0"
    assert first.tree["a"] != second.tree["a"]


@given(st.dictionaries(st.text(max_size=8), _values, max_size=5), st.booleans())
def test_members_are_found_without_being_decoded(tree: dict[str, Any], pretty: bool) -> None:
    """Where each value stands, however long it is."""
    body = json.dumps(tree, indent=1 if pretty else None).encode()
    found = {
        place.key: json.loads(body[place.value_at : place.value_end]) for place in places(body)
    }
    assert found == tree


@pytest.mark.parametrize("text", [b'"', b'"a', b'"\\"', b'"\n"', b'"\\u12"', b'"\\u12'])
def test_a_string_without_an_end_is_refused(text: bytes) -> None:
    """And does not go on for ever."""
    with pytest.raises(Refused):
        string_end(text, 0)


def test_the_head_of_a_long_string_is_its_text():
    """Escapes in it are read as the provider reads them."""
    document = parsed(b'{"a":"\\u0064ata:image\\/png,' + b"x" * 70_000 + b'"}')
    [long] = document.long.values()
    assert long.head.startswith("data:image/png,xxx")
    assert document.name(document.tree["a"]) == long.head
    assert (document.name("a"), document.name(None)) == ("a", None)


def test_strings_side_by_side_are_refused_at_the_first():
    """Each would be looked at, and none of them is a value that is counted."""
    with pytest.raises(Refused) as refused:
        parsed(b'{"a":[' + b'""' * 100_000)
    assert refused.value.denial.why.endswith("(there is nothing before the string at byte 8).")


@pytest.mark.parametrize("body", [b"", PADDING])
def test_no_body_at_all(body: bytes) -> None:
    """A client that forgot the body is told so, not where its JSON is wrong."""
    why = "The body is empty; send a JSON object."
    assert _why(body) == ("bad_request", why)


_DENSE = {
    "objects": b'{"a":1},',
    "lists": b"[0],",
    "numbers": b"123456,",
    "floats": b"1e9,",
    "texts": b'"ab",',
    "emoji": '"😀",'.encode(),
    "escapes": b'"' + b"\\u00e9" * 11 + b'",',
    "an emoji in each text": ('"😀' + "x" * 900 + '",').encode(),
    "an emoji in each short text": ('"😀' + "x" * 50 + '",').encode(),
}


def _peak(body: bytes) -> tuple[int, str]:
    tracemalloc.start()
    try:
        parsed(body)
        code = ""
    except Refused as refusal:
        code = refusal.denial.code
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most, code


@pytest.mark.parametrize("unit", _DENSE.values(), ids=_DENSE)
@pytest.mark.parametrize("size", [SMALL // 2, 100_000, 600_000])
def test_a_dense_body_takes_no_more_than_was_reckoned(unit: bytes, size: int) -> None:
    """Four times its bytes, and for the values `MAX_TREE`; 2 MiB for one that is read in one go."""
    body = b'{"a":[' + unit * (size // len(unit)) + b"0]}"
    most, _ = _peak(body)
    assert most <= 4 * len(body) + (2 * MIB if size < SMALL else MAX_TREE)
    if size > SMALL:
        try:
            with beside_others():
                parsed(body)
        except (TooHeavy, Refused):
            return
        assert most <= 4 * len(body) + LIGHT_TREE


def test_many_keys_take_no_more_than_was_reckoned() -> None:
    """Each is a string of its own, and an object of many of them grows by doubling."""
    for count in (14_000, 50_000, 330_000):
        body = b'{"x":{' + b",".join(b'"%x":0' % (4_096 + n) for n in range(count)) + b"}}"
        most, code = _peak(body)
        assert most <= 4 * len(body) + MAX_TREE
        assert code == ("" if count < 60_000 else "body_too_large")


def test_the_largest_request_for_embeddings_is_read() -> None:
    """300,000 tokens, with a blank behind each comma."""
    assert _peak(json.dumps({"input": [199_999] * 300_000}).encode())[1] == ""


def test_a_heavy_body_is_not_read_beside_others() -> None:
    """And is alone. An honest large one is: its text takes no more memory than its bytes."""
    heavy = b'{"a":[' + b'{"a":1},' * 20_000 + b"0]}"
    with beside_others():
        with pytest.raises(TooHeavy):
            parsed(heavy)
        parsed(json.dumps({"m": [{"role": "user", "content": "a, b {c} " * 500}] * 1_000}).encode())
    assert len(parsed(heavy).tree["a"]) == 20_001
