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
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from tollhouse.denial import Refused
from tollhouse.families.formats.text_tokens import text_tokens

SMALL: Final = 65_536
"""The most bytes of a body that is parsed in one go. That takes less than 20 ms, whatever the body
holds."""
MAX_DEPTH: Final = 100
"""Nested objects and arrays. A request nests about 10; schemas of tools somewhat more."""
MAX_NODES: Final = 400_000
"""Values in one body, of which an object counts five: it takes that much more memory, and time to let go of. The most that an
honest request has are the 300,000 tokens of an embeddings request:
https://platform.openai.com/docs/api-reference/embeddings/create."""
LONG_STRING: Final = 1_024
"""Bytes of a string from which on it is not decoded. One with ``\\\\u`` escapes, which takes up to four times its bytes, is not
from `_LONG_ESCAPED` on."""
_LONG_ESCAPED: Final = 64
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

    head: str
    bytes: int
    tokens: float


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
    shortened, long = _shortened(body)
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


def _tree(body: bytes, decoder: json.JSONDecoder) -> dict[str, Any]:
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


def _shortened(body: bytes) -> tuple[bytes, dict[str, LongString]]:
    """The body with a short word in place of each long string that is a value, and those strings by
    their words. The words are random, so that no string of the client's equals one of them."""
    word = f"long-{secrets.token_hex(8)}-"
    parts: list[bytes] = []
    long: dict[str, LongString] = {}
    nodes = plain = kept = 0
    for start, end in strings(body):
        _bound(0, start - kept)
        outside, size = body[kept:start], end - start
        if not outside.strip():
            refuse(
                f"The body is not valid JSON (there is nothing before the string at byte {start})."
            )
        nodes += _values(outside)
        is_key = _is_key(body, end)
        if is_key and size > _LONGEST_KEY:
            refuse(f"The body has a key of more than {_LONGEST_KEY} bytes.")
        if (
            is_key
            or size <= _LONG_ESCAPED
            or (size <= LONG_STRING and b"\\u" not in body[start:end])
        ):
            parts.append(body[kept:end])
            plain += end - kept
        else:
            name = f"{word}{len(long)}"
            long[name] = _long_string(body, start + 1, end - 1)
            parts += (outside, f'"{name}"'.encode())
            plain += len(outside)
        kept = end
        _bound(nodes, plain)
    rest = body[kept : kept + MAX_PLAIN + 1]
    _bound(nodes + _values(rest), plain + len(rest))
    parts.append(rest)
    return b"".join(parts), long


def _values(outside: bytes) -> int:
    """How many values begin in a part of a JSON text that has no string, as `MAX_NODES` counts them."""
    return outside.count(b",") + 4 * outside.count(b"{") + outside.count(b"[")


def _bound(nodes: int, plain: int) -> None:
    if nodes > MAX_NODES:
        raise Refused(
            "body_too_large", f"It has more than {MAX_NODES} values; send fewer in one request."
        )
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
    return LongString("".join(head), size, tokens)
