"""What is tried of the readers that know no API: framings, documents, forms, codings and prices."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import brotli
import zstandard
from tests.families.samples.forms import FORM
from tests.support.price_file import price_file

from fuzz.families import judge_units, pieces, sizes, try_boundary
from tollhouse.codings import KNOWN, PIECE, BadCoding, Decoder, TooLong, inflated
from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats import generic
from tollhouse.families.formats.aws_event_stream import (
    BrokenFrame,
    FrameBoundary,
    FrameSplitter,
    exception_frame,
    frame,
)
from tollhouse.families.formats.document import parsed
from tollhouse.families.formats.json_array import ArrayBoundary, Elements
from tollhouse.families.formats.jsonscan import member_from_end, members, places, removal
from tollhouse.families.formats.multipart import FormReader, Part, form
from tollhouse.families.formats.sse import EventData, EventSplitter, SseBoundary
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.formats.watched import LineBoundary, LineSplitter
from tollhouse.families.meters import AnswerHead
from tollhouse.families.operation import Operation
from tollhouse.prices import kept

WANTED: Final = ("usage", "model", "id", "error")
_NOW: Final = 1_796_000_000.0
_LIMIT: Final = 1 << 20


def sse(data: bytes) -> None:
    """The pieces are the stream, and each byte of an event's text has its place."""
    cuts = []
    for size in sizes(data):
        splitter, boundary, found = EventSplitter(), SseBoundary(), []
        for piece in pieces(data, size):
            found += splitter.feed(piece)
            try_boundary(boundary, piece)
        assert b"".join(raw for raw, _ in found) + splitter.rest() == data
        # The LF of a CRLF may come as a piece of its own.
        texts = [EventData(raw).text for raw, whole in found if whole]
        cuts.append([text for text in texts if text is not None])
    assert all(one == cuts[0] for one in cuts) or len(data) > _LIMIT
    for raw, _ in found:
        text = EventData(raw)
        if text.text:
            start, end = text.raw_span(0, len(text.text))
            assert 0 <= start < end <= len(raw)


def ndjson(data: bytes) -> None:
    """Each line is whole, however it comes."""
    for size in sizes(data):
        splitter, boundary, found = LineSplitter(), LineBoundary(), []
        for piece in pieces(data, size):
            found += splitter.feed(piece)
            try_boundary(boundary, piece)
        lines = [*(raw for raw, _ in found), splitter.rest()]
        assert len(found) == data.count(b"\n")
        assert len(data) > _LIMIT or b"\n".join(lines) == data


def json_array(data: bytes) -> None:
    """The elements of an array are those that a parser finds."""
    for size in sizes(data):
        elements, boundary, found = Elements(lambda: Topmost(WANTED)), ArrayBoundary(), []
        for piece in pieces(data, size):
            found += elements.feed(piece)
            try_boundary(boundary, piece)
        elements.rest()
        with contextlib.suppress(ValueError, RecursionError):
            whole = json.loads(data)
            if isinstance(whole, list) and whole and all(type(one) is dict for one in whole):
                read = [json.loads(one) if isinstance(one, bytes) else one for one in found]
                # One that nests deeper than 200 levels is not read on.
                deep = data.count(b"[") + data.count(b"{") > 200
                assert len(data) > _LIMIT or read == whole or deep


def aws_event_stream(data: bytes) -> None:
    """Frames, or bytes that are none."""
    found = []
    for size in sizes(data):
        splitter, boundary = FrameSplitter(), FrameBoundary()
        frames = []
        with contextlib.suppress(BrokenFrame):
            for piece in pieces(data, size):
                try_boundary(boundary, piece)
                frames += splitter.feed(piece)
        found.append(frames)
    assert all(one == found[0] for one in found), "the frames depend on the pieces"


def jsonscan(data: bytes) -> None:
    """The members that are found in a document are those that a parser finds."""
    text = data.decode("latin-1")
    found = []
    with contextlib.suppress(ValueError, RecursionError):
        for one in members(text):
            found.append(one)
            assert 0 <= one.key_at < one.value_at <= one.value_end <= len(text)
        for index in range(len(found)):
            start, end = removal(found, index)
            assert 0 <= start < end <= len(text)
    member_from_end(data, b"usage")
    tree = _tree(data)
    if tree is None:
        return
    assert {one.key: one.value for one in found} == json.loads(text)
    read = [(one.key, data[one.value_at : one.value_end]) for one in places(data)]
    assert {key: json.loads(value) for key, value in read} == tree


def topmost(data: bytes) -> None:
    """The members that are wanted, of a document that is whole."""
    for size in sizes(data):
        reader = Topmost(WANTED)
        for piece in pieces(data, size):
            reader.feed(piece)
        assert reader.found.keys() <= set(WANTED)
        tree = _tree(data)
        if tree is not None and len(data) < 60_000 and b'\\"' not in data:
            assert reader.whole
            read = {key: tree[key] for key in WANTED if key in tree}
            assert b"\\u" in data or reader.found == read, f"{reader.found} is not {read}"


