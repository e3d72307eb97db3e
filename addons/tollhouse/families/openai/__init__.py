"""OpenAI's API, and that of all who speak like it: https://platform.openai.com/docs/api-reference.

request        the body, read strictly
known_fields   the fields of a request that are known
estimate       the tokens that a request will take
media          tokens of images, audio and files
pixels         width and height of an image
models         which models can reason in silence
rewrite        the bytes of a request that are changed
meter          usage in an answer, as it streams by
usage          what the members of an answer mean
errors         our errors, and what theirs say of a key
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.base import Family, Operation, Route, model_list
from tollhouse.families.formats.content import sent_as_json
from tollhouse.families.openai import errors, estimate, meter, request, rewrite

CHAT: Final = Operation("chat", "metered", reads_body=True)
EMBEDDINGS: Final = Operation("embeddings", "metered", reads_body=True)

OPENAI: Final = Family(
    "openai",
    routes=(
        Route("POST", re.compile(r"/v1/chat/completions"), CHAT),
        Route("POST", re.compile(r"/v1/embeddings"), EMBEDDINGS),
        *model_list("/v1/models"),
    ),
    error_body=errors.error_body,
    error_event=errors.error_event,
    verdicts=errors.VERDICTS,
    spoken_by_others=True,
    read=request.read,
    rewrite=rewrite.rewrite,
    sent_headers=sent_as_json,
    estimate=estimate.estimate,
    meter=meter.meter,
)
