"""The gate that reads a request's body, where something has to be read in it, and estimates what the call may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import ClassVar, NamedTuple, Protocol

from tollhouse.admit.bodies import BodyBytes, KeptBody, KeptFor
from tollhouse.admit.readers import Readers
from tollhouse.admit.upload import Upload
from tollhouse.admit.uploads import Uploads, length_of
from tollhouse.call import Admitted, Requested
from tollhouse.codings import KNOWN, BadCoding, TooLong, inflated
from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Limits, Mode, Request
from tollhouse.families.dialogue import Dialogue, Terms
from tollhouse.families.formats.document import TooHeavy, beside_others, is_quick
from tollhouse.families.formats.multipart import Form
from tollhouse.families.units import Estimate, Units
from tollhouse.providers import Provider

_NOTHING_ASKED = Asked(writes=False, reasons=False)
_ONE_REQUEST = Estimate(Units())


class BodySource(Protocol):
    """What the gate needs of an exchange."""

    @property
    def body_complete(self) -> bool: ...
    def interruptible(self) -> AbstractAsyncContextManager[None]: ...
    async def read_all(self, limit: int, idle_s: float, kept: KeptBody | None = None) -> bytes: ...
    async def read(self, most: int, idle_s: float) -> bytes: ...
    async def read_beside(self, most: int, idle_s: float) -> bytes: ...
    def put_back(self, data: bytes) -> None: ...
    def at_end(self, release: Callable[[], object]) -> None: ...


class Whole(NamedTuple):
    """A body that has come whole, plain and as it came. ``coding`` is "" where both are the same.
    ``kept`` counts it."""

    plain: bytes
    came: bytes
    coding: str
    kept: KeptBody


def by_model(asked: Asked, models: Mapping[str, str]) -> Asked:
    """``asked`` with the names of models in place of those that ``models`` has (deployments,
    profiles): prices, windows and a project's list go by models. Raises `Refused` for a name that
    another case makes one of them: the provider may take it for that one."""
    if not models:
        return asked
    for name in (asked.model, *asked.other_models):
        if name not in models and (known := _in_another_case(name, models)) is not None:
            raise Refused(
                "bad_request", f"The model {name[:80]!a} is configured as {known!a}: write it so."
            )
    model = models.get(asked.model)
    others = tuple(models.get(name, name) for name in asked.other_models)
    if model is None:
        return asked if others == asked.other_models else asked._replace(other_models=others)
    return asked._replace(model=model, other_models=others, deployment=asked.model)


def _in_another_case(name: str, models: Mapping[str, str]) -> str | None:
    folded = name.casefold()
    return next((known for known in models if known.casefold() == folded), None)


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
        uploads: Uploads | None = None,
    ) -> None:
        """Without ``uploads`` each body is kept in memory."""
        self.max_body_bytes = max_body_bytes
        self._uploads = uploads
        self._idle_s = idle_s
        self._window = window
        self._bodies = bodies or BodyBytes(largest_bytes=max_body_bytes)
        self._readers = Readers()
        self._heavy = Readers(threads=1, of_one_tenant=1)
        """For the bodies whose values take much memory: one at a time. A tenant has one of them wait
        here at most, the next one is another tenant's."""

    async def __call__(self, admitted: Admitted, exchange: BodySource) -> Requested:
        """Refuses 400, 408, 413, and 429 and 503 where too much of bodies is kept. Raises what `Exchange.interruptible`
        raises."""
        kept = self._reserve(admitted)
        if self._uploads is not None and await self._uploads.takes(admitted, exchange, kept):
            return await self._upload(self._uploads, admitted, exchange, kept)
        if admitted.body is None:
            body = await self._body(admitted, exchange, kept)
            encodings = admitted.arrival.head.get_all("content-encoding")
        else:
            body = admitted.body
            encodings = [value for name, value in admitted.headers if name == "content-encoding"]
            if len(body) > self.max_body_bytes:
                why = f"An addon of the gateway's made it {len(body)} bytes, the limit is {self.max_body_bytes}."
                raise Refused("body_too_large", why)
        if not admitted.operation.reads_body:
            if body:
                raise Refused(
                    "bad_request", f"{admitted.arrival.head.method} {admitted.path} takes no body."
                )
            if admitted.operation.metered:
                return self._judged(admitted, b"")
            nothing = _NOTHING_ASKED._replace(kind=admitted.operation.kind)
            return Requested(admitted, nothing, None, _ONE_REQUEST, admitted.headers)
        coding = _coding(encodings)
        if coding:
            plain = await self._readers.run(admitted.project.tenant, self._plain, body, coding)
            if admitted.body is None:
                kept.extend(len(plain))
            return (await self._in_time(admitted, plain))._replace(coded=body)
        return await self._in_time(admitted, body)

    async def whole(self, admitted: Admitted, exchange: BodySource) -> Whole:
        """The body for who reads it before this gate, and gives it to this gate in
        ``Admitted.body``. Refuses and raises as the gate does."""
        kept = self._reserve(admitted)
        came = await self._body(admitted, exchange, kept)
        coding = _coding(admitted.arrival.head.get_all("content-encoding")) if came else ""
        if not coding:
            return Whole(came, came, "", kept)
        plain = await self._readers.run(admitted.project.tenant, self._plain, came, coding)
        kept.extend(len(plain))
        return Whole(plain, came, coding, kept)

    def _reserve(self, admitted: Admitted) -> KeptBody:
        return self._bodies.reserve(KeptFor.of(admitted))

    async def again(self, requested: Requested, admitted: Admitted) -> Requested:
        """The same body, read as ``admitted`` has it."""
        body = requested.body or b""
        if isinstance(body, bytes):
            return (await self._in_time(admitted, body))._replace(coded=requested.coded)
        assert isinstance(body, Upload)
        return self._judged(admitted, b"", body)

    async def _in_time(self, admitted: Admitted, body: bytes) -> Requested:
        """A body that is large, or has many parts, is read by a thread: no other call waits for it."""
        if is_quick(body):
            return self._judged(admitted, body)
        tenant = admitted.project.tenant
        try:
            return await self._readers.run(tenant, self._beside_others, admitted, body)
        except TooHeavy:
            return await self._heavy.run(tenant, self._judged, admitted, body)

    def _beside_others(self, admitted: Admitted, body: bytes) -> Requested:
        with beside_others():
            return self._judged(admitted, body)

    def _plain(self, coded: bytes, coding: str) -> bytes:
        """The plain body, which is judged. The coded one is kept beside it, to be sent as it came."""
        try:
            return inflated(coded, coding, self.max_body_bytes)
        except TooLong:
            why = f"Uncompressed it has more than {self.max_body_bytes} bytes ([limits] max_body_bytes)."
            raise Refused("body_too_large", why) from None
        except BadCoding as error:
            raise Refused("bad_request", f"The body is no {coding}: {error}.") from None

    async def _upload(
        self, uploads: Uploads, admitted: Admitted, exchange: BodySource, kept: KeptBody
    ) -> Requested:
        """A body that may be a file. What costs money is read whole before it is held."""
        upload = await uploads.begin(admitted, exchange, kept, partial(self._asked, admitted))
        if admitted.operation.cost != "free":
            async with exchange.interruptible():
                await upload.whole()
        return self._judged(admitted, b"", upload)

    def _asked(self, admitted: Admitted, form: Form | None, body: bytes = b"") -> Asked:
        provider = admitted.provider
        request = Request(
            admitted.operation,
            admitted.path,
            admitted.headers,
            body,
            admitted.query,
            admitted.host,
            form=form,
        )
        return by_model(provider.family.read(request, provider.dialect), provider.models)

    def _judged(self, admitted: Admitted, body: bytes, upload: Upload | None = None) -> Requested:
        provider = admitted.provider
        family = provider.family
        operation = admitted.operation
        if upload is not None and upload.form is None and operation.upload == "form":
            # Its form is read when it has come (`Upload.before_end`).
            asked = _NOTHING_ASKED._replace(kind=operation.kind)
            return Requested(admitted, asked, upload, _ONE_REQUEST, admitted.headers)
        asked = self._asked(admitted, None if upload is None else upload.form, body)
        estimate = _ONE_REQUEST
        if operation.socket and not asked.model:
            # A message names it.
            return Requested(admitted, asked, None, estimate, admitted.headers)
        if operation.metered:
            mode: Mode = "worst" if admitted.worst else "typical"
            estimate = family.estimate(asked, mode, self._limits(provider, asked), provider.dialect)
        if not operation.reads_body:
            return Requested(admitted, asked, None, estimate, admitted.headers)
        headers = family.sent_headers(admitted.headers, asked)
        # The call waits for Redis with its bytes alone: a parsed body takes up to 27 times those.
        asked = asked._replace(document=None)
        return Requested(admitted, asked, body if upload is None else upload, estimate, headers)

    def room(self, requested: Requested) -> KeptBody:
        """Counts the messages of a session as bodies are counted."""
        return self._reserve(requested.admitted)

    def dialogue(self, requested: Requested) -> Dialogue:
        """Of the session that the request asks for."""
        admitted, provider = requested.admitted, requested.admitted.provider
        terms = Terms(
            Request(
                admitted.operation,
                admitted.path,
                admitted.headers,
                b"",
                admitted.query,
                admitted.host,
            ),
            "worst" if admitted.worst else "typical",
            provider.dialect,
            lambda asked: self._limits(provider, asked),
            lambda asked: by_model(asked, provider.models),
        )
        return provider.family.dialogue(requested.asked, terms)

    async def heard(
        self, dialogue: Dialogue, tenant: str, message: bytes, now: float
    ) -> Asked | None:
        """What a message of a session asks for. One that is large, or has many parts, is read by a thread, as a body is."""
        if is_quick(message):
            return dialogue.heard(message, now)
        return await self._readers.run(tenant, dialogue.heard, message, now)

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

    async def _body(self, admitted: Admitted, exchange: BodySource, kept: KeptBody) -> bytes:
        key = "max_body_bytes"
        if admitted.operation.upload and self._uploads is not None:
            key += f"; {self._uploads.why_in_memory(admitted)}"
        length_of(admitted, self.max_body_bytes, key)
        if exchange.body_complete:
            return await exchange.read_all(self.max_body_bytes, self._idle_s, kept)
        async with exchange.interruptible():
            return await exchange.read_all(self.max_body_bytes, self._idle_s, kept)


def _coding(values: Sequence[str]) -> str:
    """The one content coding of a body whose ``content-encoding`` headers have these values, "" for none."""
    if not values:
        return ""
    said = ",".join(values).lower()
    codings = [
        coding for part in said.split(",") if (coding := part.strip()) not in ("", "identity")
    ]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in KNOWN:
        raise Refused("unsupported_encoding", f"It says Content-Encoding: {said[:60]!a}.")
    return codings[0]
