"""What an operator opens beside a family's own endpoints: entries, paths, and what stays closed."""

from __future__ import annotations

import re

import pytest
from tests.families.tiny import FEATHERS, KEEPERS, NESTS, RACE, TALK, TINY

from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.opened import Opening, meets, opened, parse_opening
from tollhouse.families.operation import Matched, Operation, Route
from tollhouse.families.units import Estimate, Units

PAID = Operation("unknown", "metered", reads_body=True, creates=True)
LOOKED_AT = Operation("unknown", "metered", creates=True)
FREE = Operation("unknown", "free", creates=True)


def entries(*texts: str) -> tuple[Opening, ...]:
    return tuple(map(parse_opening, texts))


@pytest.mark.parametrize(
    ("text", "path", "fits"),
    [
        ("POST /v1/new", "/v1/new", True),
        ("POST /v1/new", "/v1/new/", False),
        ("POST /v1/new", "/v1/newer", False),
        ("POST /v1/new", "/v1/New", False),
        ("POST /v1/new/", "/v1/new", None),
        ("POST /v1/*/run", "/v1/a-b_c.d~1/run", True),
        ("POST /v1/*/run", "/v1/a/b/run", False),
        ("POST /v1/*/run", "/v1//run", False),
        ("POST /v1/*/run", "/v1/a%62/run", False),
        ("POST /v1/*/run", "/v1/a;b/run", False),
        ("POST /v1/*", "/v1/a:b", False),
        ("POST /v1/models/*:new", "/v1/models/gemini-9.9:new", True),
        ("POST /v1/models/*:new", "/v1/models/gemini-9.9:old", False),
        ("POST /v1/a.b", "/v1/aXb", False),
    ],
)
def test_which_paths_an_entry_names(text: str, path: str, fits: bool | None) -> None:
    """The whole path. A star is one segment, in one spelling, or what stands in it before a colon."""
    if fits is None:
        with pytest.raises(ValueError, match="empty or dot segment"):
            parse_opening(text)
        return
    assert parse_opening(text).names("POST", path) is fits
    assert not parse_opening(text).names("GET", path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must be a method, a space and a path"),
        ("POST", "must be a method, a space and a path"),
        ("POST ", "must be a method, a space and a path"),
        ("/v1/new", "must be a method, a space and a path"),
        ("POST  /v1/new", "must be a method, a space and a path"),
        ("POST /v1/new HTTP/1.1", "must be a method, a space and a path"),
        ("post /v1/new", "write POST"),
        ("CONNECT /v1/new", "must begin with one of the methods GET, HEAD, POST"),
        ("* /v1/new", "must begin with one of the methods"),
        ("POST v1/new", "does not begin with a slash"),
        ("POST https://api.openai.com/v1/new", "does not begin with a slash"),
        ("POST /v1/new?a=b", "has a query"),
        ("POST /v1//new", "empty or dot segment"),
        ("POST /v1/../new", "empty or dot segment"),
        ("POST /", "empty or dot segment"),
        ("POST /v1/ne*", "wildcard inside a segment"),
        ("POST /v1/**", "wildcard inside a segment"),
        ("POST /v1/{id}", "could be spelled in two ways"),
        ("POST /v1/a%62", "could be spelled in two ways"),
        ("POST /v1/a;b", "could be spelled in two ways"),
        ("POST /" + "a" * 512, "more than 512 characters"),
    ],
)
def test_what_is_no_entry(text: str, why: str) -> None:
    """Each mistake is said in full."""
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_opening(text)