def document(data: bytes) -> None:
    """A body is refused, or read as a parser reads it."""
    try:
        body = parsed(data)
    except Refused as refused:
        assert refused.denial.why
        return
    tree = json.loads(data)
    assert isinstance(tree, dict)
    assert body.long or body.tree == tree


def _tree(data: bytes) -> dict[str, Any] | None:
    """What `document` reads of it, without long strings."""
    try:
        body = parsed(data)
    except Refused:
        return None
    return None if body.long else body.tree


_FIELDS: Final = ("model", "prompt", "file", "image", "n", "stream")


def _form_in_pieces(data: bytes, size: int) -> tuple[Part, ...] | None:
    reader = FormReader(FORM)
    try:
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
        return reader.finish().parts
    except Refused:
        return None


def multipart(data: bytes) -> None:
    """A form is refused, or its parts stand in it: the same, whatever the pieces are in which it comes."""
    found_at = {size: _form_in_pieces(data, size) for size in (1, 7, max(1, len(data)))}
    assert len(set(found_at.values())) == 1, found_at
    try:
        found = form(data, FORM, _FIELDS, ("image",))
        for part in found.parts:
            assert 0 <= part.start <= part.end <= len(data)
            with contextlib.suppress(Refused):
                found.text(part)
            found.head(part, 64)
    except Refused as refused:
        assert refused.denial.why


def codings(data: bytes) -> None:
    """The first byte says which coding. What comes out comes in bounded pieces."""
    coding = sorted(KNOWN)[data[0] % len(KNOWN)] if data else "gzip"
    decoder, size = Decoder(coding), 0
    with contextlib.suppress(BadCoding):
        for piece in pieces(data[1:], 4_096):
            decoder.give(piece)
            while (out := decoder.take()) and size < 64 << 20:
                size += len(out)
                assert len(out) <= PIECE + (2 << 20) + (128 << 10), len(out)
    with contextlib.suppress(BadCoding, TooLong):
        assert len(inflated(data[1:], coding, _LIMIT)) <= _LIMIT


def coded() -> tuple[bytes, ...]:
    """A text in each coding, behind the byte that says which it is."""
    made: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "x-gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": brotli.compress,
        "zstd": zstandard.compress,
    }
    texts = (b"", b'{"usage":{"prompt_tokens":9}}', b"a" * 300_000)
    known = sorted(KNOWN)
    return tuple(
        bytes((known.index(coding),)) + pack(text)
        for coding, pack in made.items()
        for text in texts
    )


def frames() -> tuple[bytes, ...]:
    """Streams of AWS."""
    kind = ((":event-type", "metadata"), (":message-type", "event"))
    one = frame(kind, b'{"usage":{"inputTokens":9,"outputTokens":4}}')
    return one, one * 3, one + exception_frame("throttlingException", b'{"message":"wait"}'), b""


_GENERIC: Final = Operation("unknown", "metered", reads_body=True)


def generic_read(data: bytes) -> None:
    """The request of an opened endpoint."""
    with contextlib.suppress(Refused):
        generic.read(Request(_GENERIC, "/v1/new", (), data), Dialect())


def generic_usage(data: bytes) -> None:
    """A usage object of any of the large APIs."""
    with contextlib.suppress(ValueError, RecursionError):
        counts = json.loads(data)
        if isinstance(counts, dict) and (units := generic.units_of(counts)) is not None:
            judge_units(units)


def generic_meter(data: bytes) -> None:
    """The answer of an opened endpoint."""
    for stream in (False, True):
        for size in sizes(data):
            meter = generic.meter(Asked(stream=stream, detail=True), AnswerHead(200, ()))
            out = b"".join(meter.feed(piece) for piece in pieces(data, size)) + meter.flush()
            assert out == data
            for charge in meter.finish():
                judge_units(charge.units)
                assert isinstance(charge.tier, str)


@cache
def _installed() -> kept.Snapshot:
    # A file of half as many models, and older prices, could take its place.
    first = kept.installed(_NOW)
    return first._replace(providers={}, newest=first.newest.replace(year=2000))


def price_data(data: bytes) -> None:
    """A file of prices is taken, or refused with a reason."""
    try:
        made = kept.judged(data, _installed(), _NOW)
    except kept.PriceFileError as error:
        assert str(error)
        return
    assert made.models >= 0


def price_files() -> tuple[bytes, ...]:
    """A file of one provider of each form that the data has."""
    models = json.loads(price_file(2.5))
    return tuple(
        json.dumps([{**one, "models": one["models"][:2]} for one in models[:count]]).encode()
        for count in (1, len(models))
    )
