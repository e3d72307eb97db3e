import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.formats.jsonscan import member_from_end, members, removal

_keys = st.text(max_size=6) | st.sampled_from(["usage", "model", 'us"age', "a\\", "é"])
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=12)
    | st.sampled_from(['"usage":null}', "usage", "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(_keys, _values, max_size=6)
_styles = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


def _dump(document: object, style: tuple[str, str], ascii_only: bool) -> str:
    return json.dumps(document, separators=style, ensure_ascii=ascii_only)


@given(_objects, _styles, st.booleans())
def test_members_give_each_member_and_its_place(
    document: dict[str, object], style: tuple[str, str], ascii_only: bool
):
    """The spans cut out of the UTF-8 bytes are the members' keys and values."""
    raw = _dump(document, style, ascii_only).encode()
    found = list(members(raw.decode("latin-1")))
    pieces = [(raw[m.key_at : m.value_at], raw[m.value_at : m.value_end]) for m in found]
    assert [json.loads(value) for _, value in pieces] == list(document.values())
    assert [json.loads(key.rstrip(b" :\t")) for key, _ in pieces] == list(document)


@given(_objects, _styles, st.booleans(), st.data())
def test_a_removed_member_leaves_what_would_have_been_written_without_it(
    document: dict[str, object], style: tuple[str, str], ascii_only: bool, data: st.DataObject
):
    """Cutting a member gives the serialisation of the object without that member, whatever its place."""
    document = {"first": 1, **document}
    key = data.draw(st.sampled_from(sorted(document)))
    text = _dump(document, style, ascii_only).encode().decode("latin-1")
    start, end = removal(list(members(text)), list(document).index(key))
    del document[key]
    assert (text[:start] + text[end:]).encode("latin-1") == _dump(
        document, style, ascii_only
    ).encode()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a"}', '{"a":1,}', '{"a":1} x', "{a:1}", '{"a":1 "b":2}', '{"a":NaNx}'],
)
def test_what_is_no_object_is_an_error(text: str):
    """Text that is not one JSON object raises ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011
        list(members(text))


@given(_objects, _objects, _styles, st.booleans(), st.integers(0, 40))
def test_a_member_is_read_from_the_end_alone(
    before: dict[str, object],
    after: dict[str, object],
    style: tuple[str, str],
    ascii_only: bool,
    cut: int,
):
    """The outermost object's member is found from its tail; none in a string or a nested object is taken for it."""
    before.pop("usage", None)
    after = {key: value for key, value in after.items() if key != "usage" and key not in before}
    document = {**before, "usage": {"prompt_tokens": 1, "x": [{"usage": 2}]}, **after}
    raw = _dump(document, style, ascii_only).encode()
    at = len(_dump(before, style, ascii_only).encode()) - 1
    assert member_from_end(raw[min(cut, max(at - 1, 0)) :], b"usage") == document["usage"]
    assert member_from_end(_dump({**before, **after}, style, ascii_only).encode(), b"usage") is None


def test_an_object_cut_short_has_no_member():
    """A document that does not end as an object says nothing."""
    raw = json.dumps({"a": 1, "usage": {"b": 2}}).encode()
    assert member_from_end(raw, b"usage") == {"b": 2}
    assert member_from_end(raw[:-1], b"usage") is None
    assert member_from_end(raw + b"]", b"usage") is None
    assert member_from_end(b'{"x":' + raw, b"usage") == {"b": 2}, "a cut beginning is not looked at"
    assert member_from_end(b'{"x":' + raw + b"}", b"usage") is None
