"""The gate that reads a request's body, where something has to be read in it, and estimates what the call may use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol

from tollhouse.admit.bodies import BodyBytes, KeptBody
from tollhouse.call import Admitted, Requested
from tollhouse.denial import Refused
from tollhouse.families.base import Asked, Limits, Mode
from tollhouse.families.formats.document import SMALL
from tollhouse.families.units import Estimate, Units
from tollhouse.providers import Provider

_NOTHING_ASKED = Asked(writes=False, reasons=False)
_ONE_REQUEST = Estimate(Units())


_READERS = 4
"""Large bodies that are read at the same time."""


class Body(Protocol):
    """What the gate needs of an exchange."""

    def interruptible(self) -> AbstractAsyncContextManager[None]: ...
    async def read_all(self, limit: int, idle_s: float, kept: KeptBody | None = None) -> bytes: ...


class ReadBody:
    """``window`` gives a model's context window in tokens by the provider's id in the price table, None if it is not known."""

    name: ClassVar = "read"
    gives: ClassVar = Requested

    def __init__(
        self,
        *,
        max_body_bytes: int,
        idle_s: float,
        window: Callable[[str, str], int | None] = lambda provider_id, model: None,
        bodies: BodyBytes | None = None,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._idle_s = idle_s
        self._window = window
        self._bodies = bodies or BodyBytes(largest_bytes=max_body_bytes)
        self._readers = ThreadPoolExecutor(_READERS, "read-body")

<<<<<<< HEAD
    async def __call__(self, admitted: Admitted, exchange: Body) -> Requested:
        """Refuses 400, 408, 413, and 429 and 503 where too much of bodies is kept. Raises what `Exchange.interruptible`
        raises."""
        body = await self._body(admitted, exchange)
        if not admitted.operation.reads_body:
            if body:
                raise Refused("bad_request", f"{admitted.arrival.head.method} {admitted.path} takes no body.")
            return Requested(admitted, _NOTHING_ASKED, None, _ONE_REQUEST, admitted.headers)
        head = admitted.arrival.head
        if any(coding != "identity" for coding in head.get_all("content-encoding")):
            raise Refused("bad_request", "A compressed request body cannot be read; send it uncompressed.")
        # What a large body takes to be read is not to hold up other calls; the thread is not held up by any of them either.
        if len(body) > SMALL:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._judged, admitted, body)
        return self._judged(admitted, body)
=======
    async def __call__(self, call: Call, exchange: Exchange) -> Decision:
        """Refuses 400, 408, 413, and 429 and 503 where too much of bodies is kept. Raises what
        `Exchange.interruptible` raises."""
        provider, endpoint = call.provider, call.endpoint
        if provider is None or endpoint is None:
            raise AssertionError("a call without an endpoint was not refused by admit")
        try:
            body = await self._body(call, exchange)
            if not endpoint.billable:
                if body:
                    raise Refused("bad_request", f"{call.head.method} {call.path} takes no body.")
                return Decision.allow(self.name)
            if any(coding != "identity" for coding in call.head.get_all("content-encoding")):
                raise Refused("bad_request", "A compressed request body cannot be read; send it uncompressed.")
            prepared = prepare(body, endpoint.kind, provider.usage_in_stream)
        except Refused as refusal:
            return Decision.refuse(self.name, refusal.denial)
        call.body = prepared.body
        call.model = prepared.model
        call.other_models = prepared.other_models
        call.models_unknown = prepared.models_unknown
        call.stream = prepared.stream
        call.usage_injected = prepared.injected_usage
        call.service_tier = prepared.service_tier
        call.audio = prepared.audio
        worst = call.project is not None and call.project.estimate == "worst"
        context, answer = self._limits(provider, prepared)
        call.input_estimate = estimate_input_tokens(
            prepared.document,
            worst=worst,
            models=(prepared.model, *prepared.other_models),
            context=context,
            answer=answer,
            openai=provider.price_id == "openai" and not prepared.models_unknown,
        )
        if endpoint.kind == "chat":
            call.capped = prepared.output_cap is not None
            call.answers = prepared.n
            # The time gone is no bound of the tokens written, so that a slice could be too small.
            uncapped = FIRST_SLICE_TOKENS if call.stream and not worst else answer
            call.output_cap = (uncapped if prepared.output_cap is None else prepared.output_cap) * prepared.n
            call.predicted = estimate_prediction_tokens(prepared.document, worst=worst) * prepared.n
        return Decision.allow(self.name)
>>>>>>> 7678356 (Docstrings of what is new, at most 100 columns wide)

    def _judged(self, admitted: Admitted, body: bytes) -> Requested:
        provider = admitted.provider
        family = provider.family
        asked = family.read(admitted.operation, admitted.path, admitted.headers, body, provider.dialect)
        mode: Mode = "worst" if admitted.worst else "typical"
        estimate = family.estimate(asked, mode, self._limits(provider, asked), provider.dialect)
        return Requested(admitted, asked, body, estimate, family.sent_headers(admitted.headers))

    def _limits(self, provider: Provider, asked: Asked) -> Limits:
        """Of the largest of the models that the request can reach."""
        names = [asked.model, *asked.other_models]
        windows = [self._window(provider.price_id, name) for name in names]
        context = max(map(provider.most_input, windows))
        answer = max(map(provider.most_output, names, windows))
        if asked.models_unknown:
            context = max(context, provider.most_input(None))
            answer = max(answer, provider.most_output("", None))
        return Limits(context, answer)

    async def _body(self, admitted: Admitted, exchange: Body) -> bytes:
        length = admitted.arrival.head.get("content-length")
        if length is not None:
            if not (length.isascii() and length.isdigit()):
                raise Refused("bad_request", "Content-Length is not a number.")
            # By its digits first: Python reads no number of more than 4300 of them.
            if len(length.lstrip("0")) > 18 or int(length) > self._max_body_bytes:
                raise Refused("body_too_large", f"It says {length[:20]} bytes, the limit is {self._max_body_bytes}.")
        identity = admitted.identity
        kept = self._bodies.reserve(identity.charged_as or identity.token_id, admitted.arrival.head.client_ip)
        async with exchange.interruptible():
            return await exchange.read_all(self._max_body_bytes, self._idle_s, kept)
