"""How many tokens a request to the Responses API will take, before it is sent.

The rules and constants are `estimate`'s. Beside them: a tool that the provider runs makes the model
read its whole context again. ``worst`` counts the context limit once for each possible use of a
tool and once more. ``typical`` counts it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode
from tollhouse.families.formats.document import Document, named
from tollhouse.families.openai import media
from tollhouse.families.openai.estimate import FIRST_SLICE_TOKENS, Typical, Worst
from tollhouse.families.openai.responses_fields import NOT_INPUT
from tollhouse.families.openai.responses_request import ResponseDetail
from tollhouse.families.openai.tools import runs_at_client
from tollhouse.families.units import Estimate, Units

_ELSEWHERE: Final = frozenset({"previous_response_id", "conversation", "prompt"})
"""Fields whose input the provider keeps."""
_WORDS: Final = frozenset({"type", "role", "status", "id", "phase"})
"""Short members of an item. `Typical.per_message` has them."""
_TEXTS: Final = frozenset(
    {"input_text", "output_text", "text", "summary_text", "reasoning_text", "refusal"}
)
_OPAQUE: Final = frozenset({"compaction", "compaction_summary"})
"""Items whose text only the provider can read; it may be longer than its cipher."""


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Never raises, whatever the client sends."""
    worst = mode == "worst"
    detail: ResponseDetail = asked.detail
    tokens = _input(asked, limits, dialect, worst=worst)
    if worst and (calls := detail.tools.most_calls(worst=True)):
        tokens = max(tokens, limits.context) * (calls + 1)
    slices = asked.stream and asked.cap is None and not worst
    output = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    return Estimate(
        Units(input=tokens, output=output, requests=1),
        asked.asks,
        asked.may,
        beside=detail.tools.most(limits, worst=worst),
        grows=slices,
    )


def estimate_compact(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """A compacted conversation is likely no longer than it was. Its output has no cap that could be
    lowered, so that it counts as predicted."""
    worst = mode == "worst"
    tokens = _input(asked, limits, dialect, worst=worst)
    output = limits.answer if worst else min(limits.answer, max(tokens, FIRST_SLICE_TOKENS))
    return Estimate(Units(input=tokens, requests=1), predicted=output)


def _input(asked: Asked, limits: Limits, dialect: Dialect, *, worst: bool) -> int:
    document: Document = asked.document
    counter = (_WorstResponse if worst else _TypicalResponse)(
        (asked.model, *asked.other_models),
        limits.context,
        limits.answer,
        dialect.own_rules and not asked.models_unknown,
        document.long,
    )
    return counter.response(document)


class _TypicalResponse(Typical):
    def response(self, body: Document) -> int:
        total = float(self.per_reply)
        if "tools" in body.tree or "text" in body.tree:
            total += self.per_tools
        for key, value in body.tree.items():
            if key in NOT_INPUT:
                continue
            if key in ("input", "instructions"):
                items = value if isinstance(value, list) else [value]
                total += sum(self.item(item) for item in items if item is not None)
            elif key == "tools" and isinstance(value, list):
                for tool in value:
                    total += self.per_function + self.rendered(tool)
                    self._unseen = self._unseen or not runs_at_client(tool, body)
            else:
                if value is not None and (key in _ELSEWHERE or self._refers({key: value})):
                    self._unseen = True
                total += self.rendered(value)
        seen = int(-(-total // 1))
        return max(seen, self._context if self._unseen else 1)

    def item(self, item: Any) -> float:
        """An item of the input: a message, a call of a tool or what it gave, reasoning."""
        if not isinstance(item, dict):
            return self.per_message + self.text(item)
        kind = named(item.get("type"), self._long)
        # An id alone stands for an item that the provider keeps.
        if kind == "item_reference" or (kind is None and "content" not in item):
            self._unseen = True
        if self.worst and isinstance(kind, str) and kind in _OPAQUE:
            self._unseen = True
        if kind == "image_generation_call":
            return self.per_message + self.image({"url": item.get("result")})
        if isinstance(kind, str) and kind.startswith("input_"):
            return self.per_message + self.part(item)
        total = float(self.per_message)
        for key, value in item.items():
            if key in _WORDS and isinstance(value, str):
                continue
            if isinstance(value, str):
                total += self.text(value)
            elif key in ("content", "output", "summary") and isinstance(value, list):
                total += sum(map(self.part, value))
            elif key == "output" and isinstance(value, dict):
                total += self.part(value)
            else:
                self._unseen = self._unseen or self._refers({key: value})
                total += self.rendered(value)
        return total

    def part(self, part: Any) -> float:
        if not isinstance(part, dict):
            return super().part(part)
        kind = named(part.get("type"), self._long)
        if isinstance(kind, str) and kind in _TEXTS:
            known = "refusal" if kind == "refusal" else "text"
            return self.per_part + self.text(part.get(known)) + self._rest(part, known)
        if kind in ("input_image", "computer_screenshot"):
            return self.image({"url": part.get("image_url"), "detail": part.get("detail")})
        if kind == "input_file" and isinstance(part.get("file_data"), str):
            return self._known(media.file_tokens(part, self.look, worst=self.worst))
        return super().part(part)

    def image(self, image: Mapping[str, Any]) -> float:
        return self._known(
            media.image_tokens(
                self._models, image, self.look, worst=self.worst, openai=self._openai
            )
        )


class _WorstResponse(Worst, _TypicalResponse):
    pass
