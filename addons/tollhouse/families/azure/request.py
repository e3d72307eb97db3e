"""What a request to Azure asks: OpenAI's body, and the deployment, which may stand in the path."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.azure.routes import DEPLOYMENT
from tollhouse.families.openai import OPENAI

FIRST_WITH_USAGE: Final = "2024-09-01"
"""The first api-version whose streams can be asked for their usage. An older one refuses ``stream_options``:
https://learn.microsoft.com/azure/ai-services/openai/api-version-deprecation."""
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def read(request: Request, dialect: Dialect) -> Asked:
    """``model`` is the deployment. The body's ``model`` counts only where the path names none."""
    named = DEPLOYMENT.fullmatch(request.path)
    asked = OPENAI.read(request._replace(model=named[1]) if named else request, dialect)
    if asked.asks_for_usage and _is_old(request.query):
        return asked._replace(asks_for_usage=False)
    return asked


def _is_old(query: str) -> bool:
    versions = [value for key, value in parse_qsl(query) if key == "api-version"]
    return any(_DATE.match(value) and value[:10] < FIRST_WITH_USAGE for value in versions)
