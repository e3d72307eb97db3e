"""A session of the Realtime API, message by message: https://platform.openai.com/docs/api-reference/realtime.

The provider begins an answer when it is asked to, and by itself when it hears that the user's turn has ended. Each answer
reads the whole conversation again. So one more answer is exposed than are under way for as long as the provider may begin
one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.asked import Asked, Dialect, Limits, Mode
from tollhouse.families.dialogue import Exposed, Terms, Unfinished
from tollhouse.families.formats.document import Document, parsed, refuse, shown
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.openai import written_sound
from tollhouse.families.openai.body_fields import MOST, refuse_case_variants
from tollhouse.families.openai.objects import ids_inside, named_objects
from tollhouse.families.openai.realtime import RealtimeMeter, Sums, realtime_usage, transcribers_of
from tollhouse.families.openai.responses_usage import details_of, id_of
from tollhouse.families.openai.wanted_answers import WantedAnswers
from tollhouse.families.openai.written_sound import WrittenSound
from tollhouse.families.units import Charge, Estimate, Units

_OPEN: Final = frozenset(
    {
        "session.update",
        "transcription_session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "output_audio_buffer.clear",
        "conversation.item.create",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "conversation.item.delete",
        "response.create",
        "response.cancel",
    }
)
"""Messages of the client that are known, and so is what they may cost."""
_OF_TRANSCRIPTION: Final = frozenset(
    {
        "session.update",
        "transcription_session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "conversation.item.retrieve",
        "conversation.item.delete",
    }
)
"""Of a session that has no model but the one that writes down what it hears."""
_TOLD: Final = (
    *(b'"response.created"', b'"response.done"', b'"session.', b'"transcription_session.'),
    *(b'"error"', *written_sound.TOLD),
)
_SOUND_BYTES: Final = 4_800
"""Bytes of a token of sound that is heard: 24 kHz of 16 bits, and a token for 100 ms
(https://platform.openai.com/docs/guides/realtime-costs). G.711 has a sixth of them."""
_SOUND_BYTES_G711: Final = 800
_IMAGE_TOKENS: Final = 1_500
_INSTRUCTIONS: Final = 1_000
"""Tokens of the instructions that a session has at first."""
_STEP: Final = 1_024
"""The input of an answer is exposed in steps of so many tokens, so that a hold is not made larger with each message."""
_MOST_WANTED: Final = 64
"""Answers that were asked for and have not begun: each message is covered anew with all of them."""
_MEMBERS: Final = frozenset({"type", "session", "response", "item"})
_MEDIA: Final = re.compile(
    rb'"(?:audio|image_url)"\s*:\s*"(?:data:[a-z0-9./+-]{1,64};base64,)?[A-Za-z0-9+/=_\\-]*"'
)
_CAPS: Final[tuple[str, ...]] = ("max_output_tokens", "max_response_output_tokens")
"""The second is that of the API's beta."""
_INNER: Final = frozenset(
    {"model", "audio", "input_audio_transcription", "prompt", "tools", "input", "content", *_CAPS}
)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Of the first answer."""
    return _answer(asked, mode, limits, _INSTRUCTIONS, None)


def _answer(asked: Asked, mode: Mode, limits: Limits, context: float, cap: int | None) -> Estimate:
    steps = int(context) // _STEP + 1
    tokens = limits.context if mode == "worst" else min(steps * _STEP, limits.context)
    output = limits.answer if cap is None else min(cap, limits.answer)
    return Estimate(Units(input=tokens, output=output, requests=1), may=asked.may)


class RealtimeDialogue:
    binary = False
    created: tuple[str, ...] = ()

    def __init__(self, asked: Asked, terms: Terms) -> None:
        self.asked = asked
        self.error = ""
        self.requests = 0
        self._terms = terms
        self._limits = terms.limits(asked)
        self._meter = RealtimeMeter(asked.model)
        self._uncounted = Sums()
        self._context = float(_INSTRUCTIONS)
        """Tokens of the conversation when the last answer was done."""
        self._added = 0.0
        """Tokens that were added since."""
        self._written = WrittenSound(terms.named)
        self._only_writes = self._named_late = not asked.model
        """No answer is given. And the same from the handshake on: there is no model but the transcribers."""
        self._sound_bytes = _SOUND_BYTES
        self._cap: int | None = None
        self._cap_names = _CAPS
        """The session's own name of it comes first."""
        self._caps: list[int | None] = []
        """Of updates that the server has not answered."""
        self._unsure = 0
        """How many those are."""
        self._auto = True
        """The provider may begin an answer by itself."""
        self._wanted = WantedAnswers()
        self._wants = False
        """The message that was heard last asks for one."""
        self._begun: dict[str, _Begun] = {}
        self._exposed: tuple[Exposed, ...] | None = None

    @property
    def charges(self) -> tuple[Charge, ...]:
        return (*self._meter.finish(), *self._uncounted.charges())

    def heard(self, message: bytes, now: float) -> Asked | None:
        self._wants = False
        body = parsed(message)
        kind = body.name(body.tree.get("type"))
        if not isinstance(kind, str) or kind not in _OPEN:
            refuse(f"A message of the type {shown(str(kind))} is not open in a session.")
        if self._named_late and kind not in _OF_TRANSCRIPTION:
            refuse(
                f"A message of the type {shown(kind)} is not open in a session of transcriptions."
            )
        refuse_case_variants(body.tree, _MEMBERS)
        for member in _MEMBERS:
            refuse_case_variants(details_of(body.tree.get(member)), _INNER, member + ".")
        if kind != "response.create":
            self._wanted.sent(kind, _event_id(body))
        if kind == "input_audio_buffer.append":
            if self._named_late and not self.asked.model:
                refuse("A session of transcriptions must name its model before there is sound.")
            self._hear(len(message) * 3 / 4)
            return None
        if kind.endswith("session.update"):
            return self._update(body, message)
        if kind == "conversation.item.create":
            self._add(self._size(message))
            return self._judged(body, "item")
        if kind == "response.create":
            return self._want(body, message)
        return None

    def withdraw(self) -> None:
        if self._wants and self._wanted:
            self._wanted.withdraw()
            self.requests -= 1
            self._change()

    @property
    def lowerable(self) -> Exposed | None:
        return self._wanted.last if self._wants and self._wanted else None

    def lowered(self, message: bytes, cap: int) -> bytes:
        self._wanted.lower_last(cap)
        self._change()
        return lower_cap(message, cap, *self._cap_names, inside="response")

    def told(self, message: bytes, now: float) -> None:
        self._meter.feed(message)
        self._wanted.told(message)
        if all(message.find(word) < 0 for word in _TOLD):
            return
        event = None
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(message)
        if not isinstance(event, dict):
            return
        kind = event.get("type")
        if kind == "response.created" and self._named_late:
            raise ValueError("an answer in a session of transcriptions")
        if kind == "response.created":
            self._begin(id_of(details_of(event.get("response")).get("id")), now)
        elif kind == "response.done":
            self._done(details_of(event.get("response")))
        elif isinstance(kind, str) and kind.endswith(("session.created", "session.updated")):
            self._only_writes = self._only_writes or kind.startswith("transcription_")
            self._learn(details_of(event.get("session")), answer=kind.endswith("updated"))
        elif kind == "error":
            self._fail(details_of(event.get("error")))
        else:
            self._written.told(kind, event.get("item_id"))
            if self._only_writes:
                self.requests = max(self.requests, self._written.committed)
            self._change()

    def exposed(self, now: float) -> tuple[Exposed, ...]:
        if self._exposed is None:
            found = [*self._wanted.exposed, *(one.exposure for one in self._begun.values())]
            if not self._only_writes and (self._auto or self._unsure):
                found.append(self._next())
            elif written := self._written.exposed():
                found.append(Exposed(self.asked, Estimate(Units(), beside=written)))
            self._exposed = tuple(found)
        return self._exposed

    def unfinished(self, now: float) -> tuple[Unfinished, ...]:
        seen = self._meter.output_seen
        begun = [
            Unfinished(one.exposure, seen - one.seen_before, now - one.since)
            for one in self._begun.values()
        ]
        # What was sent may be worked on before the provider says so.
        asked = (Unfinished(one, 0, 0.0) for one in self._wanted.exposed)
        return (*begun, *asked, *self._written.unfinished(self.asked))

    def _change(self) -> None:
        self._exposed = None

    def _size(self, message: bytes) -> float:
        """Rough tokens of an item. Sound and images are not counted by their base64."""
        images = message.count(b'"input_image"')
        sound = b'"input_audio"' in message
        if not images and not sound:
            return max(raw_tokens(message), 1.0)
        words = _MEDIA.sub(b"", message)
        heard = (len(message) - len(words)) * 3 / 4 / self._sound_bytes + 50 if sound else 0.0
        return raw_tokens(words) + images * _IMAGE_TOKENS + heard

    def _hear(self, size: float) -> None:
        tokens = size / self._sound_bytes
        if self._written.hear(tokens / 10):
            self._change()
        self._add(tokens)

    def _add(self, tokens: float) -> None:
        before = self._context + self._added
        self._added += tokens
        if int(before) // _STEP != int(before + tokens) // _STEP:
            self._change()

    def _cap_now(self) -> int | None:
        """The largest that may count."""
        caps = [self._cap, *self._caps]
        known = [cap for cap in caps if cap is not None]
        return None if len(known) < len(caps) else max(known)

    def _next(self, more: float = 0.0, cap: int | None = -1) -> Exposed:
        if cap == -1:
            cap = self._cap_now()
        context = self._context + self._added + more
        found = _answer(self.asked, self._terms.mode, self._limits, context, cap)
        return Exposed(self.asked, found._replace(beside=self._written.exposed()))

    def _update(self, body: Document, message: bytes) -> Asked | None:
        session = details_of(body.tree.get("session"))
        for name in _CAPS:
            if name in session:
                self._caps.append(_cap_of(session[name]))
        self._unsure += 1
        self._added += max(raw_tokens(message), 1.0)
        transcribers = transcribers_of(session, body)
        formats = json.dumps(session.get("audio")) + str(session.get("input_audio_format"))
        if "pcmu" in formats or "pcma" in formats or "g711" in formats:
            self._sound_bytes = _SOUND_BYTES_G711
        others = set(self.asked.other_models)
        if transcribers:
            self._written.transcriber = transcribers[0]
            others.update(map(self._written.model_of, transcribers))
        model = body.name(session.get("model"))
        if self._named_late:
            if model is not None or session.get("type", "transcription") != "transcription":
                refuse("A session that was opened for transcriptions stays one, without a model.")
            if transcribers and not self.asked.model:
                self.asked = self._terms.named(self.asked._replace(model=transcribers[0]))
        if isinstance(model, str) and model:
            others.add(model)
        others.discard(self.asked.model)
        self._change()
        asked = self.asked._replace(other_models=tuple(sorted(others)))
        return self._judged(body, "session", asked, always=bool(others or transcribers))

    def _want(self, body: Document, message: bytes) -> Asked | None:
        if len(self._wanted) >= _MOST_WANTED:
            refuse(f"{_MOST_WANTED} answers were asked for and have not begun, which is the most.")
        response = details_of(body.tree.get("response"))
        cap: int | None = -1
        for name in _CAPS:
            if name in response:
                cap = _cap_of(response[name])
        self._wanted.want(self._next(self._size(message), cap), _event_id(body))
        self._wants = True
        self.requests += 1
        self._change()
        return self._judged(body, "response")

    def _judged(
        self, body: Document, member: str, asked: Asked | None = None, *, always: bool = False
    ) -> Asked | None:
        """What has to be judged of the objects that a message names."""
        inner = body.tree.get(member)
        ids: tuple[str, ...] = ()
        if isinstance(inner, dict):
            ids = named_objects(Document(inner, body.long)) + ids_inside(inner.get("content"), body)
            # Items of the session itself are the session's.
            ids = tuple(one for one in ids if not one.startswith("item_"))
        if not ids and not always:
            return None
        return (asked or self.asked)._replace(objects=ids)

    def _begin(self, name: str, now: float) -> None:
        exposure = self._wanted.begin()
        if exposure is None:
            exposure = self._next()
            self.requests += 1
        self._begun[name] = _Begun(exposure, self._meter.output_seen, self._added, now)
        self._change()

    def _done(self, response: Mapping[str, Any]) -> None:
        begun = self._begun.pop(id_of(response.get("id")), None)
        if begun is None:
            self._wanted.begin()
        units = realtime_usage(response.get("usage"))
        if units is not None:
            if response.get("conversation_id", "") is not None:
                self._context = float(units.input + units.output)
                self._added -= begun.added_before if begun is not None else self._added
        elif begun is not None and (
            response.get("status") in ("completed", "incomplete")
            or self._meter.output_seen > begun.seen_before
        ):
            seen = self._meter.output_seen - begun.seen_before
            read = begun.exposure.estimate.units.input
            self._uncounted.add(
                Charge(self.asked.model, Units(input=read, output=seen, requests=1))
            )
        self._change()

    def _learn(self, session: Mapping[str, Any], *, answer: bool) -> None:
        if answer and self._unsure:
            self._unsure -= 1
        if not self._unsure:
            self._caps.clear()
        if session.get("type") == "transcription":
            self._only_writes = True
        self._written.learn(session, sure=not self._unsure)
        for name in _CAPS:
            if name in session:
                self._cap = _cap_of(session[name])
                self._cap_names = (name, *(other for other in _CAPS if other != name))
        sound = details_of(details_of(session.get("audio")).get("input"))
        detects = sound if "turn_detection" in sound else session
        if "turn_detection" in detects:
            self._auto = detects.get("turn_detection") is not None or any(
                details_of(tool).get("type") == "mcp" for tool in session.get("tools") or ()
            )
        self._change()

    def _fail(self, error: Mapping[str, Any]) -> None:
        """An error does not end the session."""
        self.error = id_of(error.get("code")) or id_of(error.get("type")) or "error"
        if self._wanted.failed(error):
            self._change()


class _Begun(NamedTuple):
    """An answer under way."""

    exposure: Exposed
    seen_before: int
    added_before: float
    since: float


def _event_id(body: Document) -> str:
    return id_of(body.name(body.tree.get("event_id")))


def _cap_of(value: object) -> int | None:
    """None is no cap."""
    return value if type(value) is int and 0 < value <= MOST else None
