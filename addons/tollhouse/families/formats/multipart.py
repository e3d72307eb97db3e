"""A body of ``multipart/form-data`` (RFC 7578), read strictly and without a copy of its files.

Parsers disagree about much of this format: text before the first boundary, bare line feeds,
escapes in names, a boundary inside a file. Each of these is refused, so that there is nothing to
disagree about. The body itself passes on byte for byte, under its own content type.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from tollhouse.families.base import Asked, Headers
from tollhouse.families.formats.document import refuse, shown

MAX_PARTS: Final = 256
"""Parts of one body. A request of OpenAI's API has at most 16 images and some 20 fields."""
MAX_TEXT: Final = 262_144
"""Bytes of a field that is a text. The longest prompt has 32,000 characters:
https://platform.openai.com/docs/api-reference/images/create#images-create-prompt."""
_MAX_HEAD: Final = 4_096
_STEP: Final = 1 << 20
"""Bytes that one step looks at."""
_TYPE: Final = re.compile(
    r"multipart/form-data[ ]*;[ ]*boundary=(?:\"([^\"\\]{1,70})\"|([^\";,\s]{1,70}))[ ]*",
    re.IGNORECASE,
)
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
"""RFC 2046, section 5.1.1."""
_LINE: Final = re.compile(r"([A-Za-z-]{1,40}):[ \t]*([^\r\n]*?)[ \t]*")
_DISPOSITION: Final = re.compile(r"form-data((?:[ ]*;[ ]*[a-z]+\*?=(?:\"[^\"\\]*\"|[^\";\\\s]+))+)")
_PARAMETER: Final = re.compile(r"[ ]*;[ ]*([a-z]+\*?)=(?:\"([^\"\\]*)\"|([^\";\\\s]+))")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}(?:\[[A-Za-z0-9_]{0,32}\]){0,4}")
_ENCODINGS: Final = frozenset({"binary", "8bit", "7bit"})


class Part(NamedTuple):
    """One field. Its value is ``body[start:end]``. ``type`` is its content type in lower case, "" if it says none."""

    name: str
    start: int
    end: int
    filename: str | None = None
    type: str = ""

    @property
    def base(self) -> str:
        """The name before its brackets."""
        return self.name.partition("[")[0]


class Form:
    """The parts of a body, in their order."""

    def __init__(self, body: bytes, parts: tuple[Part, ...]) -> None:
        self._body = body
        self.parts = parts

    def text(self, part: Part) -> str:
        """The text of a part that is no file. Raises `Refused` if it is one, or is no UTF-8."""
        if part.filename is not None or not (
            part.type in ("", "text/plain") or part.type.startswith("text/plain;")
        ):
            refuse(f"The field {shown(part.name)} must be plain text and no file.")
        if part.end - part.start > MAX_TEXT:
            refuse(f"The field {shown(part.name)} has more than {MAX_TEXT} bytes.")
        try:
            return self._body[part.start : part.end].decode()
        except UnicodeDecodeError:
            refuse(f"The field {shown(part.name)} is not UTF-8.")

    def head(self, part: Part, length: int) -> bytes:
        """How the value begins."""
        return self._body[part.start : min(part.end, part.start + length)]


def is_multipart(headers: Headers) -> bool:
    """Whether a content type says ``multipart``."""
    return any(
        name == "content-type" and value.strip().lower().startswith("multipart/")
        for name, value in headers
    )


def form(body: bytes, headers: Headers, known: Collection[str], lists: Collection[str]) -> Form:
    """The parts of ``body``. Raises Refused("bad_request") for a body that can't be read in exactly
    one way.

    ``known`` are the fields that have a meaning, in lower case. Those of ``lists`` may come several
    times, and may have brackets behind their name.
    """
    parts = tuple(_parts(body, _boundary(headers)))
    seen: set[str] = set()
    for part in parts:
        base = part.base
        if base not in known and base.casefold() in known:
            refuse(f"The body has the field {shown(part.name)}; its name is in lower case.")
        if base not in known or base in lists:
            continue
        if part.name != base:
            refuse(f"The field {shown(base)} is no list; send it without brackets.")
        if base in seen:
            refuse(f"The body has the field {shown(base)} twice.")
        seen.add(base)
    return Form(body, parts)


