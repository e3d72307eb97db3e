"""A JSON body, read strictly, in bounded memory, and in steps of a few milliseconds, so that a
large body does not hold up other calls.

Two parsers may disagree about a key that is given twice, about NaN or about text in another encoding. Each of these is refused,
so that there is nothing to disagree about.

A long string is not decoded: `Document` keeps its beginning, its length and its tokens. The rest
(structure and short strings) has a bound in bytes and in values. All of it may run in a thread: no
step holds the interpreter for more than some milliseconds.
"""

from __future__ import annotations

import codecs
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from tollhouse.denial import Refused
from tollhouse.families.formats.text_tokens import text_tokens

SMALL: Final = 65_536
"""The most bytes of a body that is parsed in one go. That takes less than 20 ms, whatever the body
holds."""
_MANY: Final = 4_000
"""Objects, lists and commas of a body that is read or changed at once: less than 20 ms, whatever the
values are."""
MAX_DEPTH: Final = 100
"""Nested objects and arrays. A request nests about 10; schemas of tools somewhat more."""
MAX_TREE: Final = 16 << 20
"""Bytes that the values of one body may take once they are read, by `_weight` and `_weight_of`. The most
that an honest request has are the 300,000 tokens of an embeddings request:
https://platform.openai.com/docs/api-reference/embeddings/create."""
LIGHT_TREE: Final = 3 << 20
"""Bytes up to which bodies are read beside one another (`beside_others`)."""
LONG_STRING: Final = 1_024
"""Bytes of a string from which on it is not decoded. One with a character that makes each of its
characters take four bytes is not from `_LONG_WIDE` on."""
_LONG_WIDE: Final = 256
_WIDE: Final = re.compile(rb"[\xf0-\xf4]|\\u[dD][89a-fA-F]")
"""Characters above U+FFFF, as UTF-8 or as an escape."""
MAX_PLAIN: Final = 4 << 20
"""Bytes of a body without its long strings."""
_LONGEST_KEY: Final = 1_024
_HEAD: Final = 400_512
"""Characters of a long string that are kept. They are for reading the beginning of an image or a
sound."""
_STEP: Final = 1 << 18
"""Bytes that one step looks at."""

_STRING: Final = re.compile(
    rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*)*'
)
_AFTER: Final = re.compile(rb"[ \t\r\n]*(:?)")
_LONGEST_ESCAPE: Final = 6


@dataclass(frozen=True, slots=True)
class LongString:
    """A string that is not kept whole: how its text begins, how many bytes of UTF-8 it has, and its tokens."""

    beginning: bytes
    """In UTF-8: as a `str` it might take four times that."""
    bytes: int
    tokens: float

    @property
    def head(self) -> str:
        return self.beginning.decode("utf-8", "surrogatepass")


class TooHeavy(Exception):
    """A body's values take more than `LIGHT_TREE`, and it was read beside others."""


_beside_others: Final[ContextVar[bool]] = ContextVar("beside_others", default=False)


@contextmanager
def beside_others() -> Iterator[None]:
    """In this block `parsed` raises `TooHeavy` before it makes a large tree. The body is to be read
    again where only one such body is read at a time."""
    token = _beside_others.set(True)
    try:
        yield
    finally:
        _beside_others.reset(token)


def is_quick(body: bytes) -> bool:
    """Whether the event loop may read, estimate or change this body. Other bodies are for a thread, so that no other call waits."""
    return len(body) <= SMALL and body.count(b",") + body.count(b"{") + body.count(b"[") <= _MANY


@dataclass(frozen=True, slots=True)
class Document:
    """``tree`` is the body's object. A string of it that is a key of ``long`` stands for that long string."""

    tree: dict[str, Any]
    long: dict[str, LongString]

    def name(self, value: Any) -> Any:
        """``value`` as the provider reads it, of a long string no more than its beginning. An escape for each of its
        characters makes a long string of a name."""
        return named(value, self.long)


def named(value: Any, long: Mapping[str, LongString]) -> Any:
    """`Document.name`."""
    found = long.get(value) if long and isinstance(value, str) else None
    return value if found is None else found.head


def refuse(why: str) -> NoReturn:
    raise Refused("bad_request", why)


def parsed(body: bytes) -> Document:
    """The object in ``body``. Raises Refused("bad_request"). Raises Refused("body_too_large") for a
    body with too many values, or with too many bytes beside its long strings."""
    if body.startswith(codecs.BOM_UTF8):
        refuse(
            "The body begins with a byte order mark (BOM), which JSON may not have; send it without."
        )
    if len(body) <= SMALL:
        return Document(_tree(body, _SMALL_DECODER), {})
    shortened, long, weight = _shortened(body)
    if weight > LIGHT_TREE and _beside_others.get():
        raise TooHeavy
    return Document(_tree(shortened, _LARGE_DECODER), long)


def shown(key: str) -> str:
    """A client's word as it may stand in a sentence of ours."""
    return json.dumps(key[:64])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        refuse(f"The body has the key {shown(twice)} twice in one object.")
    return found


def _constant(name: str) -> NoReturn:
    refuse(f"The body has {name}, which JSON does not know.")


_SMALL_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
# A call into Python for each number lets the interpreter turn to another thread; without it a list of numbers keeps it for as long
# as it is read.
_LARGE_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_constant,
    parse_int=lambda digits: int(digits),
    parse_float=lambda digits: float(digits),
)


def _tree(body: bytes | bytearray, decoder: json.JSONDecoder) -> dict[str, Any]:
    try:
        document = decoder.decode(body.decode())
    except UnicodeDecodeError:
        refuse("The body is not UTF-8.")
    except RecursionError:
        refuse(f"The body nests deeper than {MAX_DEPTH} levels.")
    except ValueError as error:
        if not body.strip():
            refuse("The body is empty; send a JSON object.")
        where = f" (at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        refuse(f"The body is not valid JSON{where}.")
    if not isinstance(document, dict):
        refuse("The body is not a JSON object.")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _refuse_depth(document)
    return document


