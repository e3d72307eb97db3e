"""Where the members of a JSON object stand in its bytes, so that one of them can be taken out or changed and every
other byte stays as it was.

The scan works on bytes that are decoded as Latin-1, so offsets in the text are offsets in the
bytes. JSON's structure is ASCII, and a byte of a longer UTF-8 character can stand only inside a
string. The strings that a scan finds are readable only if they are ASCII.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tollhouse.families.formats.document import string_end

_decode = json.JSONDecoder().raw_decode
_skip = re.compile(r"[ \t\r\n]*").match
_SPACES: Final = frozenset(" \t\r\n")
_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_TRIES: Final = 64
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


class Member(NamedTuple):
    """One member of an object: ``text[key_at:value_end]`` is all of it but for commas."""

    key: str
    key_at: int
    value_at: int
    value_end: int
    value: Any


def members(text: str, start: int = 0, *, whole: bool = True) -> Iterator[Member]:
    """The members of the object at ``start``, in order.

    ``whole`` demands that nothing but whitespace follows the object. Raises ValueError where the text is not JSON;
    members before that place have been given by then.
    """
    at = _after(text, start, "{")
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            key_at = at
            if text[at : at + 1] != '"':
                raise ValueError(f"no key at {at}")
            key, at = _decode(text, at)
            value_at = _after(text, at, ":")
            value, value_end = _decode(text, value_at)
            yield Member(key, key_at, value_at, value_end, value)
            at = _space(text, value_end)
            if text[at : at + 1] == "}":
                at += 1
                break
            at = _after(text, at, ",")
    if whole and _space(text, at) != len(text):
        raise ValueError(f"more text after the object at {at}")


class MemberPlace(NamedTuple):
    """Where a member's value stands."""

    key: str
    value_at: int
    value_end: int


_BLANKS: Final = re.compile(rb"[ \t\r\n]*")
_SCALAR: Final = re.compile(rb"[-+.0-9A-Za-z]+")
_MARK: Final = re.compile(rb'["{}\[\]]')


def places(body: bytes, start: int = 0) -> Iterator[MemberPlace]:
    """The members of the object at ``start`` of a valid JSON text, in order. No value is decoded, however long it is."""
    at = body.index(b"{", start) + 1
    while body[at := _blank(body, at)] == 0x22:
        end = string_end(body, at)
        key: str = json.loads(body[at:end])
        value_at = _blank(body, _blank(body, end) + 1)
        value_end = _value_end(body, value_at)
        yield MemberPlace(key, value_at, value_end)
        at = _blank(body, value_end)
        if body[at] != 0x2C:
            return
        at += 1


def _blank(body: bytes, at: int) -> int:
    match = _BLANKS.match(body, at)
    assert match is not None
    return match.end()


def _value_end(body: bytes, at: int) -> int:
    if body[at] == 0x22:
        return string_end(body, at)
    if body[at] not in b"{[":
        match = _SCALAR.match(body, at)
        return match.end() if match is not None else at
    depth = 0
    while (mark := _MARK.search(body, at)) is not None:
        at = mark.end()
        found = body[mark.start()]
        if found == 0x22:
            at = string_end(body, mark.start())
            continue
        depth += 1 if found in b"{[" else -1
        if depth == 0:
            break
    return at


def removal(found: list[Member], index: int) -> tuple[int, int]:
    """The span to cut out to remove member ``index``. It has the comma before the member, or for
    the first member the comma after it."""
    member = found[index]
    if index > 0:
        return found[index - 1].value_end, member.value_end
    if len(found) > 1:
        return member.key_at, found[1].key_at
    return member.key_at, member.value_end


def member_from_end(body: bytes, key: bytes) -> Any:
    """The value of the top-level member ``key`` of a valid JSON object whose last part is ``body``, or None.

    A quote without a backslash before it and with ``key"`` and a colon behind it opens a key: no string and no other
    place of a valid document can hold that. The key is the outermost object's if exactly one bracket is still open
    behind it, and ``body`` ends with that bracket. So only what follows the key is read, however long the document is.
    """
    quoted = b'"' + key + b'"'
    at = len(body)
    tries = _TRIES
    while tries and (at := body.rfind(quoted, 0, at)) > 0:
        if body[at - 1] == 0x5C:
            continue
        colon = _COLON.match(body, at + len(quoted))
        if colon is None:
            continue
        if _closes_once(body, at):
            try:
                return _decode(body[colon.end() :].decode("latin-1"))[0]
            except ValueError:
                return None
        tries -= 1
    return None


def _closes_once(body: bytes, at: int) -> bool:
    depth = 1
    last = at
    for token in _TOKEN.finditer(body, at):
        mark = body[token.start()]
        last = token.end()
        if mark == 0x22:
            continue
        depth += 1 if mark in b"{[" else -1
        if depth < 1:
            break
    return depth == 0 and body[last - 1] == 0x7D and not body[last:].strip()


def _space(text: str, at: int) -> int:
    if text[at : at + 1] not in _SPACES:
        return at
    match = _skip(text, at)
    assert match is not None
    return match.end()


def _after(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        at = _space(text, at)
        if text[at : at + 1] != mark:
            raise ValueError(f"no {mark!r} at {at}")
    at += 1
    return _space(text, at) if text[at : at + 1] in _SPACES else at
