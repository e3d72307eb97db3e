"""Forms: what is read, and what two parsers could read in two ways."""

from __future__ import annotations

import pytest
from tests.families.samples.forms import BOUNDARY, FORM, form

from tollhouse.denial import Refused
from tollhouse.families.formats import multipart
from tollhouse.families.formats.multipart import MAX_PARTS, MAX_TEXT, Form, FormReader

KNOWN = frozenset({"model", "prompt", "image", "file"})
LISTS = frozenset({"image"})
GOOD = form(("model", b"m"), ("file", b"\x00\r\n\xff", "a.bin"))


def read(body: bytes, content_type: str = FORM[0][1]) -> Form:
    return multipart.form(body, (("content-type", content_type),), KNOWN, LISTS)


def part(head: str, value: str = "v") -> bytes:
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n{value}\r\n--{BOUNDARY}--\r\n".encode()


def test_a_form_is_read() -> None:
    """Texts by their fields, files by where they stand."""
    found = read(GOOD)
    model, file = found.parts
    assert (model.name, found.text(model), model.filename) == ("model", "m", None)
    assert (file.name, file.filename, file.end - file.start) == ("file", "a.bin", 4)
    assert found.head(file, 3) == b"\x00\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 13, 64])
@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        GOOD[:-2],
        GOOD[:-4],
        GOOD[:-12],
        GOOD + b"\r",
        GOOD + b"x",
        b"x" + GOOD,
        b"",
        form(("model", b""), ("file", b"\r\n--b0undar\r\n--", "a")),
        form(("model", f"x\r\n--{BOUNDARY}y".encode())),
        form(("model", f"x--{BOUNDARY}".encode())),
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=a\r\n\r\n--{BOUNDARY}--".encode(),
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=a\r\n--{BOUNDARY}--".encode(),
        part("Content-Disposition: form-data; name=a\r\nContent-Length: 1"),
        part("Content-Disposition: form-data; name=a\r\nContent-Length: 2"),
        part("X: " + "y" * 5_000),
    ],
)
def test_a_body_that_comes_in_pieces(body: bytes, size: int) -> None:
    """What is read of it, or why it is refused, does not depend on the pieces."""

    def read_whole(step: int) -> object:
        reader = FormReader(FORM)
        try:
            for at in range(0, len(body), step):
                reader.feed(body[at : at + step])
            found = reader.finish()
        except Refused as refused:
            return refused.denial
        return [(one, found.head(one, 100)) for one in found.parts]

    assert read_whole(size) == read_whole(len(body) or 1)


def test_what_is_kept_of_a_body_is_bounded() -> None:
    """Of files their beginnings, of texts as much as a text may have, and so much of all."""
    found = FormReader(FORM)
    found.feed(form(("file", b"x" * 100_000, "a"), ("model", b"y" * MAX_TEXT)))
    file, model = found.finish().parts
    assert (len(found.finish().head(file, 100_000)), file.end - file.start) == (4_096, 100_000)
    assert found.finish().text(model) == "y" * MAX_TEXT
    many = FormReader(FORM)
    with pytest.raises(Refused):
        many.feed(form(*[(f"a{number}", b"x" * MAX_TEXT) for number in range(5)]))


@pytest.mark.parametrize("before", [0, 1, 5, 9, 10, 11, 12])
def test_a_boundary_where_a_step_ends(before: int) -> None:
    """A long file is looked through in steps of a mebibyte."""
    file = b"x" * ((1 << 20) - before)
    body = form(("file", file, "a"), ("model", b"m"), ("file", b"y" * (3 << 20), "b"))
    first, model, last = multipart.form(body, FORM, frozenset(), frozenset()).parts
    assert (first.end - first.start, last.end - last.start) == (len(file), 3 << 20)
    assert body[model.start : model.end] == b"m"


@pytest.mark.parametrize(
    "content_type",
    [
        f'multipart/form-data; boundary="{BOUNDARY}"',
        f"Multipart/Form-Data;boundary={BOUNDARY}",
        f"  multipart/form-data ; boundary={BOUNDARY} ",
    ],
)
def test_ways_to_say_the_boundary(content_type: str) -> None:
    """In quotes, in any case, with and without blanks."""
    assert len(read(GOOD, content_type).parts) == 2


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        f"multipart/form-data; boundary={'b' * 71}",
        f"multipart/form-data; boundary={BOUNDARY}; boundary=other",
        f"multipart/form-data; boundary={BOUNDARY}; charset=utf-16",
        f"multipart/form-data; boundary*=utf-8''{BOUNDARY}",
        f"multipart/mixed; boundary={BOUNDARY}",
        f'multipart/form-data; boundary="{BOUNDARY}\\x"',
        "multipart/form-data; boundary=b\N{ZERO WIDTH SPACE}c",
        *(f"multipart/form-data; boundary=a{one}b" for one in ":/?=()"),
    ],
)
def test_a_boundary_that_is_not_one(content_type: str) -> None:
    with pytest.raises(Refused) as refused:
        read(GOOD, content_type)
    assert refused.value.denial.code == "bad_request"


