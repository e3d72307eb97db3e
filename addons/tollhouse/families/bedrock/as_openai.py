"""Chat completions in OpenAI's format at Bedrock, read by the readers of that family.

https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html: the model
stands in the body, and a stream tells its usage only if the request asks for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.bedrock.converse import GUARDED
from tollhouse.families.bedrock.invoke import guarded
from tollhouse.families.formats.document import refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.openai import OPENAI


def read(request: Request, dialect: Dialect) -> Asked:
    """Raises `Refused`. A guardrail stands in a header here. OpenAI's readers hold and charge, once
    an answer, what `Asked.detail` names."""
    asked = OPENAI.read(request, replace(dialect, usage_in_stream="on_request"))
    if not guarded(request.headers):
        return asked
    if asked.detail:
        refuse(
            'The request has a guardrail and "web_search_options". Bedrock has no search in chat '
            'completions: leave "web_search_options" out.'
        )
    return asked._replace(detail=GUARDED.model)


CHAT: Final = Kind(read, OPENAI.estimate, OPENAI.meter, OPENAI.rewrite)
