"""Chat completions in OpenAI's format at Bedrock, read by the readers of that family.

https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html: the model
stands in the body, and a stream tells its usage only if the request asks for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tollhouse.families.base import Asked, Dialect, Request
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.openai import OPENAI


def read(request: Request, dialect: Dialect) -> Asked:
    return OPENAI.read(request, replace(dialect, usage_in_stream="on_request"))


CHAT: Final = Kind(read, OPENAI.estimate, OPENAI.meter, OPENAI.rewrite)
