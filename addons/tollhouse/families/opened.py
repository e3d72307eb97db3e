"""A family with endpoints that it does not know itself, and that an operator has opened.

What the family knows comes first: an opened path is never another spelling of an endpoint that
makes a credential or administrates the account, and never changes what a known endpoint is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import islice, product
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.base import Family
from tollhouse.families.formats import generic
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.operation import Cost, Matched, Operation, Route
from tollhouse.families.units import Estimate
from tollhouse.headers import Headers

UNKNOWN: Final = generic.KIND
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
STARTS: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods with a body. A job begins with one of them."""
_LONGEST: Final = 512
# What a segment may have. `%` and `;` are left out: they spell one path in several ways.
_CHARACTER: Final = r"[A-Za-z0-9._~!$&'()+,=@-]"
_SEGMENT: Final = re.compile(rf"(?:\*|{_CHARACTER}+)(?::{_CHARACTER}*)*")
_ANY: Final = rf"{_CHARACTER}+"
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")
_TRIES: Final = 10_000
_EXAMPLE: Final = 'write it like "POST /v1/new_thing"'


@dataclass(frozen=True, slots=True)
class Opening:
    """A method and a path that an operator has opened. ``*`` stands for one segment of the path,
    or for what stands in it before a colon."""

    method: str
    path: str

    @property
    def text(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.path).replace(r"\*", _ANY))

    def names(self, method: str, path: str) -> bool:
        return method == self.method and self.pattern.fullmatch(path) is not None


def parse_opening(text: str) -> Opening:
    """Raises `ValueError`, which says why ``text`` is none."""
    method, space, path = text.partition(" ")
    if not space or not path or " " in path:
        raise ValueError(f"must be a method, a space and a path; {_EXAMPLE}")
    if method not in METHODS:
        if method.upper() in METHODS:
            raise ValueError(f"has its method in lower case; write {method.upper()}")
        raise ValueError(f"must begin with one of the methods {', '.join(METHODS)}; {_EXAMPLE}")
    if not path.startswith("/"):
        raise ValueError(f"has a path that does not begin with a slash; {_EXAMPLE}")
    if len(path) > _LONGEST:
        raise ValueError(f"has a path of more than {_LONGEST} characters; shorten it")
    if "?" in path or "#" in path:
        raise ValueError("has a query, which is never a part of the rule; write the path alone")
    for segment in path[1:].split("/"):
        if not segment or segment in (".", ".."):
            raise ValueError(
                "has an empty or dot segment, and no such path is ever sent; write each segment"
            )
        if _SEGMENT.fullmatch(segment):
            continue
        if "*" in segment:
            raise ValueError(
                "has a wildcard inside a segment; * stands for one whole segment, or for all "
                'before its colon; write "/v1/*/things" or "/v1/models/*:method"'
            )
        raise ValueError(
            "has a character that could be spelled in two ways; use letters, digits and "
            "- . _ ~ ! $ & ' ( ) + , = @ :"
        )
    return Opening(method, path)


def meets(opening: Opening, route: Route) -> bool:
    """Whether ``opening`` names a path of ``route``. For each ``*`` the words are tried that the
    route's pattern has in the same segment."""
    if opening.method != route.method:
        return False
    pieces = route.path.pattern.split("/")
    choices: list[list[str]] = []
    for at, segment in enumerate(opening.path.split("/")):
        star, colon, rest = segment.partition(":")
        if star != "*":
            choices.append([segment])
            continue
        words = _WORD.findall(pieces[at]) if at < len(pieces) else []
        choices.append([word + colon + rest for word in ("x", "1", *words)])
    paths = islice(product(*choices), _TRIES)
    spelled = re.compile(route.path.pattern, route.path.flags | re.IGNORECASE)
    return any(spelled.fullmatch("/".join(path).rstrip("/")) is not None for path in paths)


