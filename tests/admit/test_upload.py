"""The body of an upload: what leaves of it and when, what is judged first, and whether it can be sent again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.families.samples.forms import FORM, form

from tollhouse.admit.bodies import KeptFor
from tollhouse.admit.upload import PIECE, Upload
from tollhouse.admit.upload_spool import SpooledFile, UploadSpool
from tollhouse.denial import Refused
from tollhouse.families.asked import Asked
from tollhouse.families.formats.multipart import Form, FormReader

WHOSE = KeptFor("token", "address", "acme")
BODY = form(("purpose", b"assistants"), ("file", os.urandom(3 * PIECE), "a.bin"))
ASKED = Asked(writes=False, reasons=False)


class Coming:
    """A client that sends ``body`` in pieces of ``size`` bytes."""

    def __init__(self, body: bytes = BODY, size: int = 100_000) -> None:
        self._pieces: Iterator[bytes] = (body[at : at + size] for at in range(0, len(body), size))
        self.taken = 0

    async def read_beside(self, most: int, idle_s: float) -> bytes:
        piece = next(self._pieces, b"")
        self.taken += len(piece)
        return piece


def upload(coming: Coming, file: SpooledFile | None = None, **more: Any) -> Upload:
    settings: dict[str, Any] = {
        "length": None,
        "largest": 1 << 20,
        "idle_s": 1.0,
        "form": None,
        "read": lambda found: ASKED,
    }
    return Upload(coming, file=file, **(settings | more))


async def sent(body: Upload, left: list[bytes] | None = None) -> bytes:
    """All of it; ``left`` gets each piece."""
    pieces: list[bytes] = [] if left is None else left
    async for piece in body.pieces():
        pieces.append(piece)
    return b"".join(pieces)


async def refused(body: Upload, left: list[bytes] | None = None) -> Refused:
    with pytest.raises(Refused) as refusal:
        await sent(body, left)
    return refusal.value


async def test_it_is_pulled() -> None:
    """No more is taken of the client than what is sent, and its end; pieces are no larger than one of the client's."""
    coming = Coming()
    pieces = upload(coming).pieces()
    first = await anext(pieces)
    assert len(first) == 100_000 - 1024
    assert coming.taken == 100_000
    assert first + b"".join([piece async for piece in pieces]) == BODY


async def test_what_is_judged_first() -> None:
    """The last bytes wait for the checks, which get what the family reads of the form. What one raises ends the upload."""
    forms: list[Form] = []
    asked: list[Asked] = []

    def read(found: Form) -> Asked:
        forms.append(found)
        return ASKED

    async def check(of: Asked) -> None:
        asked.append(of)

    body = upload(Coming(), form=FormReader(FORM), read=read)
    body.before_end(check)
    assert await sent(body) == BODY
    assert asked == [ASKED]
    assert [part.name for part in forms[0].parts] == ["purpose", "file"]

    async def deny(of: Asked) -> None:
        raise Refused("object_not_yours", "It is another tenant's.")

    body = upload(Coming(), form=FormReader(FORM))
    body.before_end(deny)
    left: list[bytes] = []
    assert (await refused(body, left)).denial.code == "object_not_yours"
    assert b"".join(left) == BODY[:-1024]


@pytest.mark.parametrize(
    ("body", "settings", "code"),
    [
        (BODY, {"largest": len(BODY) - 1}, "body_too_large"),
        (BODY, {"length": len(BODY) + 1}, "bad_request"),
        (BODY, {"length": len(BODY) - 1}, "bad_request"),
        (BODY[:-5], {"form": FormReader(FORM)}, "bad_request"),
        (b"no form", {"form": FormReader(FORM)}, "bad_request"),
    ],
    ids=["too large", "too short", "too long", "no end", "no form"],
)
async def test_a_body_that_is_refused(body: bytes, settings: dict[str, Any], code: str) -> None:
    assert (await refused(upload(Coming(body), **settings))).denial.code == code


async def test_without_a_file_it_is_sent_once() -> None:
    body = upload(Coming())
    assert body.repeatable
    assert await sent(body) == BODY
    assert not body.repeatable
    assert (await refused(body)).denial.code == "internal"


async def test_from_a_file_it_is_sent_again(tmp_path: Path) -> None:
    """Also where the first attempt ended in the middle. What costs money is on the disk as a whole before."""
    spool = UploadSpool(tmp_path, 1 << 20, largest_bytes=1 << 20, left_free=0)
    try:
        body = upload(Coming(), await spool.open(WHOSE))
        broken_off = body.pieces()
        await anext(broken_off)
        await broken_off.aclose()
        assert body.repeatable
        assert [await sent(body) for _ in range(2)] == [BODY, BODY]
        body.close()

        coming = Coming()
        body = upload(coming, await spool.open(WHOSE))
        await body.whole()
        assert coming.taken == len(BODY)
        assert await sent(body) == BODY
        body.close()
        body.close()
        assert spool.has_room(WHOSE, 1 << 20)
    finally:
        await spool.close()


async def test_a_disk_without_room(tmp_path: Path) -> None:
    """What is sent as it comes goes on without the disk; what has to be whole first is refused."""
    spool = UploadSpool(tmp_path, 300_000, largest_bytes=300_000, left_free=0)
    try:
        body = upload(Coming(), await spool.open(WHOSE))
        assert await sent(body) == BODY
        assert not body.repeatable
        body = upload(Coming(), await spool.open(WHOSE))
        with pytest.raises(Refused, match="upload_spool_full"):
            await body.whole()
        body.close()
    finally:
        await spool.close()


async def test_one_that_is_closed() -> None:
    body = upload(Coming())
    body.close()
    assert (await refused(body)).denial.code == "internal"
