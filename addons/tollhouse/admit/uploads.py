"""Which requests are uploads, and how each of them begins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from tollhouse.admit.bodies import KeptBody, KeptFor
from tollhouse.admit.upload import MEMORY, Coming, Upload
from tollhouse.admit.upload_spool import SpooledFile, UploadSpool, no_room
from tollhouse.call import Admitted, RequestHead
from tollhouse.denial import Refused
from tollhouse.families.asked import Asked
from tollhouse.families.formats.multipart import Form, FormReader, is_multipart

SMALL: Final = 1 << 20
"""A body of so many bytes is kept in memory, as all others are."""


class UploadSource(Coming, Protocol):
    """What is needed of an exchange."""

    @property
    def body_complete(self) -> bool: ...
    def interruptible(self) -> AbstractAsyncContextManager[None]: ...
    async def read(self, most: int, idle_s: float) -> bytes: ...
    def put_back(self, data: bytes) -> None: ...
    def at_end(self, release: Callable[[], object]) -> None: ...


class Uploads:
    """``spool`` None: nothing is written to the disk. Then an upload that costs nothing is sent once,
    as it comes. One that costs money is kept in memory as other bodies are, because nothing leaves
    before it is held for, and only the end of a form says that no field follows on which its cost
    depends."""

    def __init__(
        self, *, largest: int, max_body_bytes: int, idle_s: float, spool: UploadSpool | None
    ) -> None:
        self._largest = largest
        self._in_memory = max_body_bytes
        self._idle_s = idle_s
        self._spool = spool

    async def takes(self, admitted: Admitted, exchange: UploadSource, kept: KeptBody) -> bool:
        """Whether the body of this call is an upload. One of unknown length is looked at until it is larger
        than a small one; ``kept`` counts that. Raises `Refused`, and what ``interruptible`` raises."""
        operation, head = admitted.operation, admitted.arrival.head
        if not operation.upload or admitted.body is not None or _coded(head):
            return False
        if operation.upload == "form" and not is_multipart(head.headers):
            return False
        if self._spool is None and operation.cost != "free":
            return False
        length = length_of(admitted, self._largest, "max_upload_bytes")
        small = min(SMALL, self._in_memory)
        if length is not None or exchange.body_complete:
            return length is not None and length > small
        exchange.at_end(kept.release)
        parts: list[bytes] = []
        size = 0
        async with exchange.interruptible():
            while size <= small and (part := await exchange.read(small, self._idle_s)):
                kept.extend(len(part))
                parts.append(part)
                size += len(part)
        kept.release()
        exchange.put_back(b"".join(parts))
        return size > small

    def why_in_memory(self, admitted: Admitted) -> str:
        """Of an upload whose body is kept in memory: what a larger one needs."""
        head = admitted.arrival.head
        if _coded(head):
            return "a larger upload has to come without a Content-Encoding"
        if admitted.operation.upload == "form" and not is_multipart(head.headers):
            return "a larger one has to be multipart/form-data"
        if self._spool is None:
            return "a larger form needs a disk: upload_spool_mb"
        return "an addon of the gateway's reads bodies, which are kept in memory"

    async def begin(
        self,
        admitted: Admitted,
        exchange: UploadSource,
        memory: KeptBody,
        read: Callable[[Form], Asked],
    ) -> Upload:
        """The upload, which the end of ``exchange`` closes. ``memory`` is counted for it. ``read`` reads
        its form. Raises `Refused`."""
        exchange.at_end(memory.release)
        memory.extend(min(MEMORY, self._in_memory))
        head = admitted.arrival.head
        length = length_of(admitted, self._largest, "max_upload_bytes")
        form = FormReader(head.headers) if admitted.operation.upload == "form" else None
        upload = Upload(
            exchange,
            length=length,
            largest=self._largest,
            idle_s=self._idle_s,
            form=form,
            file=await self._file(admitted, SMALL if length is None else length),
            read=read,
        )
        exchange.at_end(upload.close)
        return upload

    async def _file(self, admitted: Admitted, size: int) -> SpooledFile | None:
        """``size`` is the least that it may have: what is taken of the disk is what comes."""
        spool = self._spool
        if spool is None:
            return None
        whose = KeptFor.of(admitted)
        free = admitted.operation.cost == "free"
        if not spool.has_room(whose, size):
            if free:
                return None
            raise no_room(f"It has {size} bytes or more, and other uploads have taken the room.")
        try:
            return await spool.open(whose)
        except Refused:
            if free:
                return None
            raise


def _coded(head: RequestHead) -> bool:
    return (head.get("content-encoding") or "").strip().lower() not in ("", "identity")


def length_of(admitted: Admitted, largest: int, key: str) -> int | None:
    """The length that the request says. Raises `Refused` for one that is no number, or more than
    ``largest``, which stands in the configuration as ``key``."""
    length = admitted.arrival.head.get("content-length")
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()):
        raise Refused("bad_request", "Content-Length is not a number.")
    # By its digits first: Python reads no number of more than 4300 of them.
    if len(length.lstrip("0")) > 18 or int(length) > largest:
        why = f"It says {length[:20]} bytes, the limit is {largest} ([limits] {key})."
        raise Refused("body_too_large", why)
    return int(length)