@dataclass(frozen=True, slots=True, repr=False)
class OpenedFamily(Family):
    """``base`` and the endpoints that are opened beside its own. Made by `opened`."""

    base: Family | None = None
    allow: tuple[Opening, ...] = ()
    unmetered: tuple[Opening, ...] = ()
    own: tuple[Route, ...] = ()
    """The routes of ``allow`` and ``unmetered``."""
    folded: tuple[Route, ...] = ()
    """The family's routes, in upper and lower case alike. An entry opens none of them in another
    spelling: by that a call would go around the rules of the family."""

    def match(
        self, method: str, path: str, query: str = "", host: str = "", *, socket: bool = False
    ) -> Matched | None:
        assert self.base is not None
        found = self.base.match(method, path, query, host, socket=socket)
        if socket:
            return found
        if found is None:
            route = self._respelled(method, path)
            if route is None:
                route = self._own(method, path)
            elif route.operation.cost in ("metered", "free", "job"):
                return None
            if route is None:
                return None
            found = Matched(route.operation)
        operation = found.operation
        if operation.cost == "job" and not operation.reads_body and method in STARTS:
            # The family does not read its body, so it is read as what nobody knows.
            return found._replace(operation=replace(operation, kind=UNKNOWN, reads_body=True))
        return found

    def _respelled(self, method: str, path: str) -> Route | None:
        """The family's route that a server may take this for: servers answer HEAD as GET, and some
        read over case and a last slash."""
        plain, method = path.rstrip("/"), "GET" if method == "HEAD" else method
        fitting = (one for one in self.folded if one.method == method and one.query is None)
        return next((one for one in fitting if one.path.fullmatch(plain)), None)

    def _own(self, method: str, path: str) -> Route | None:
        fitting = (one for one in self.own if one.method == method)
        return next((one for one in fitting if one.path.fullmatch(path)), None)


def opened(family: Family, allow: Iterable[Opening], unmetered: Iterable[Opening]) -> Family:
    """``family`` with these endpoints beside its own; itself if there are none."""
    allow, unmetered = tuple(allow), tuple(unmetered)
    if not allow and not unmetered:
        return family

    def read(request: Request, dialect: Dialect) -> Asked:
        if request.operation.kind == UNKNOWN:
            return generic.read(request, dialect)
        return family.read(request, dialect)

    def rewrite(body: bytes, asked: Asked) -> bytes:
        return body if asked.kind == UNKNOWN else family.rewrite(body, asked)

    def sent_headers(headers: Headers, asked: Asked) -> Headers:
        return headers if asked.kind == UNKNOWN else family.sent_headers(headers, asked)

    def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
        if asked.kind == UNKNOWN:
            return generic.estimate(asked, mode, limits, dialect)
        return family.estimate(asked, mode, limits, dialect)

    def meter(asked: Asked, head: AnswerHead) -> Meter:
        if asked.kind == UNKNOWN:
            return generic.meter(asked, head)
        return family.meter(asked, head)

    parts: dict[str, Any] = {field.name: getattr(family, field.name) for field in fields(Family)}
    parts |= {
        "read": read,
        "rewrite": rewrite,
        "sent_headers": sent_headers,
        "estimate": estimate,
        "meter": meter,
    }
    costs: tuple[tuple[Cost, tuple[Opening, ...]], ...] = (
        ("metered", allow),
        ("free", unmetered),
    )
    entries = [(cost, one) for cost, openings in costs for one in openings]
    # A path that is named in full goes before one with a star.
    entries.sort(key=lambda entry: "*" in entry[1].path)
    own = tuple(
        Route(one.method, one.pattern, Operation(UNKNOWN, cost, one.method in STARTS, creates=True))
        for cost, one in entries
    )
    folded = tuple(
        replace(route, path=re.compile(route.path.pattern, route.path.flags | re.IGNORECASE))
        for route in family.routes
    )
    return OpenedFamily(
        **parts, base=family, allow=allow, unmetered=unmetered, own=own, folded=folded
    )
