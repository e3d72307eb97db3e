"""A body of ``multipart/form-data`` (RFC 7578), read strictly and without a copy of its files.

Parsers disagree about much of this format: text before the first boundary, bare line feeds,
escapes in names, a boundary inside a file. Each of these is refused, so that there is nothing to
disagree about. The body itself passes on byte for byte, under its own content type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from enum import Enum, auto
from typing import Final, NamedTuple, NoReturn

from tollhouse.families.asked import Asked, Request
from tollhouse.families.formats.document import refuse, shown
from tollhouse.headers import Headers

MAX_PARTS: Final = 256
"""Parts of one body. A request of OpenAI's API has at most 16 images and some 20 fields."""
MAX_TEXT: Final = 262_144
"""Bytes of a field that is a text. The longest prompt has 32,000 characters:
https://platform.openai.com/docs/api-reference/images/create#images-create-prompt."""
MAX_HEAD_OF_FILE: Final = 4_096
"""Bytes of a file that say what it is."""
MAX_KEPT: Final = 1 << 20
"""Bytes of texts and of beginnings of files that are kept of a body that is sent as it comes."""
_MAX_HEAD: Final = 4_096
_STEP: Final = 1 << 20
"""Bytes that one step looks at."""
_TYPE: Final = re.compile(
    r"multipart/form-data[ ]*;[ ]*boundary=(?:\"([^\"\\]{1,70})\"|([!#$%&'*+.^_`|~0-9A-Z-]{1,70}))[ ]*",
    re.IGNORECASE,
)
"""Without quotation marks a value is a token: RFC 2045, section 5.1. Parsers disagree where any other ends."""
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
"""RFC 2046, section 5.1.1."""
_LINE: Final = re.compile(r"([A-Za-z-]{1,40}):[ \t]*([^\r\n]*?)[ \t]*")
_DISPOSITION: Final = re.compile(r"form-data((?:[ ]*;[ ]*[a-z]+\*?=(?:\"[^\"\\]*\"|[^\";\\\s]+))+)")
_PARAMETER: Final = re.compile(r"[ ]*;[ ]*([a-z]+\*?)=(?:\"([^\"\\]*)\"|([^\";\\\s]+))")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}(?:\[[A-Za-z0-9_]{0,32}\]){0,4}")
_PLAIN: Final = re.compile(r"(?:text/plain(?:[ ]*;[ ]*charset=(\"?)(?:utf-?8|us-ascii)\1)?)?")
"""In any other charset the provider might read another text than is judged."""
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
    """The parts of a body, in their order. ``value`` gives how the value of one begins: as many bytes
    of it as are asked for, or all that are kept."""

    def __init__(self, parts: tuple[Part, ...], value: Callable[[Part, int], bytes]) -> None:
        self._value = value
        self.parts = parts

    def text(self, part: Part) -> str:
        """The text of a part that is no file. Raises `Refused` if it is one, or is no UTF-8."""
        if part.filename is not None or not _PLAIN.fullmatch(part.type):
            refuse(f"The field {shown(part.name)} must be plain text in UTF-8 and no file.")
        if part.end - part.start > MAX_TEXT:
            refuse(f"The field {shown(part.name)} has more than {MAX_TEXT} bytes.")
        try:
            return self._value(part, MAX_TEXT).decode()
        except UnicodeDecodeError:
            refuse(f"The field {shown(part.name)} is not UTF-8.")

    def head(self, part: Part, length: int) -> bytes:
        """How the value begins: at most `MAX_HEAD_OF_FILE` bytes."""
        return self._value(part, min(length, MAX_HEAD_OF_FILE))


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
    reader = FormReader(headers, keeps=False)
    # In steps: a search keeps the interpreter until it ends.
    for at in range(0, len(body), _STEP):
        reader.feed(body[at : at + _STEP])
    parts = reader.finish().parts
    _check_names(parts, known, lists)
    return Form(parts, lambda part, most: body[part.start : min(part.end, part.start + most)])


def form_of(request: Request, known: Collection[str], lists: Collection[str]) -> Form:
    """The same for a request, also for one whose body was read as it came."""
    if request.form is None:
        return form(request.body, request.headers, known, lists)
    _check_names(request.form.parts, known, lists)
    return request.form


def _check_names(parts: tuple[Part, ...], known: Collection[str], lists: Collection[str]) -> None:
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


class _State(Enum):
    BEGIN = auto()
    MARKED = auto()
    """Behind a boundary: another part, or the end."""
    HEAD = auto()
    VALUE = auto()
    END = auto()


