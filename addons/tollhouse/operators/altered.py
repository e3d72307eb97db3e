"""An answer on its way to the client as the addons have left it. Meter and redaction stand before it: what is counted is
what the provider sent, and no addon sees our key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from mitmproxy import http

from tollhouse.admit.bodies import KeptBody
from tollhouse.denial import Refused
from tollhouse.dispatch.answering import Answering, Piece
from tollhouse.operators.flows import (
    BODILESS,
    new_response,
    refuse_odd_charset,
    sent_body,
    sent_head,
)
from tollhouse.operators.hooks_run import Addons, refuse_killed

_REST_S: Final = 0.2
"""How long the end of an answer is waited for that is whole already, so that its connection can be used again."""
_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Altered:
    """It is an asynchronous iterator of `Piece`, and has what `Journey` asks of an `Answering`."""

    def __init__(
        self,
        addons: Addons,
        flow: http.HTTPFlow,
        answer: Answering,
        limit: int,
        kept: KeptBody,
        is_head: bool,
    ) -> None:
        self._addons = addons
        self._flow = flow
        self._answer = answer
        self._limit = limit
        self._kept = kept
        self._is_head = is_head
        self._transform: Callable[[bytes], Any] | None = None
        self._body: bytes | None = None
        """The body, if the addons were given all of it."""
        self._told = False
        """The hook response was called."""
        self._over = False
        self._tail = b""
        self._headers: list[tuple[str, str]] = []
        self.status = answer.status
        self.bodiless = answer.bodiless

    async def begin(self) -> None:
        """Up to the answer's head, and to its end where a hook wants the body. Raises `Refused`."""
        flow, answer = self._flow, self._answer
        flow.response = new_response(answer.status, answer.headers)
        refuse_odd_charset(flow.response, "answer")
        await self._addons.ask("responseheaders", flow)
        stream = flow.response.stream if flow.response is not None else False
        if answer.bodiless:
            await self._whole(b"")
        elif stream or not self._addons.have("response"):
            self._transform = stream if callable(stream) else None
            self.status, self._headers = sent_head(flow)
            self.bodiless = self.status in BODILESS
        else:
            await self._whole(await self._read())

    async def _read(self) -> bytes:
        parts, size, whole = [], 0, False
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as scope:
                try:
                    async for piece in self._answer:
                        if not whole:
                            size += len(piece.data)
                            if size > self._limit:
                                raise Refused("addon_failed", _too_long(self._limit), gate="addons")
                            self._keep(len(piece.data))
                            parts.append(piece.data)
                        if piece.whole and not whole:
                            whole = True
                            scope.reschedule(asyncio.get_running_loop().time() + _REST_S)
                except Refused:
                    if not whole:
                        raise
        if not whole:
            raise Refused("internal", "The answer has no end.")
        return b"".join(parts)

    def _keep(self, count: int) -> None:
        try:
            self._kept.extend(count)
        except Refused as refusal:
            why = f"The answer is kept for an addon with a hook response, and there is no room: {refusal.denial.why}"
            raise Refused("addon_failed", why, gate="addons") from None

    async def _whole(self, body: bytes) -> None:
        assert self._flow.response is not None
        self._flow.response.raw_content = body
        await self._respond()
        self.status, self._headers = sent_head(self._flow)
        self._body = sent_body(self._flow)
        nothing = self._is_head or self.status in BODILESS
        self.bodiless = nothing or not self._body
        if self._is_head and self._answer.sized:
            self._headers += [pair for pair in self._answer.headers if pair[0] == "content-length"]
        elif not nothing:
            self._headers.append(("content-length", str(len(self._body))))

    async def _respond(self) -> None:
        self._told = True
        if self._flow.response is not None:
            await self._addons.ask("response", self._flow)

    @property
    def responded(self) -> bool:
        """The addons have had the whole answer, or the end of it."""
        return self._told

    @property
    def sized(self) -> bool:
        return self._body is not None or (self._transform is None and self._answer.sized)

    @property
    def headers(self) -> list[tuple[str, str]]:
        if self._body is not None or self._transform is not None:
            return self._headers
        length = [pair for pair in self._answer.headers if pair[0] == "content-length"]
        return [*self._headers, *(() if self.status in BODILESS else length)]

    @property
    def created(self) -> tuple[str, ...]:
        return self._answer.created

    @property
    def can_be_told(self) -> bool:
        """Of a stream that a callable has changed it is known for events alone whether one has ended."""
        if self._transform is None:
            return self._answer.can_be_told
        return self._answer.can_be_told and (not self._tail or self._tail.endswith(_EVENT_ENDS))

    def __aiter__(self) -> Altered:
        return self

    async def __anext__(self) -> Piece:
        if self._body is not None:
            if self._over:
                raise StopAsyncIteration
            self._over = True
            return Piece(self._body, True, True)
        piece = await self._answer.__anext__()
        if self._transform is None:
            data = piece.data
        elif self._told:
            # Behind the end that the answer has said; the callable has had its last call.
            return Piece(b"", True, piece.last)
        else:
            data = self._changed(self._transform, piece.data) if piece.data else b""
            if piece.whole:
                data += self._changed(self._transform, b"")
            self._tail = (self._tail + data[-4:])[-4:]
        if piece.whole and not self._told:
            await self._respond()
        refuse_killed(self._flow)
        return Piece(data, piece.whole, piece.last)

    def _changed(self, transform: Callable[[bytes], Any], data: bytes) -> bytes:
        """mitmproxy's contract: bytes, or an iterable of bytes; called with b"" at the end."""
        label = "/".join(self._addons.labels)
        try:
            given = self._addons.measured(label, "stream", transform, data)
            return given if isinstance(given, bytes) else b"".join(given)  # type: ignore[arg-type]
        except BaseException as error:
            raise self._addons.fault(label, "stream", error).refusal from None


def _too_long(limit: int) -> str:
    return (
        f"The answer has more than {limit} bytes ([limits] max_body_bytes), and an addon with a hook response is given "
        "all of it; in its hook responseheaders it may set flow.response.stream."
    )