def test_two_content_types() -> None:
    """Nobody knows which of them counts."""
    with pytest.raises(Refused):
        multipart.form(GOOD, (*FORM, *FORM), KNOWN, LISTS)


NAMED = 'Content-Disposition: form-data; name="model"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"preamble\r\n" + GOOD,
        GOOD + b"epilogue",
        GOOD[:-4],
        GOOD[:-10],
        GOOD.replace(b"\r\n", b"\n"),
        f"--{BOUNDARY}--\r\n".encode(),
        form(("model", b"m"), ("model", b"n")),
        form(("Model", b"m")),
        form(("model[]", b"m")),
        form(("model[0]", b"m")),
        form(("", b"m")),
        form(("mo\u00f6del", b"m")),
        form(("mo%64el", b"m")),
        form(("model", f"x--{BOUNDARY}y".encode())),
        form(("model", f"x\n--{BOUNDARY}\ny".encode())),
        form(("model", f"x\r\n--{BOUNDARY}y".encode())),
        form(("model", f"x\r\n--{BOUNDARY} \r\ny".encode())),
        part("Content-Disposition: form-data"),
        part("Content-Disposition: attachment; name=model"),
        part("X-Other: 1"),
        part(f"{NAMED}\r\n{NAMED}"),
        part(f"{NAMED}; name=prompt"),
        part(f"{NAMED}; name*=utf-8''prompt"),
        part(f"{NAMED}; size=3"),
        part('Content-Disposition: form-data; name="mo\\"del"'),
        part('Content-Disposition: form-data; name="file"; filename="a\\"; name=\\"model"'),
        part('Content-Disposition: form-data;\r\n name="model"'),
        part(f"{NAMED}\r\nContent-Type: multipart/mixed; boundary=x"),
        part(f"{NAMED}\r\nContent-Type: message/rfc822"),
        part(f"{NAMED}\r\nContent-Transfer-Encoding: base64"),
        part(f"{NAMED}\r\nContent-Length: 2"),
        part(f"{NAMED}\r\nX-Other: 1"),
        part(f"{NAMED}\r\nX: {'y' * 5_000}"),
        part(f"{NAMED} \x00"),
        form(*((f"f{number}", b"") for number in range(MAX_PARTS + 1))),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(body: bytes) -> None:
    """With 400 and a sentence."""
    with pytest.raises(Refused) as refused:
        read(body)
    assert refused.value.denial.code == "bad_request"
    assert refused.value.denial.why


@pytest.mark.parametrize(
    "head",
    [
        "Content-Disposition: form-data; name=model",
        'content-disposition:form-data;name="model"',
        f"{NAMED}\r\nContent-Type: text/plain; charset=utf-8",
        f"{NAMED}\r\nContent-Transfer-Encoding: 8bit",
        f"{NAMED}\r\nContent-Length: 1",
    ],
)
def test_what_clients_write(head: str) -> None:
    """Each of them is the same field."""
    found = read(part(head))
    assert [(one.name, found.text(one)) for one in found.parts] == [("model", "v")]


def test_lists_may_come_several_times() -> None:
    """With and without brackets; a field that nobody knows as well."""
    body = form(("image", b"1"), ("image[]", b"2"), ("image[]", b"3"), ("x", b"4"), ("x", b"5"))
    assert [one.base for one in read(body).parts] == ["image", "image", "image", "x", "x"]


@pytest.mark.parametrize(
    "field",
    [
        ("model", b"m", "model.txt"),
        ("model", b"\xff"),
        ("model", b"m" * (MAX_TEXT + 1)),
    ],
)
def test_a_text_that_is_none(field: tuple[str, bytes]) -> None:
    """A file, other bytes than UTF-8, more than a field can have."""
    found = read(form(field))
    with pytest.raises(Refused):
        found.text(found.parts[0])


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "text/plain; charset=utf-16",
        "text/plain; charset=utf-7",
        "text/plain; charset=utf-8; charset=ibm037",
        "text/html; charset=utf-8",
    ],
)
def test_a_text_of_another_type(kind: str) -> None:
    """A parser that believes the type reads another value."""
    found = read(part(f"{NAMED}\r\nContent-Type: {kind}", '"m"'))
    with pytest.raises(Refused):
        found.text(found.parts[0])