def test_a_family_without_entries_is_itself() -> None:
    """Nothing of it changes."""
    assert opened(TINY, (), ()) is TINY


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        # What the family knows is what it is.
        ("POST", "/talk", TALK),
        ("GET", "/nests", NESTS),
        ("POST", "/feathers", FEATHERS),
        ("GET", "/keepers/ada", KEEPERS),
        # However it is spelled, where a server may take it for the same.
        ("POST", "/Feathers", FEATHERS),
        ("POST", "/feathers/", FEATHERS),
        ("POST", "/Talk", None),
        ("GET", "/Nests/nest-1", None),
        ("HEAD", "/nests/nest-1", None),
        ("GET", "/KEEPERS/ada", KEEPERS),
        ("HEAD", "/keepers/ada", KEEPERS),
        ("POST", "/RACES", None),
        # A job whose body the family does not read.
        ("POST", "/races", Operation("unknown", "job", reads_body=True, objects="makes")),
        # What is opened.
        ("POST", "/new", PAID),
        ("PUT", "/new/x", PAID),
        ("DELETE", "/new/x", LOOKED_AT),
        ("GET", "/list/all", FREE),
        ("HEAD", "/list/all", FREE),
        # What is not.
        ("PATCH", "/new", None),
        ("POST", "/new/x", None),
        ("GET", "/list", None),
    ],
)
def test_what_an_opened_family_knows(method: str, path: str, operation: Operation | None) -> None:
    """The family comes first."""
    family = opened(
        TINY,
        entries("POST /*", "PUT /new/*", "DELETE /new/*"),
        entries("GET /*/*", "HEAD /*/*"),
    )
    assert family.operation(method, path) == operation
    assert TINY.operation("POST", "/races") == RACE


def test_ids_of_the_family_are_found_all_the_same() -> None:
    """In the path, by the family's own route."""
    family = opened(TINY, entries("POST /new"), ())
    found = family.match("GET", "/nests/nest-7")
    assert found == Matched(Operation("nest", "free"), ("nest-7",))


def test_its_parts_are_those_of_the_kind() -> None:
    """The family's for its own operations, and the generic ones for what it does not know."""
    family = opened(TINY, entries("POST /new"), ())
    dialect, limits = Dialect(), Limits(10, 10)
    mine = family.read(Request(TALK, "/talk", (), b'{"m":"a","most":3}'), dialect)
    assert (mine.model, mine.cap, mine.kind) == ("a", 3, "")
    assert family.estimate(mine, "typical", limits, dialect).units.output == 3
    body = b'{"model":"b","stream":true}'
    other = family.read(Request(PAID, "/new", (), body), dialect)
    assert other == Asked(
        "b", stream=True, writes=False, reasons=False, kind="unknown", detail=False
    )
    assert family.estimate(other, "worst", limits, dialect) == Estimate(Units(requests=1))
    assert family.rewrite(body, other) is body
    plain = (("content-type", "text/plain"),)
    assert family.sent_headers(plain, other) is plain
    assert (family.name, family.error_body) == ("tiny", TINY.error_body)


@pytest.mark.parametrize(
    ("text", "pattern", "fits"),
    [
        ("POST /v1/batches", "/v1/batches", True),
        ("POST /V1/Batches", "/v1/batches", True),
        ("POST /v1/*", "/v1/batches", True),
        ("POST /*/*", "/v1/batches", True),
        ("POST /v1/*/*", "/v1/batches", False),
        ("POST /v1/*", "/v1/(?P<object>[a-z]+)", True),
        ("POST /v1/*/cancel", "/v1/(?:batches|jobs)/cancel", True),
        ("POST /v1/*:run", "/v1/models:run", True),
        ("GET /v1/batches", "/v1/batches", False),
    ],
)
def test_whether_an_entry_meets_a_route(text: str, pattern: str, fits: bool) -> None:
    """A star is tried with the words of the route's pattern."""
    assert meets(parse_opening(text), Route("POST", re.compile(pattern), RACE)) is fits


def test_a_path_in_full_goes_before_a_star() -> None:
    """In either list; of two with stars the one that costs money."""
    family = opened(TINY, entries("GET /a/*", "GET /b/c"), entries("GET /a/b", "GET /*/*"))
    for path, operation in (
        ("/a/b", FREE),
        ("/a/c", LOOKED_AT),
        ("/b/c", LOOKED_AT),
        ("/b/d", FREE),
    ):
        assert family.operation("GET", path) == operation