def sent_as_it_came(headers: Headers, asked: Asked) -> Headers:
    """A multipart body is sent under the content type that has its boundary."""
    return headers


def _boundary(headers: Headers) -> bytes:
    said = [value for name, value in headers if name == "content-type"]
    match = _TYPE.fullmatch(said[0].strip()) if len(said) == 1 else None
    boundary = (match[1] or match[2]) if match is not None else ""
    if not _BOUNDARY.fullmatch(boundary):
        refuse(
            "The content type must be multipart/form-data with one boundary of 1 to 70 characters "
            "and nothing else."
        )
    return b"--" + boundary.encode()


def _parts(body: bytes, mark: bytes) -> list[Part]:
    """Every place where the boundary stands has to be a delimiter, so that no parser finds another
    part."""
    found: list[Part] = []
    at = len(mark)
    if not body.startswith(mark):
        refuse("The body does not begin with its boundary.")
    while body[at : at + 2] == b"\r\n":
        if len(found) == MAX_PARTS:
            refuse(f"The body has more than {MAX_PARTS} parts.")
        end = _find(body, mark, at + 2)
        if end < 0:
            refuse("The body does not end with its boundary.")
        if body[end - 2 : end] != b"\r\n" or end - 2 < at + 2:
            refuse("The boundary stands inside a part of the body; choose another one.")
        found.append(_part(body, at + 2, end - 2))
        at = end + len(mark)
    if body[at:] not in (b"--", b"--\r\n"):
        refuse("The body does not end with its boundary and two hyphens.")
    if not found:
        refuse("The body has no parts.")
    return found


def _find(body: bytes, mark: bytes, at: int) -> int:
    """Where ``mark`` stands next, or -1. It is looked for in steps: a search keeps the interpreter
    until it ends."""
    while at < len(body):
        found = body.find(mark, at, at + _STEP + len(mark))
        if found >= 0:
            return found
        at += _STEP
    return -1


def _part(body: bytes, start: int, end: int) -> Part:
    blank = body.find(b"\r\n\r\n", start, min(end, start + _MAX_HEAD) + 4)
    if blank < 0 or blank + 4 > end:
        refuse(f"A part of the body has no headers, or more than {_MAX_HEAD} bytes of them.")
    try:
        head = body[start:blank].decode()
    except UnicodeDecodeError:
        refuse("A part of the body has a header that is not UTF-8.")
    headers: dict[str, str] = {}
    for line in head.split("\r\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            refuse("A part of the body has a header that can't be read.")
        name = match[1].lower()
        if name in headers:
            refuse(f"A part of the body has the header {shown(name)} twice.")
        headers[name] = match[2]
    return _described(headers, blank + 4, end)


def _described(headers: dict[str, str], start: int, end: int) -> Part:
    disposition = _DISPOSITION.fullmatch(headers.pop("content-disposition", ""))
    if disposition is None:
        refuse("A part of the body has no content-disposition form-data that can be read.")
    given: dict[str, str] = {}
    for key, quoted, plain in _PARAMETER.findall(disposition[1]):
        if key in given:
            refuse(f"A part of the body says {shown(key)} twice.")
        given[key] = quoted or plain
    if not given.keys() <= {"name", "filename", "filename*"}:
        refuse("A part of the body says more than its name and its file's name.")
    name = given.get("name", "")
    if not _NAME.fullmatch(name):
        refuse("A part of the body has no name, or one with other characters than a field has.")
    kind = headers.pop("content-type", "").lower()
    if kind.startswith(("multipart/", "message/")):
        refuse("A part of the body is itself a multipart; send its parts one by one.")
    if headers.pop("content-transfer-encoding", "binary").lower() not in _ENCODINGS:
        refuse("A part of the body has a content-transfer-encoding; send it as it is.")
    if headers.pop("content-length", str(end - start)) != str(end - start):
        refuse("A part of the body has another length than it says.")
    if headers:
        refuse(f"A part of the body has the header {shown(next(iter(headers)))}.")
    filename = given.get("filename", given.get("filename*"))
    return Part(name, start, end, filename, kind)
