"""The formats of InvokeModel: the body is the model's own, and so is the name of its output cap.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html, a page for each company.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class InvokeFormat:
    """One format. ``models`` finds the ids of its models, behind the prefix of a region. ``marks``
    are fields that only this format has: they tell it where the id hides the model. The cap stands
    in the object ``owner`` ("" for the body itself) under one of ``caps``. ``choices`` is the field
    with the number of answers. ``texts`` are the fields with inputs that have each a context of
    their own; only a format of embeddings has some."""

    name: str
    models: re.Pattern[str]
    owner: str = ""
    caps: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()
    choices: str = ""
    texts: tuple[str, ...] = ()


def _of(*names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|[./])(?:{'|'.join(names)})")


FORMATS: Final = (
    InvokeFormat(
        "claude",
        _of(r"anthropic\."),
        caps=("max_tokens", "max_tokens_to_sample"),
        marks=frozenset({"anthropic_version"}),
    ),
    InvokeFormat(
        "nova",
        _of(r"amazon\.nova-(?:2-)?(?:micro|lite|pro|premier)"),
        owner="inferenceConfig",
        caps=("maxTokens", "max_new_tokens"),
        marks=frozenset({"inferenceConfig", "schemaVersion"}),
    ),
    InvokeFormat(
        "titan",
        _of(r"amazon\.titan-text", r"amazon\.titan-tg1"),
        owner="textGenerationConfig",
        caps=("maxTokenCount",),
        marks=frozenset({"textGenerationConfig"}),
    ),
    InvokeFormat("titan-embed", _of(r"amazon\.titan-embed-(?:text|g1)"), texts=("inputText",)),
    InvokeFormat(
        "llama", _of(r"meta\."), caps=("max_gen_len",), marks=frozenset({"max_gen_len"})
    ),
    InvokeFormat("cohere-embed", _of(r"cohere\.embed-(?:english|multilingual)"), texts=("texts",)),
    InvokeFormat(
        "cohere", _of(r"cohere\.command"), caps=("max_tokens",), choices="num_generations"
    ),
    InvokeFormat("mistral", _of(r"mistral\."), caps=("max_tokens",)),
    InvokeFormat("deepseek", _of(r"deepseek\."), caps=("max_tokens",)),
    InvokeFormat("jamba", _of(r"ai21\.jamba"), caps=("max_tokens",), choices="n"),
    InvokeFormat(
        "gpt", _of(r"openai\."), caps=("max_completion_tokens", "max_tokens"), choices="n"
    ),
    InvokeFormat(
        "chat",
        _of(
            r"qwen\.", r"google\.gemma", r"moonshot(?:ai)?\.", r"zai\.", r"nvidia\.", r"minimax\.",
            r"writer\.",
        ),
        caps=("max_tokens", "max_completion_tokens"),
        choices="n",
    ),
)  # fmt: skip
"""Asked from the top. Images, video, sound and rerank are in none: their answers tell no usage."""


def format_of(model: str, document: Mapping[str, Any]) -> InvokeFormat | None:
    """By the model's id, or where an ARN hides the model by a field of the body; None if neither
    tells. Of an id that is known the body says nothing."""
    for form in FORMATS:
        if form.models.search(model):
            return form
    if not model.startswith("arn:"):
        return None
    return next((form for form in FORMATS if not form.marks.isdisjoint(document)), None)
