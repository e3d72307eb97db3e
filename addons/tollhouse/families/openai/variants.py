"""OpenAI's API as other companies speak it: under another path, and only some of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from tollhouse.families.base import Family
from tollhouse.families.openai import OPENAI
from tollhouse.families.openai.never_open import never_open, of_company
from tollhouse.families.openai.other_errors import OTHER_VERDICTS
from tollhouse.families.operation import Operation, Route, model_list

_OWN: Final = "/v1/"
TEXTS: Final = ("chat/completions", "completions", "embeddings", "responses")
_HEARD: Final = "audio/(?:transcriptions|translations)"
_FILES: Final = ("files/", "batches/")


def routes(prefix: str, *endpoints: str) -> tuple[Route, ...]:
    """OpenAI's routes with ``prefix`` instead of ``/v1``: those of these ``endpoints``, which are
    written as `OPENAI.routes` has them, without ``/v1/``. One that ends with a slash stands for all
    paths that begin with it as well. Beside them the list of models, and what is never open. No WebSocket is among them."""
    found = []
    for route in OPENAI.routes:
        if route.operation.socket:
            continue
        path = route.path.pattern.removeprefix(_OWN)
        if any(
            path == one.rstrip("/") or (one.endswith("/") and path.startswith(one))
            for one in endpoints
        ):
            found.append(replace(route, path=re.compile(f"{prefix}/{path}")))
    return (*found, *model_list(f"{prefix}/models"), *never_open(prefix))


def variant(company: str, *open_routes: Route) -> Family:
    """The family of one company. Its prices are its own, so a configured provider that takes it
    over has them as well."""
    return replace(
        OPENAI,
        routes=(*open_routes, *of_company(company)),
        spoken_by_others=False,
        verdicts=(*OTHER_VERDICTS.get(company, ()), *OPENAI.verdicts),
    )


GROQ: Final = variant(
    "groq",
    *routes("/openai/v1", *TEXTS, "audio/speech", _HEARD, *_FILES),
)
"""https://console.groq.com/docs/openai"""
DEEPSEEK: Final = variant(
    "deepseek",
    *routes("", "chat/completions", "completions"),
    *routes("/v1", "chat/completions", "completions"),
    *routes("/beta", "chat/completions", "completions"),
)
"""https://api-docs.deepseek.com: the ``v1`` has nothing to do with a model's version, and ``beta``
is for completions in the middle of a text."""
XAI: Final = variant(
    "xai",
    *routes("/v1", *TEXTS, "images/(?:generations|edits|variations)", *_FILES),
)
"""https://docs.x.ai/docs/api-reference"""
OPENROUTER: Final = variant(
    "openrouter",
    *routes("/api/v1", *TEXTS, "audio/speech", _HEARD),
)
"""https://openrouter.ai/docs/api-reference/overview."""
TOGETHER: Final = variant(
    "together",
    *routes(
        "/v1",
        *TEXTS,
        "images/(?:generations|edits|variations)",
        "audio/speech",
        _HEARD,
        *_FILES,
    ),
)
"""https://docs.together.ai/docs/openai-api-compatibility"""
FIREWORKS: Final = variant(
    "fireworks",
    *routes("/inference/v1", *TEXTS),
)
"""https://docs.fireworks.ai/tools-sdks/openai-compatibility"""
CHATGPT: Final = variant(
    "chatgpt",
    *routes("/backend-api/codex", "responses"),
    Route("GET", re.compile("/backend-api/wham/accounts/check"), Operation("accounts", "free")),
)
"""Codex 0.171.0 with a login, in November 2026. Without an answer to the last one it makes no call: it asks where its account's
workspace is."""
PERPLEXITY: Final = variant(
    "perplexity",
    *routes("", "chat/completions"),
    *routes("/v1", "chat/completions", "embeddings", "responses"),
)
"""https://docs.perplexity.ai/guides/chat-completions-guide"""
