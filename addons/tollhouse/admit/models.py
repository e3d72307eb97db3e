"""Which models a project may use: its list of patterns, and the gate that asks it before anything is held.

A pattern without a slash is a glob on the model's name, at any provider (``gpt-4o*``). With one, what stands before the
first slash is a provider's name, exactly, and the rest a glob (``anthropic/claude-*``); a model whose own name has a slash
is reached as ``vllm/meta-llama/*``. Upper and lower case count, as they do at the providers. No pattern at all is no rule.
A deployment whose model the provider's entry tells is judged by that model. It may also be named itself, exactly and with its
provider: ``azure/my-deployment``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import ClassVar, Final

from tollhouse.call import Requested
from tollhouse.denial import Refused

_PROVIDER: Final = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_MAX_PATTERN: Final = 256


def check_pattern(text: str) -> str:
    """``text`` if it is a pattern; raises `ValueError`, which says why it is none."""
    provider, slash, glob = text.partition("/")
    examples = 'write it like "gpt-4o*" or "anthropic/claude-*"'
    if not text or len(text) > _MAX_PATTERN or not text.isprintable() or " " in text:
        raise ValueError(
            f"{text[:64]!r} is not a model pattern: 1 to {_MAX_PATTERN} characters without spaces; {examples}"
        )
    if slash and (not _PROVIDER.fullmatch(provider) or not glob):
        raise ValueError(
            f"{text!r} is not a model pattern: before the first slash stands a provider's name, without wildcards; "
            f"{examples}"
        )
    return text


def allowed(patterns: Sequence[str], provider: str, model: str) -> bool:
    """Whether one of ``patterns`` lets ``model`` of ``provider`` through; all do if there is none."""
    return not patterns or any(_matches(pattern, provider, model) for pattern in patterns)


def _matches(pattern: str, provider: str, model: str) -> bool:
    named, slash, glob = pattern.partition("/")
    if not slash:
        return fnmatchcase(model, pattern)
    return named == provider and fnmatchcase(model, glob)


class Models:
    """Refuses 403 ``model_not_allowed`` for any model that a request can reach and its project may not use, and for
    models that it names in a way that can't be read."""

    name: ClassVar = "models"
    gives: ClassVar = Requested

    async def __call__(self, requested: Requested, exchange: object) -> Requested:
        admitted, asked = requested.admitted, requested.asked
        patterns, provider = admitted.project.models, admitted.provider.name
        method = admitted.arrival.head.method
        fixed = admitted.provider.fixed_hold(admitted.operation, method) is not None
        if not patterns or not (admitted.operation.metered or fixed):
            return requested
        if admitted.operation.socket and not asked.model:
            # A message names it, and is judged then.
            return requested
        # A pattern that is exactly the deployment's name allows it; a wildcard is about models.
        named = bool(asked.deployment) and f"{provider}/{asked.deployment}" in patterns
        for model in (*(() if named else (asked.model,)), *asked.other_models):
            if not allowed(patterns, provider, model):
                why = f"Project {admitted.project.id} may not use {model[:80]!a} of {provider}."
                if not model:
                    why = (
                        f"Project {admitted.project.id} has a list of models, and the request names "
                        "none that can be judged."
                    )
                if asked.deployment and model == asked.model:
                    why += f" It is the model of {asked.deployment[:80]!a} in [providers.{provider}.models]."
                raise Refused("model_not_allowed", why)
        if asked.models_unknown:
            why = "The request names further models (fallbacks, models, route, tools) in a way that can't be judged."
            raise Refused("model_not_allowed", why)
        return requested