class FormReader:
    """Reads a body piece by piece, whatever the pieces are. Every place where the boundary stands has
    to be a delimiter, so that no parser finds another part.

    With ``keeps`` the texts and the beginnings of files are kept, `MAX_KEPT` bytes at most.
    """

    def __init__(self, headers: Headers, *, keeps: bool = True) -> None:
        self._mark = _boundary(headers)
        self._keeps = keeps
        self._state = _State.BEGIN
        self._rest = b""
        """What has come and is not judged."""
        self._at = 0
        """Where in the body ``_rest`` begins."""
        self._open: Part | None = None
        """The part whose value is coming. Its end is not known."""
        self._length: str | None = None
        """What it says of its length."""
        self._parts: list[Part] = []
        self._kept: dict[int, bytes] = {}
        """By where a part begins."""
        self._kept_bytes = 0

    def feed(self, data: bytes) -> None:
        """Raises Refused("bad_request")."""
        rest = self._rest + data if self._rest else data
        at, moved = 0, True
        while moved:
            before = self._state
            at = self._step(rest, at)
            moved = self._state is not before
        self._rest = rest[at:]
        self._at += at

    def finish(self) -> Form:
        """The body is over. Raises Refused("bad_request")."""
        match self._state:
            case _State.BEGIN:
                refuse("The body does not begin with its boundary.")
            case _State.HEAD | _State.VALUE:
                refuse("The body does not end with its boundary.")
            case _State.END if self._rest in (b"", b"\r\n"):
                if not self._parts:
                    refuse("The body has no parts.")
            case _:
                _refuse_end()
        kept = self._kept
        return Form(tuple(self._parts), lambda part, most: kept.get(part.start, b"")[:most])

    def _step(self, rest: bytes, at: int) -> int:
        """Up to where ``rest`` is judged. The state has changed, or more bytes are needed."""
        match self._state:
            case _State.BEGIN:
                return self._begin(rest)
            case _State.MARKED:
                return self._marked(rest, at)
            case _State.HEAD:
                return self._head(rest, at)
            case _State.VALUE:
                return self._value(rest, at)
            case _State.END:
                if not b"\r\n".startswith(rest[at : at + 3]):
                    _refuse_end()
                return at

    def _begin(self, rest: bytes) -> int:
        if not rest.startswith(self._mark[: len(rest)]):
            refuse("The body does not begin with its boundary.")
        if len(rest) < len(self._mark):
            return 0
        self._state = _State.MARKED
        return len(self._mark)

    def _marked(self, rest: bytes, at: int) -> int:
        behind = rest[at : at + 2]
        if len(behind) < 2:
            return at
        if behind == b"--":
            self._state = _State.END
        elif behind == b"\r\n":
            if len(self._parts) == MAX_PARTS:
                refuse(f"The body has more than {MAX_PARTS} parts.")
            self._state = _State.HEAD
        else:
            _refuse_end()
        return at + 2

    def _head(self, rest: bytes, at: int) -> int:
        blank = rest.find(b"\r\n\r\n", at, at + _MAX_HEAD + 4)
        mark = rest.find(self._mark, at, at + _MAX_HEAD + 4 + len(self._mark))
        if mark >= 0 and (blank < 0 or mark - 2 < blank + 4):
            if mark - 2 < at or rest[mark - 2 : mark] != b"\r\n":
                _refuse_inside()
            _refuse_head()
        if blank < 0:
            if len(rest) - at > _MAX_HEAD + 4:
                _refuse_head()
            return at
        self._open, self._length = _described(_headers(rest[at:blank]), self._at + blank + 4)
        self._state = _State.VALUE
        return blank + 4

    def _value(self, rest: bytes, at: int) -> int:
        part = self._open
        assert part is not None
        mark = rest.find(self._mark, at)
        if mark < 0:
            # What can't be the beginning of a delimiter.
            judged = max(at, len(rest) - len(self._mark) - 1)
            self._keep(part, rest, at, judged)
            return judged
        if self._at + mark == part.start:
            _refuse_head()
        if self._at + mark - 2 < part.start or rest[mark - 2 : mark] != b"\r\n":
            _refuse_inside()
        self._keep(part, rest, at, mark - 2)
        end = self._at + mark - 2
        if self._length is not None and self._length != str(end - part.start):
            refuse("A part of the body has another length than it says.")
        self._parts.append(part._replace(end=end))
        self._open = None
        self._state = _State.MARKED
        return mark + len(self._mark)

    def _keep(self, part: Part, rest: bytes, start: int, end: int) -> None:
        if not self._keeps:
            return
        most = MAX_TEXT if part.filename is None else MAX_HEAD_OF_FILE
        kept = self._kept.get(part.start, b"")
        more = rest[start : min(end, start + most - len(kept))]
        if not more:
            return
        self._kept[part.start] = kept + more
        self._kept_bytes += len(more)
        if self._kept_bytes > MAX_KEPT:
            refuse(f"The fields of the body that are no files have more than {MAX_KEPT} bytes.")


def _refuse_end() -> NoReturn:
    refuse("The body does not end with its boundary and two hyphens.")


def _refuse_inside() -> NoReturn:
    refuse("The boundary stands inside a part of the body; choose another one.")


def _refuse_head() -> NoReturn:
    refuse(f"A part of the body has no headers, or more than {_MAX_HEAD} bytes of them.")


def _headers(raw: bytes) -> dict[str, str]:
    try:
        head = raw.decode()
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
    return headers


def _described(headers: dict[str, str], start: int) -> tuple[Part, str | None]:
    """A part whose end is not known, and what it says of its length."""
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
    length = headers.pop("content-length", None)
    if headers:
        refuse(f"A part of the body has the header {shown(next(iter(headers)))}.")
    filename = given.get("filename", given.get("filename*"))
    return Part(name, start, start, filename, kind), length
