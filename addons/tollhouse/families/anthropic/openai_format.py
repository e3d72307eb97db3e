"""Anthropic's API in OpenAI's format (https://platform.claude.com/docs/en/api/openai-sdk), by OpenAI's readers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.openai import estimate, meter, rewrite
from tollhouse.families.openai import request as openai


def read(request: Request, dialect: Dialect) -> Asked:
    """A stream is made to ask for its usage. Thoughts are not in the answer: silences may be some."""
    asked = openai.read(request, replace(dialect, usage_in_stream="on_request"))
    return asked._replace(reasons="thinking" in asked.document.tree)


KIND: Final = Kind(read, estimate.estimate, meter.meter, rewrite.rewrite)
