"""The body of an answer that came coded, though `identity` was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tollhouse.codings import BadCoding, Decoder
from tollhouse.dispatch.answer import AnswerCut

NOT_OF_PLAIN: Final = frozenset(
    {"content-encoding", "content-length", "content-md5", "content-digest", "repr-digest", "digest"}
)
"""Headers of an answer that tell of its coded body (RFC 9110 8.4 and 8.6, RFC 9530)."""


class Inflating:
    """Reads the plain body. A piece that came gives one or more pieces of bounded size, and nothing
    is held back that is complete. Raises AnswerCut."""

    __slots__ = ("_decoder", "_read", "_where")

    def __init__(self, read: Callable[[], Awaitable[bytes]], coding: str, where: str) -> None:
        self._read = read
        self._decoder = Decoder(coding)
        self._where = where

    async def read(self) -> bytes:
        decoder = self._decoder
        try:
            while not (out := decoder.take()):
                coded = await self._read()
                if not coded:
                    if not decoder.complete:
                        raise BadCoding("it ends too early")
                    return b""
                decoder.give(coded)
            return out
        except BadCoding as error:
            why = f"{self._where}: Its body is compressed and cannot be read: {error}."
            raise AnswerCut("upstream_bad_answer", why) from None
