"""Which endpoints of Azure OpenAI and Foundry are open: those of OpenAI's family, at Azure's paths.

https://learn.microsoft.com/azure/foundry/openai/reference and .../openai/latest. /openai/v1 has OpenAI's own paths. Without v1 the
query has an ``api-version``, and the endpoints of `OF_DEPLOYMENT` have their deployment in the path: openai-python
`lib/azure.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tollhouse.families.openai.never_open import mints
from tollhouse.families.openai.routes import ROUTES as OF_OPENAI
from tollhouse.families.operation import Route

OF_DEPLOYMENT: Final = (
    "chat/completions",
    "completions",
    "embeddings",
    "audio/transcriptions",
    "audio/translations",
    "audio/speech",
    "images/generations",
    "images/edits",
)
DEPLOYMENT: Final = re.compile(r"/openai/deployments/([A-Za-z0-9][A-Za-z0-9._-]{0,127})/[a-z/]+")
"""A deployment's name has letters, digits, ``-``, ``_`` and ``.``:
https://learn.microsoft.com/azure/templates/microsoft.cognitiveservices/accounts/deployments."""
_V1: Final = "/v1/"


def _routes() -> Iterator[Route]:
    for route in OF_OPENAI:
        pattern = route.path.pattern
        if route.hosts is not None or not pattern.startswith(_V1):
            # Of one of OpenAI's own hosts.
            continue
        rest = pattern.removeprefix(_V1)
        yield Route(route.method, re.compile(f"/openai/v1/{rest}"), route.operation)
        if any(route.path.fullmatch(_V1 + name) for name in OF_DEPLOYMENT):
            with_name = DEPLOYMENT.pattern.removesuffix("[a-z/]+").replace("(", "(?:")
            yield Route(route.method, re.compile(with_name + rest), route.operation)
        else:
            yield Route(route.method, re.compile(f"/openai/{rest}"), route.operation)


ROUTES: Final = (*mints("/openai/realtimeapi/sessions"), *_routes())
