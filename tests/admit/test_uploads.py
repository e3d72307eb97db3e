"""Which bodies are uploads, and what a larger one would need."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.families.samples.forms import FORM
from tests.support.calls import CHAT, admitted, head
from tests.support.values import replace
from tests.support.wire import an_exchange

from tollhouse.admit.bodies import BodyBytes, KeptFor
from tollhouse.admit.upload_spool import UploadSpool
from tollhouse.admit.uploads import SMALL, Uploads
from tollhouse.call import Admitted
from tollhouse.denial import Refused

FILES, HEARD = "/v1/files", "/v1/audio/transcriptions"
LARGE, FEW = SMALL + 1, 1000
WHOSE = KeptFor("token", "address", "acme")
JSON = (("content-type", "application/json"),)
GZIP = (*FORM, ("content-encoding", "gzip"))
IDENTITY = (*FORM, ("content-encoding", "identity"))


def a_call(path: str, headers: tuple[tuple[str, str], ...], length: int | None) -> Admitted:
    sized = () if length is None else (("content-length", str(length)),)
    given = head("POST", path, *headers, *sized)
    call = admitted(path, headers=headers)
    return replace(call, arrival=replace(call.arrival, head=given))


def uploads(spool: UploadSpool | None) -> Uploads:
    return Uploads(largest=10 * SMALL, max_body_bytes=4 * SMALL, idle_s=1, spool=spool)


@pytest.mark.parametrize(
    ("path", "headers", "length", "came", "disk", "taken", "why"),
    [
        (FILES, FORM, LARGE, None, True, True, ""),
        (FILES, FORM, LARGE, None, False, True, ""),
        (FILES, IDENTITY, LARGE, None, True, True, ""),
        (FILES, FORM, SMALL, None, True, False, ""),
        (FILES, FORM, None, LARGE, True, True, ""),
        (FILES, FORM, None, FEW, True, False, ""),
        (FILES, GZIP, LARGE, None, True, False, "without a Content-Encoding"),
        (FILES, JSON, LARGE, None, True, False, "multipart/form-data"),
        (HEARD, FORM, LARGE, None, True, True, ""),
        (HEARD, FORM, LARGE, None, False, False, "upload_spool_mb"),
        (CHAT, JSON, LARGE, None, True, False, ""),
    ],
)
async def test_what_is_an_upload(
    tmp_path: Path,
    path: str,
    headers: tuple[tuple[str, str], ...],
    length: int | None,
    came: int | None,
    disk: bool,
    taken: bool,
    why: str,
) -> None:
    """By its operation, type, coding, and its length: what it says, or what has come. What was looked at is put back, and
    counts for nobody."""
    spool = UploadSpool(tmp_path, SMALL, largest_bytes=SMALL) if disk else None
    call = a_call(path, headers, length)
    exchange, _ = an_exchange(call.arrival.head, None)
    if came is not None:
        exchange.feed(b"x" * came)
        if not taken:
            exchange.feed_end()
    bodies = BodyBytes()
    found = uploads(spool)
    assert await found.takes(call, exchange, bodies.reserve(WHOSE)) is taken
    assert exchange.buffered == (came or 0)
    assert bodies.kept_bytes == 0
    if why:
        assert why in found.why_in_memory(call)
    if spool is not None:
        await spool.close()


async def test_a_length_that_is_too_much() -> None:
    call = a_call(FILES, FORM, 10 * SMALL + 1)
    exchange, _ = an_exchange(call.arrival.head, None)
    with pytest.raises(Refused) as refused:
        await uploads(None).takes(call, exchange, BodyBytes().reserve(WHOSE))
    assert refused.value.denial.code == "body_too_large"
    assert "max_upload_bytes" in refused.value.denial.why
