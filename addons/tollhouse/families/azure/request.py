"""What a request to Azure asks: OpenAI's body, and the deployment, which may stand in the path."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from tollhouse.denial import Refused
from tollhouse.families.azure.routes import DEPLOYMENT
from tollhouse.families.base import Asked, Dialect, Request
from tollhouse.families.formats.document import parsed
from tollhouse.families.openai import OPENAI

FIRST_WITH_USAGE: Final = "2024-09-01"
"""The first api-version whose streams can be asked for their usage. An older one refuses ``stream_options``:
https://learn.microsoft.com/azure/ai-services/openai/api-version-deprecation."""
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def read(request: Request, dialect: Dialect) -> Asked:
    """``model`` is the deployment. The body's ``model`` counts only where the path names none."""
    named = DEPLOYMENT.fullmatch(request.path)
    asked = _of_deployment(request, dialect, named[1]) if named else OPENAI.read(request, dialect)
    if asked.asks_for_usage and _is_old(request.query):
        return asked._replace(asks_for_usage=False)
    return asked


def _of_deployment(request: Request, dialect: Dialect, name: str) -> Asked:
    try:
        asked = OPENAI.read(request, dialect)
    except Refused:
        # OpenAI's reader demands a model. Azure ignores the one of the body, so a body may have none.
        body = request.body.lstrip(b" \t\r\n")
        if not body.startswith(b"{") or "model" in parsed(request.body).tree:
            raise
        rest = body[1:].lstrip(b" \t\r\n")
        member = b'{"model":"%s"%s' % (name.encode(), b"" if rest.startswith(b"}") else b",")
        asked = OPENAI.read(request._replace(body=member + rest), dialect)
    return asked._replace(model=name)


def _is_old(query: str) -> bool:
    versions = [value for key, value in parse_qsl(query) if key == "api-version"]
    return any(_DATE.match(value) and value[:10] < FIRST_WITH_USAGE for value in versions)
