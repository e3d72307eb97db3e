"""A session of the Live API: https://ai.google.dev/api/live, and at Vertex
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/multimodal-live.

The first message names the model. From then on the provider may begin a turn by itself, and each turn reads the whole
conversation again. Each turn has its own usage, whose last report counts, and the searches that it is grounded in.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.dialogue import Exposed, Terms, Unfinished
from tollhouse.families.formats.document import Document, parsed, refuse, shown
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.google.contents import InputCount
from tollhouse.families.google.errors import code_of
from tollhouse.families.google.estimate import tool_bounds
from tollhouse.families.google.kept_names import asked_for, file_of
from tollhouse.families.google.models import plain
from tollhouse.families.google.spelled import integer, known, members, obj, text
from tollhouse.families.google.usage import Grounded, live_units, tool_charges
from tollhouse.families.meters import AnswerHead, Meter, PassThrough
from tollhouse.families.units import Charge, Estimate, Units

_MESSAGES: Final = known("setup", "clientContent", "realtimeInput", "toolResponse")
_CLIENT_CONTENT: Final = known("turnComplete")
_SETUP: Final = known("model", "generationConfig", "sessionResumption", "cachedContent", "tools")
_CONFIG: Final = known("maxOutputTokens")
_RESUMPTION: Final = known("handle", "transparent")
_FILES: Final = known("fileUri")
_MOST: Final = 2**31 - 1
_MOST_HANDLES: Final = 1_000
_STEP: Final = 1_024
"""As in `openai.realtime_dialogue`."""
_INPUT_BYTES: Final = 1_000
"""Bytes of a token of sound that is heard: 16 kHz of 16 bits, and 32 tokens a second (https://ai.google.dev/gemini-api/docs/tokens)."""
_OUTPUT_BYTES: Final = 1_920
"""The same of sound that is said: 24 kHz, and 25 tokens a second (https://ai.google.dev/gemini-api/docs/live-guide)."""
_FRAME_TOKENS: Final = 258
_SOUND: Final = frozenset({"input_audio", "output_audio", "input_image"})
_READ: Final = (
    *(b'"usageMetadata"', b'"turnComplete"', b'"newHandle"', b'"error"'),
    b'"groundingMetadata"',
)
_PLACE: Final = re.compile(r"^projects/[A-Za-z0-9._:-]+/locations/[a-z0-9-]+/")
"""Before the name of a model at Vertex."""
_MEDIA: Final = re.compile(rb'"data"\s*:\s*"[A-Za-z0-9+/=_\\-]*"')


def read(request: Request, dialect: Dialect) -> Asked:
    """The handshake. The first message names the model."""
    return Asked(stream=True, writes=False, reasons=False, kind=request.operation.kind)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Of the handshake, which costs nothing."""
    return Estimate(Units())


def unread(asked: Asked, head: AnswerHead) -> Meter:
    """Of the answer that refuses a handshake."""
    return PassThrough()


class LiveDialogue:
    binary = True
    lowerable: Exposed | None = None
    """The cap is that of the whole session."""

    def __init__(self, asked: Asked, terms: Terms) -> None:
        self.asked = asked
        self.error = ""
        self.requests = 0
        self._terms = terms
        self._limits: Limits | None = None
        self._cap: int | None = None
        self._context = 0.0
        self._seen = 0.0
        """Tokens of output of the turn under way."""
        self._asked_for = self._asked_before = False
        """A turn was asked for that has not begun; and the same before the message that was heard last."""
        self._since: float | None = None
        """When it began."""
        self._turn: Units | None = None
        """Its last report."""
        self._ended = False
        """A turn was complete without a report: the next one is its own."""
        self._done = Units()
        self._turns = 0
        self._grounded = Grounded()
        """Of the turn under way."""
        self._grounding = False
        """Something was read of it."""
        self._uses: Counter[str] = Counter()
        """Of the tools, in the turns before."""
        self._handles: dict[str, None] = {}
        self._exposed: tuple[Exposed, ...] | None = None

    @property
    def charges(self) -> tuple[Charge, ...]:
        units, calls = self._done, self._turns
        if self._turn is not None:
            units, calls = _sum(units, self._turn), calls + 1
        own = (Charge(self.asked.model, units, calls=calls),) if calls else ()
        uses = self._uses
        if self._grounding or self._since is not None:
            uses = uses + self._uses_now()
        return (*own, *tool_charges(uses))

    @property
    def created(self) -> tuple[str, ...]:
        return tuple(self._handles)

    def heard(self, message: bytes, now: float) -> Asked | None:
        self._asked_before = self._asked_for
        body = parsed(message)
        found = members(body.tree, _MESSAGES)
        if len(found) != 1 or len(body.tree) != 1:
            names = shown(", ".join(map(str, body.tree)))
            refuse(f"A message with the members {names} is not open in a session.")
        files = tuple(_files(body.tree, body))
        if "setup" in found:
            return self._set_up(obj(found, "setup") or {}, body, files, message)
        if self._limits is None:
            refuse('The first message of a session must be its "setup".')
        self._add(_size(message))
        said = members(obj(found, "clientContent") or {}, _CLIENT_CONTENT, "clientContent.")
        if "toolResponse" in found or said.get("turnComplete") is True:
            self._asked_for = self._since is None
        return self.asked._replace(objects=files) if files else None

    def _set_up(
        self, setup: Mapping[str, Any], body: Document, files: tuple[str, ...], message: bytes
    ) -> Asked:
        if self._limits is not None:
            refuse('A session has one "setup".')
        values = members(setup, _SETUP, "setup.")
        model = plain(_PLACE.sub("", text(values, "model", body, "setup.")))
        if not model:
            refuse('The "setup" has no "model".')
        config = members(obj(values, "generationConfig", "setup.") or {}, _CONFIG)
        self._cap = integer(config, "maxOutputTokens", 0, _MOST, "setup.generationConfig.") or None
        resumption = members(obj(values, "sessionResumption", "setup.") or {}, _RESUMPTION)
        objects = list(files)
        handle = resumption.get("handle")
        if handle is not None:
            if not isinstance(handle, str):
                refuse('"setup.sessionResumption.handle" must be a string.')
            long = body.long.get(handle)
            objects.append(long.head if long is not None else handle)
            # What the resumed session has read is not known.
            self._context = float(_MOST)
        if cache := text(values, "cachedContent", body, "setup."):
            objects.append(asked_for(cache, "setup.cachedContent"))
            self._context = float(_MOST)
        tools = InputCount(body, model)
        tools.tools(values)
        objects += tools.objects
        self._grounded = Grounded(tools.found().tools)
        named = self._terms.named(self.asked._replace(model=model, may=_SOUND))
        self.asked = named._replace(cap=self._cap, writes=True)
        self._limits = self._terms.limits(self.asked)
        self._add(_size(message))
        return self.asked._replace(objects=tuple(objects))

    def lowered(self, message: bytes, cap: int) -> bytes:
        return message

    def withdraw(self) -> None:
        self._asked_for = self._asked_before

    def told(self, message: bytes, now: float) -> None:
        begins = message.find(b'"serverContent"') >= 0 or message.find(b'"toolCall"') >= 0
        if begins and self._since is None:
            self._since, self._asked_for = now, False
            self.requests += 1
            self._exposed = None
        if self._since is not None:
            sound = message.find(b'"inlineData"') >= 0
            self._seen += len(message) * 3 / 4 / _OUTPUT_BYTES if sound else _text_tokens(message)
        if all(message.find(word) < 0 for word in _READ):
            return
        event = None
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(message)
        if isinstance(event, dict):
            self._read(event)

    def _read(self, event: Mapping[str, Any]) -> None:
        update = event.get("sessionResumptionUpdate")
        handle = update.get("newHandle") if isinstance(update, dict) else None
        if isinstance(handle, str) and len(self._handles) < _MOST_HANDLES:
            self._handles[handle] = None
        self.error = code_of(event.get("error")) or self.error
        units = live_units(event.get("usageMetadata"))
        if units is not None:
            if self._ended:
                self._close(units)
            elif self._turn is None or self._turn.at_least(units) != self._turn:
                less = self._turn is not None and units.at_least(self._turn) != units
                if less and self._turn is not None:
                    # Lower in one count and higher in another: it is of another answer.
                    self._close(self._turn)
                self._turn = units
            self._exposed = None
        content = event.get("serverContent")
        if isinstance(content, dict) and "groundingMetadata" in content:
            self._grounded.read(content["groundingMetadata"])
            self._grounding, self._exposed = True, None
        if isinstance(content, dict) and content.get("turnComplete") is True:
            self._uses += self._uses_now()
            self._grounded, self._grounding = Grounded(self._grounded.tools), False
            self._ended = self._turn is None
            if self._turn is not None:
                self._close(self._turn)
            self._since, self._seen = None, 0.0
            self._exposed = None

    def _uses_now(self) -> Counter[str]:
        """Of the tools, in the turn under way."""
        charges = self._grounded.charges(self.asked.model)
        return Counter({charge.model: charge.units.requests for charge in charges})

    def _close(self, units: Units) -> None:
        self._done = _sum(self._done, units)
        self._turns += 1
        self._turn, self._ended = None, False
        self._context = max(self._context, float(units.input + units.output))

    def exposed(self, now: float) -> tuple[Exposed, ...]:
        if self._exposed is None:
            if self._limits is None:
                return ()
            one = self._next(self._limits)
            self._exposed = (one,) if self._since is None else (one, one)
        return self._exposed

    def unfinished(self, now: float) -> tuple[Unfinished, ...]:
        if self._limits is None:
            return ()
        if self._since is None:
            # What was sent may be worked on before the provider says so.
            return (Unfinished(self._next(self._limits), 0, 0.0),) if self._asked_for else ()
        if self._turn is not None:
            # Its own count stands among the charges.
            seen = max(int(self._seen) - self._turn.output, 0)
            empty = Estimate(Units())
            return (Unfinished(Exposed(self.asked, empty), seen, now - self._since),)
        return (Unfinished(self._next(self._limits), int(self._seen) + 1, now - self._since),)

    def _add(self, tokens: float) -> None:
        before = int(self._context) // _STEP
        self._context += tokens
        if int(self._context) // _STEP != before or self._exposed is None:
            self._exposed = None

    def _next(self, limits: Limits) -> Exposed:
        steps = int(self._context) // _STEP + 1
        worst = self._terms.mode == "worst"
        tokens = limits.context if worst else min(steps * _STEP, limits.context)
        output = limits.answer if self._cap is None else min(self._cap, limits.answer)
        beside = tool_bounds(self.asked.model, self._grounded.tools, self._terms.mode)
        units = Units(input=tokens, output=output, requests=1)
        return Exposed(self.asked, Estimate(units, beside=beside, may=self.asked.may))


def _sum(one: Units, other: Units) -> Units:
    return Units(*(a + b for a, b in zip(one, other, strict=True)))


def _size(message: bytes) -> float:
    """Rough tokens of a message of the client's. Sound and images are not counted by their base64."""
    pictures = message.count(b'"image/')
    sound = b"audio/" in message or b'"audio"' in message
    if not pictures and not sound:
        return max(raw_tokens(message), 1.0)
    words = _MEDIA.sub(b"", message)
    heard = (len(message) - len(words)) * 3 / 4 / _INPUT_BYTES if sound else 0.0
    return raw_tokens(words) + pictures * _FRAME_TOKENS + heard


def _text_tokens(message: bytes) -> float:
    """Of the text in a message of the server's, without its frame."""
    return max(raw_tokens(message) - 15, 1.0)


def _files(value: Any, body: Document) -> Iterator[str]:
    """Files of Google's that a message names."""
    if isinstance(value, dict):
        uri = members(value, _FILES).get("fileUri")
        named = body.name(uri)
        if isinstance(named, str) and (name := file_of(named)):
            yield name
        for inner in value.values():
            yield from _files(inner, body)
    elif isinstance(value, list):
        for inner in value:
            yield from _files(inner, body)
