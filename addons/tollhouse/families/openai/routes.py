"""Which endpoints of OpenAI's API are open, and what each is."""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.base import Operation, Route, model_list

CHAT: Final = Operation("chat", "metered", reads_body=True)
EMBEDDINGS: Final = Operation("embeddings", "metered", reads_body=True)

ROUTES: Final = (
    Route("POST", re.compile(r"/v1/chat/completions"), CHAT),
    Route("POST", re.compile(r"/v1/embeddings"), EMBEDDINGS),
    *model_list("/v1/models"),
)
