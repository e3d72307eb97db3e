"""The legacy completions: https://platform.openai.com/docs/api-reference/completions/create. Usage and framing are those of
chat completions."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import Document, parsed
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai.body_fields import (
    ANYTHING,
    FLAG,
    NUMBER,
    OBJECT,
    TEXT,
    TEXT_OR_LIST,
    Table,
    check,
    integer,
    model_of,
)
from tollhouse.families.openai.estimate import FIRST_SLICE_TOKENS, Typical, Worst
from tollhouse.families.openai.meter import JsonMeter, StreamMeter
from tollhouse.families.openai.models import can_reason
from tollhouse.families.openai.request import MAX_N, other_models
from tollhouse.families.openai.rewrite import ask_for_usage
from tollhouse.families.units import Estimate, Units

CAP: Final = "max_tokens"
DEFAULT_CAP: Final = 16
"""OpenAI's own. Other servers of its format have others."""
_NOT_INPUT: Final[Table] = {
    "best_of": NUMBER,
    "echo": FLAG,
    "frequency_penalty": NUMBER,
    "logit_bias": OBJECT,
    "logprobs": ANYTHING,
    CAP: NUMBER,
    "model": TEXT,
    "n": NUMBER,
    "presence_penalty": NUMBER,
    "seed": NUMBER,
    "stop": TEXT_OR_LIST,
    "stream": FLAG,
    "stream_options": OBJECT,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "user": TEXT,
}
_KNOWN: Final[Table] = {**_NOT_INPUT, "prompt": TEXT_OR_LIST, "suffix": TEXT}
_STREAM_OPTIONS: Final[Table] = {
    "include_usage": FLAG,
    "include_obfuscation": FLAG,
    "continuous_usage_stats": FLAG,
}


class CompletionDetail(NamedTuple):
    echoed: int = 0
    """Tokens of the prompts that the answer repeats. They are no output."""


def read(request: Request, dialect: Dialect) -> Asked:
    """A prompt is a text or tokens. Several prompts have as many answers each as one has."""
    body = parsed(request.body)
    tree = body.tree
    check(tree, _KNOWN)
    options = tree.get("stream_options") or {}
    check(options, _STREAM_OPTIONS, "stream_options.")
    model = model_of(body, request.model)
    others, unknown = other_models(body)
    stream = tree.get("stream") is True
    # ``best_of`` answers are made, and charged, of which ``n`` are shown.
    each = max(integer(tree, key, 1, MAX_N) or 1 for key in ("n", "best_of"))
    choices = each * _prompts(tree.get("prompt"))
    cap = integer(tree, CAP, 0)
    if dialect.own_rules:
        cap = DEFAULT_CAP if cap is None else max(cap, 1)
    echoed = 0
    if tree.get("echo") is True:
        echoed = int(_Typical((), 0, 0, False, body.long).prompts(tree.get("prompt"))) * each
    return Asked(
        model,
        others,
        unknown,
        stream,
        cap=cap or None,
        choices=choices,
        reasons=any(map(can_reason, (model, *others))),
        kind=request.operation.kind,
        asks_for_usage=stream
        and options.get("include_usage") is not True
        and dialect.usage_in_stream == "on_request",
        detail=CompletionDetail(echoed),
        document=body,
    )


def _prompts(prompt: Any) -> int:
    """How many prompts there are. An array of numbers is one."""
    if not isinstance(prompt, list) or not prompt:
        return 1
    return 1 if all(isinstance(one, int | float) for one in prompt) else len(prompt)


def rewrite(body: bytes, asked: Asked) -> bytes:
    if asked.asks_for_usage:
        body = ask_for_usage(body)
    return body if asked.lowered_to is None else lower_cap(body, asked.lowered_to, CAP)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Never raises, whatever the client sends. A prompt is read once, however many answers it
    has."""
    worst = mode == "worst"
    document: Document = asked.document
    counter = (_Worst if worst else _Typical)((), limits.context, 0, False, document.long)
    slices = asked.stream and asked.cap is None and not worst
    each = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    return Estimate(
        Units(input=counter.completion(document), output=each * asked.choices, requests=1),
        grows=slices,
    )


class _Typical(Typical):
    def completion(self, document: Document) -> int:
        total = float(self.per_reply)
        for key, value in document.tree.items():
            if key == "prompt":
                total += self.prompts(value)
            elif key not in _NOT_INPUT:
                total += self.rendered(value)
        return max(int(-(-total // 1)), 1)

    def prompts(self, value: Any) -> float:
        """Tokens of a prompt or of several."""
        if not isinstance(value, list):
            return self.per_input + self.text(value)
        if all(isinstance(one, int | float) for one in value):
            return self.per_input + float(len(value))
        return sum(map(self.prompts, value))


class _Worst(Worst, _Typical):
    pass


def meter(asked: Asked, head: AnswerHead) -> Sniffed:
    detail: CompletionDetail = asked.detail
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=JsonMeter,
        of_events=lambda: StreamMeter(edits=asked.asks_for_usage, echoed=detail.echoed),
        may_edit=asked.asks_for_usage,
    )
