"""OpenAI's API, and that of all who speak like it: https://platform.openai.com/docs/api-reference.

request                 the body, read strictly         estimate    the tokens that it will take
rewrite                 the bytes that are changed      media       of images, audio and files
meter                   usage in an answer              errors      ours, and what theirs say of a key
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.base import Family, Operation, Route, model_list
from tollhouse.families.formats.content import sent_as_json
from tollhouse.families.openai.errors import VERDICTS, error_body, error_event
from tollhouse.families.openai.estimate import estimate
from tollhouse.families.openai.meter import meter
from tollhouse.families.openai.request import read
from tollhouse.families.openai.rewrite import rewrite

CHAT: Final = Operation("chat", "metered", reads_body=True)
EMBEDDINGS: Final = Operation("embeddings", "metered", reads_body=True)

OPENAI: Final = Family(
    "openai",
    routes=(
        Route("POST", re.compile(r"/v1/chat/completions"), CHAT),
        Route("POST", re.compile(r"/v1/embeddings"), EMBEDDINGS),
        *model_list("/v1/models"),
    ),
    error_body=error_body,
    error_event=error_event,
    verdicts=VERDICTS,
    spoken_by_others=True,
    read=read,
    rewrite=rewrite,
    sent_headers=sent_as_json,
    estimate=estimate,
    meter=meter,
)
