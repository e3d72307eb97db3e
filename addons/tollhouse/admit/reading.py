"""The gate that reads a request's body, where something has to be read in it, and estimates what it may use."""

from __future__ import annotations

import time
from collections.abc import Callable

from tollhouse.budget.growth import FIRST_SLICE_TOKENS
from tollhouse.call import Call
from tollhouse.denial import Decision, Refused
from tollhouse.families.openai.estimate import estimate_input_tokens, estimate_prediction_tokens
from tollhouse.families.openai.request import Prepared, prepare
from tollhouse.listen.exchange import BodyTooLarge, Exchange
from tollhouse.providers import Provider


class Reading:
    """Fills in body, model, stream, caps and the estimate of the input. ``window`` gives a model's context window in
    tokens by the provider's id in the price table, None if it is not known."""

    name = "read"

    def __init__(
        self,
        *,
        max_body_bytes: int,
        idle_s: float,
        window: Callable[[str, str], int | None] = lambda provider_id, model: None,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._idle_s = idle_s
        self._window = window

    async def __call__(self, call: Call, exchange: Exchange) -> Decision:
        """Refuses 400, 408 and 413. Raises what `Exchange.interruptible` raises."""
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

    def _limits(self, provider: Provider, prepared: Prepared) -> tuple[int, int]:
        """Tokens that one of the models it can reach reads, and writes, at most."""
        names = [prepared.model, *prepared.other_models]
        windows = [self._window(provider.price_id, name) for name in names]
        context = max(map(provider.most_input, windows))
        answer = max(map(provider.most_output, names, windows))
        if prepared.models_unknown:
            context = max(context, provider.most_input(None))
            answer = max(answer, provider.most_output("", None))
        return context, answer

    async def _body(self, call: Call, exchange: Exchange) -> bytes:
        length = call.head.get("content-length")
        if length is not None:
            if not (length.isascii() and length.isdigit()):
                raise Refused("bad_request", "Content-Length is not a number.")
            # By its digits first: Python reads no number of more than 4300 of them.
            if len(length.lstrip("0")) > 18 or int(length) > self._max_body_bytes:
                raise Refused("body_too_large", f"It says {length[:20]} bytes, the limit is {self._max_body_bytes}.")
        began = time.monotonic()
        try:
            async with exchange.interruptible():
                return await exchange.read_all(self._max_body_bytes, self._idle_s)
        except BodyTooLarge:
            raise Refused("body_too_large", f"The limit is {self._max_body_bytes} bytes.") from None
        except TimeoutError:
            raise Refused("timeout", f"No byte of the body came for {self._idle_s:g} s.") from None
        finally:
            call.waited_s += time.monotonic() - began