def _refuse_depth(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    refuse(f"The body nests deeper than {MAX_DEPTH} levels.")


def _shortened(body: bytes) -> tuple[bytearray, dict[str, LongString], int]:
    """The body with a short word in place of each long string that is a value, those strings by
    their words, and the bytes that the tree will take. The words are random, so that no string of
    the client's equals one of them."""
    word = f"long-{secrets.token_hex(8)}-"
    plain = bytearray()
    long: dict[str, LongString] = {}
    keys: set[int] = set()
    weight = kept = 0
    width = 1
    for start, end in strings(body):
        _bound(weight, start - kept)
        outside, size = body[kept:start], end - start
        if not outside.strip():
            refuse(
                f"The body is not valid JSON (there is nothing before the string at byte {start})."
            )
        weight += _weight(outside)
        is_key = _is_key(body, end)
        if is_key and size > _LONGEST_KEY:
            refuse(f"The body has a key of more than {_LONGEST_KEY} bytes.")
        text = body[start:end] if size <= LONG_STRING or is_key else b""
        if text and (is_key or size <= _LONG_WIDE or not _WIDE.search(text)):
            plain += outside
            plain += text
            if not is_key:
                weight += _weight_of(text)
            elif (known := hash(text)) in keys:
                weight += _KEY_AGAIN
            else:
                keys.add(known)
                weight += _KEY + _weight_of(text)
            if not text.isascii():
                width = max(width, 4 if _WIDE.search(text) else 2)
        else:
            name = f"{word}{len(long)}"
            long[name] = _long_string(body, start + 1, end - 1)
            plain += outside
            plain += f'"{name}"'.encode()
        kept = end
        _bound(weight + width * len(plain), len(plain) - _WORD * len(long))
    rest = body[kept : kept + MAX_PLAIN + 1]
    weight += _weight(rest)
    plain += rest
    _bound(weight + width * len(plain), len(plain) - _WORD * len(long))
    return plain, long, weight + width * len(plain)


_WORD: Final = len('"long-0123456789abcdef-0"')
"""Bytes of a word that stands for a long string; its number may have more digits."""
# Bytes in CPython 3.12 and later, by sys.getsizeof and the growth of lists, dicts and sets.
_VALUE: Final = 32 + 9
"""A number, and its place in a list."""
_OBJECT: Final = 184
_LIST: Final = 88
_KEY: Final = 200
"""One that is new: itself, its places in the object and in the memo of the decoder, and the pair that
it makes before there is an object."""
_KEY_AGAIN: Final = 44


def _weight(outside: bytes) -> int:
    """The bytes that the values take which begin in a part of a JSON text that has no string."""
    return (
        _VALUE * outside.count(b",") + _OBJECT * outside.count(b"{") + _LIST * outside.count(b"[")
    )


def _weight_of(text: bytes) -> int:
    """What a string takes beyond `_VALUE`."""
    if text.isascii() and b"\\u" not in text:
        return 24 + len(text)
    return 44 + len(text) * (4 if _WIDE.search(text) else 2)


def _bound(weight: int, plain: int) -> None:
    if weight > MAX_TREE:
        why = f"Its values would take more than {MAX_TREE} bytes once they are read; send fewer in one request."
        raise Refused("body_too_large", why)
    if plain > MAX_PLAIN:
        why = f"It has more than {MAX_PLAIN} bytes outside its long texts; send fewer values in one request."
        raise Refused("body_too_large", why)


def strings(body: bytes, at: int = 0) -> Iterator[tuple[int, int]]:
    """Where the strings of a JSON text begin and end, with their quotes. The text between them is
    not judged. Raises `Refused` for a malformed string."""
    while (start := body.find(b'"', at)) >= 0:
        at = string_end(body, start)
        yield start, at


def string_end(body: bytes, start: int) -> int:
    """Where the string ends whose quote is at ``start``."""
    inside = start + 1
    while True:
        stop = min(inside + _STEP, len(body))
        inside = _inside(body, inside, stop)
        if body[inside : inside + 1] == b'"':
            return inside + 1
        # A step may end inside an escape. The next step begins with that escape then.
        if stop == len(body) or stop - inside >= _LONGEST_ESCAPE:
            refuse(
                f"The body is not valid JSON (the string that begins at byte {start} has no end or a wrong character)."
            )


def _inside(body: bytes, at: int, stop: int) -> int:
    """How far whole characters and escapes of a string reach."""
    match = _STRING.match(body, at, stop)
    assert match is not None
    return match.end()


def _is_key(body: bytes, end: int) -> bool:
    match = _AFTER.match(body, end)
    return match is not None and match[1] == b":"


def _long_string(body: bytes, start: int, end: int) -> LongString:
    """Raises `Refused` for one that is no UTF-8."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    tokens, size, at = 0.0, 0, start
    head: list[str] = []
    wanted = _HEAD
    while at < end:
        stop = _inside(body, at, min(at + _STEP, end))
        try:
            text = decode(body[at:stop], stop == end)
        except UnicodeDecodeError:
            refuse("The body is not UTF-8.")
        if "\\" in text:
            text = json.loads(f'"{text}"')
            size += len(text.encode("utf-8", "surrogatepass"))
        else:
            size += stop - at
        tokens += text_tokens(text)
        if wanted > 0:
            head.append(text[:wanted])
            wanted -= len(text)
        at = stop
    return LongString("".join(head).encode("utf-8", "surrogatepass"), size, tokens)
