"""Any key, any split into chunks, any of the spellings: never a whole key at the client, all other bytes unchanged."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.parse
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tollhouse.credential.redact import MARK, PASSED, SHORTEST, Forms, Redactor
from tollhouse.credential.secret import Secret

KEY = "sk-proj-T3BlbkFJ_abcdefghijklmnopqrstuvwxyz-0123456789ABCDEFGHIJ"

PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
REAL = st.text("abcdefgXYZ0123456789-_", min_size=SHORTEST, max_size=40).map(
    lambda tail: "sk-" + tail
)
KEYS = st.one_of(
    REAL, st.text(PRINTABLE, min_size=SHORTEST, max_size=40), st.text("ab", min_size=8, max_size=16)
)
Encode = Callable[[str], bytes]


def run(redactor: Redactor, chunks: Iterable[bytes]) -> bytes:
    return b"".join([*(redactor.feed(chunk) for chunk in chunks), redactor.finish()])


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def mark(length: int) -> bytes:
    return (MARK + b"*" * length)[:length]


@st.composite
def in_json(draw: st.DrawFn, text: str) -> bytes:
    """``text`` inside a JSON string: as short as can be, or with more escapes than it needs."""
    must = {'"': '\\"', "\\": "\\\\"}
    may = {"/": "\\/"}
    out = ""
    for sign in text:
        unicode = f"\\u{ord(sign):04x}"
        ways = [
            must.get(sign, sign),
            may.get(sign, must.get(sign, sign)),
            unicode,
            unicode.upper().replace("U", "u"),
        ]
        out += draw(st.sampled_from(ways))
    assert json.loads(f'"{out}"') == text
    return out.encode()


@st.composite
def in_url(draw: st.DrawFn, text: str) -> bytes:
    """``text`` percent-encoded: what must be, all, or something in between, hexadecimal digits of either case."""
    out = ""
    for sign in text:
        plain = urllib.parse.quote(sign, safe="/")
        out += draw(st.sampled_from([plain, f"%{ord(sign):02x}", f"%{ord(sign):02X}"]))
    assert urllib.parse.unquote(out) == text
    return out.encode()


@st.composite
def in_base64(draw: st.DrawFn, key: str) -> tuple[str, int, int]:
    """Base64 of text with the key in it, and which of its characters are the key's alone."""
    encode = draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))
    before, after = draw(st.binary(max_size=7)), draw(st.binary(max_size=5))
    text = encode(before + key.encode() + after).decode()
    return text, -(-len(before) * 8 // 6), (len(before) + len(key)) * 8 // 6


@st.composite
def spelt(draw: st.DrawFn, key: str) -> tuple[bytes, bytes, bytes, bytes]:
    """The key in an answer: what stands before it in its own string, itself, and what stands after it; and all three
    without escapes."""
    text, start, end = draw(st.one_of(st.just((key, 0, len(key))), in_base64(key)))
    layers = draw(st.sampled_from([(), (in_json,), (in_url,), (in_url, in_json)]))
    parts = [text[:start], text[start:end], text[end:]]
    for layer in layers:
        parts = [draw(layer(part)).decode() for part in parts]
    return parts[0].encode(), parts[1].encode(), parts[2].encode(), text.encode()


@st.composite
def around(draw: st.DrawFn, key: str) -> bytes:
    """Text that may stand beside a key in JSON and in a URL alike: whole escapes, and pieces of keys."""
    at = draw(st.integers(0, len(key)))
    pieces = [key[:at], key[at:], *Forms(key).spelt[1].decode().partition("A")[:1]]
    pieces = [piece for piece in pieces if "%" not in piece and "\\" not in piece]
    tokens = [
        '"',
        "\\n",
        "\\\\",
        '\\"',
        "\\u00e9",
        "%20",
        "%2F ",
        " ",
        "\n\n",
        "\u00e9",
        "data: {",
        *pieces,
    ]
    return "".join(draw(st.lists(st.sampled_from(tokens), max_size=8))).encode()


def all_places(data: bytes, form: bytes) -> list[tuple[int, int]]:
    return [(at, at + len(form)) for at in range(len(data)) if data.startswith(form, at)]


@given(st.data(), KEYS, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_key_any_spelling_any_split(data: st.DataObject, key: str, cuts: list[int]) -> None:
    """The key is overwritten by as many bytes, but for its first ones where it is cut behind them, and nothing else is touched."""
    before, itself, after, plain = data.draw(spelt(key))
    left, right = data.draw(around(key)) + b" ", b" " + data.draw(around(key))
    # Pieces of the key beside it may make up another one.
    assume(sum(len(all_places(left + plain + right, form)) for form in Forms(key).spelt) == 1)
    whole = left + before + itself + after + right
    clean = run(Redactor([key]), split(whole, cuts))
    assert clean in [
        left + before + itself[:passed] + mark(len(itself))[passed:] + after + right
        for passed in range(PASSED + 1)
    ]
    assert run(Redactor([key]), [whole]) == left + before + mark(len(itself)) + after + right


@given(
    st.data(), st.text("ab", min_size=8, max_size=12), st.lists(st.integers(0, 10_000), max_size=12)
)
def test_keys_that_overlap_themselves(data: st.DataObject, key: str, cuts: list[int]) -> None:
    """Of occurrences that overlap none is left whole, and no byte outside them is changed."""
    whole = "".join(
        data.draw(st.lists(st.sampled_from(["a", "b", key, key[:5], key[3:], " "]), max_size=9))
    ).encode()
    clean = run(Redactor([key]), split(whole, cuts))
    places = [place for form in Forms(key).spelt for place in all_places(whole, form)]
    assert len(clean) == len(whole)
    assert not any(clean[start:end] == whole[start:end] for start, end in places)
    touched = {at for start, end in places for at in range(start, end)}
    assert all(clean[at] == whole[at] for at in range(len(whole)) if at not in touched)


@given(st.data(), KEYS, st.lists(st.binary(max_size=30), max_size=6))
def test_nothing_is_held_that_cannot_become_a_key(
    data: st.DataObject, key: str, chunks: list[bytes]
) -> None:
    """After each chunk the longest end that is the beginning of a form is held, if it is long enough; all else has gone on."""
    forms = Forms(key).spelt
    pieces = [form[: data.draw(st.integers(0, len(form)))] for form in forms[:3]]
    chunks = [chunk + data.draw(st.sampled_from([b"", *pieces])) for chunk in chunks]
    assume(not any(sign in chunk for chunk in chunks for sign in (b"%", b"\\")))
    whole = b"".join(chunks)
    assume(not any(form in whole for form in forms))
    redactor, seen, gone = Redactor([key]), b"", b""
    for chunk in chunks:
        seen += chunk
        passed = redactor.feed(chunk)
        gone += passed
        lengths = (n for form in forms for n in range(1, len(form)) if seen.endswith(form[:n]))
        longest = max(lengths, default=0)
        before = len(gone) - len(passed)
        assert gone == seen[: max(before, len(seen) - longest) if longest > PASSED else len(seen)]
    assert gone + redactor.finish() == whole


@given(st.binary(max_size=400), st.lists(st.integers(0, 10_000), max_size=12))
def test_answers_without_a_key_are_not_changed(whole: bytes, cuts: list[int]) -> None:
    """Any bytes, valid text or not, come out as they went in."""
    assert run(Redactor([KEY]), split(whole, cuts)) == whole


@pytest.mark.parametrize(
    "end",
    [
        b"\n\n",
        b'"}',
        b"\r\n\r\n",
        b"]}",
        b".",
        b" ",
        b"\\n",
        b"\\\\",
        b"%20",
        b"100% ",
        b"\\u00e9",
        b"\\u003",
        b"%3",
        b"y",
    ],
)
def test_no_frame_waits(end: bytes) -> None:
    """What ends like no beginning of the key goes on whole, at once."""
    frame = b'data: {"choices":[{"delta":{"content":"sk-proj and \\"so on\\" 5% \\u00e9' + end
    redactor = Redactor([KEY])
    assert redactor.feed(frame) == frame
    assert redactor.finish() == b""


@pytest.mark.parametrize(
    "start",
    [b"sk-p", b"sk-proj-T3", b"%73%", b"%73%6B", b"\\u00", b"\\u007", b"\\u0073k"],
)
def test_what_may_become_the_key_waits(start: bytes) -> None:
    """A beginning is held, escapes too, and goes on when it has become something else."""
    redactor = Redactor([KEY])
    assert redactor.feed(b"key: " + start) == b"key: "
    assert redactor.feed(b"!") == start + b"!"
    assert redactor.feed(start) == b""
    assert redactor.finish() == start
    assert redactor.finish() == b""


@pytest.mark.parametrize("start", [b"s", b"sk-", b"%", b"%7", b"%73", b"\\", b"\\u", b"\\u0"])
def test_a_short_beginning_does_not_wait(start: bytes) -> None:
    """An event that ends so by chance goes on; if the key comes after all, the rest of it is overwritten."""
    redactor = Redactor([KEY])
    assert redactor.feed(b"key: " + start) == b"key: " + start
    assert redactor.feed(b"!") == b"!"
    whole = {b"%": "%73%6B", b"\\": "\\u0073k"}.get(start[:1], "sk").encode() + KEY[2:].encode()
    assert redactor.feed(whole[: len(start)]) == start
    assert redactor.feed(whole[len(start) :] + b"!") == mark(len(whole))[len(start) :] + b"!"
    assert redactor.finish() == b""


def test_a_beginning_byte_by_byte() -> None:
    """A provider that spells out the beginning of a long key, escaped twice, does not have it searched again for each byte;
    the key at its end is found."""
    key = "IQoJ" + "abcdefgh" * 40
    spelt = "".join(
        f"\\u0025\\u00{ord(digit):02x}{other}"
        for sign in key
        for digit, other in [f"{ord(sign):02x}"]
    )
    text = spelt.encode()
    redactor = Redactor([key])
    out = b"".join(redactor.feed(text[at : at + 1]) for at in range(len(text))) + redactor.finish()
    assert out == text[:PASSED] + MARK.ljust(len(text), b"*")[PASSED:]
    assert redactor.searched < 1024 * 1024 + 20 * len(text)
    cut = text[:-1]
    assert (
        b"".join(redactor.feed(cut[at : at + 1]) for at in range(len(cut))) + redactor.finish()
        == cut
    )


def test_several_keys() -> None:
    """Every key that was put on the call is looked for."""
    other = "sk-other-0123456789"
    redactor = Redactor([Secret(KEY), Secret(other)])
    assert run(redactor, [f"{other} {KEY}".encode()]) == mark(len(other)) + b" " + mark(len(KEY))


@pytest.mark.parametrize("keys", [[], ["a"], ["sk-1234"]])
def test_short_keys_are_not_searched_for(keys: list[str]) -> None:
    """A key that would be met by chance is left alone, and so is everything when there is none."""
    redactor = Redactor(keys)
    assert redactor.feed(b"a sk-1234") == b"a sk-1234"
    assert redactor.headers([("x", "sk-1234")]) == [("x", "sk-1234")]


def test_headers() -> None:
    """Values are cleaned, in any spelling; a header with the key in its name is left out; bytes that are no UTF-8 stay."""
    coded = base64.b64encode(b"user:" + KEY.encode()).decode()
    clean = Redactor([KEY]).headers(
        [
            ("content-type", "application/json"),
            ("x-key", f"Bearer {KEY}, Bearer {KEY}"),
            (f"x-{KEY}", "1"),
            ("x-auth", f"Basic {coded}"),
            ("location", "/?k=" + urllib.parse.quote(KEY, safe="").replace("-", "%2D")),
            ("x-odd", "\udcff"),
            ("x-empty", ""),
        ]
    )
    values = dict(clean)
    assert [name for name, _ in clean] == [
        "content-type",
        "x-key",
        "x-auth",
        "location",
        "x-odd",
        "x-empty",
    ]
    one = mark(len(KEY)).decode()
    assert values["x-key"] == f"Bearer {one}, Bearer {one}"
    assert values["x-auth"].startswith("Basic dXNlcjp[redacted by tollhouse]***")
    assert len(values["x-auth"]) == len("Basic ") + len(coded)
    assert values["location"].startswith("/?k=[redacted by tollhouse]***")
    assert (values["content-type"], values["x-odd"], values["x-empty"]) == (
        "application/json",
        "\udcff",
        "",
    )


def test_headers_without_a_key_are_the_same_list() -> None:
    """Nothing is copied when there is nothing to do."""
    headers = [("content-type", "text/event-stream")]
    assert Redactor([KEY]).headers(headers) is headers


def test_nothing_shows_the_key() -> None:
    """Neither the redactor nor what it searches for has the key in its text form."""
    secret = Secret(KEY)
    for thing in (Redactor([secret]), Redactor([KEY]), Forms(KEY), secret.derived(Forms)):
        assert KEY not in repr(thing)
        assert not hasattr(thing, "__dict__")
    assert secret.derived(Forms) is secret.derived(Forms)


def test_what_a_secret_exposes_is_looked_for() -> None:
    """Not the whole of it: of an AWS key what leaves with a request, of a service account what was minted from it."""
    aws = Secret(json.dumps({"secret_access_key": KEY}), [KEY])
    account, token = Secret(json.dumps({"private_key": KEY}), ()), Secret("ya29." + KEY[::-1])
    body = f"{KEY} {token.reveal()}".encode()
    assert run(Redactor([aws]), [body]) == mark(len(KEY)) + body[len(KEY) :]
    assert run(Redactor([account]), [body]) == body
    assert run(Redactor([account, token]), [body]) == body[: len(KEY) + 1] + mark(len(KEY) + 5)
