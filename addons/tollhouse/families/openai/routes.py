"""Which endpoints of OpenAI's API are open, and what each is."""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.openai.routes_more import MORE_ROUTES
from tollhouse.families.operation import Operation, Route, model_list

CHAT: Final = Operation("chat", "metered", reads_body=True)
EMBEDDINGS: Final = Operation("embeddings", "metered", reads_body=True)
COMPLETIONS: Final = Operation("completions", "metered", reads_body=True)
RESPONSES: Final = Operation("responses", "metered", reads_body=True, objects="makes")
COMPACT: Final = Operation("responses_compact", "metered", reads_body=True)
REALTIME: Final = Operation("realtime", "metered", socket=True)
RESPONSES_SOCKET: Final = Operation("responses_socket", "metered", objects="makes", socket=True)
COUNT: Final = Operation("responses_count", "free", reads_body=True, creates=False)
CONVERSATION: Final = Operation("conversation", "free", reads_body=True, objects="makes")
CONVERSATION_CHANGE: Final = Operation("conversation_change", "free", reads_body=True)
KEPT: Final = Operation("kept", "free")
"""A kept conversation is read or loses an item, or the input of a kept response is read."""
ANSWER: Final = Operation("kept", "free", objects="makes", shows_usage=True)
"""A kept response is read or cancelled: it may be one that ran in the background, and has items now."""
KEPT_NO_MORE: Final = Operation("kept", "free", objects="deletes")

_RESPONSE: Final = r"/v1/responses/(?P<object>[A-Za-z0-9_-]+)"
_CONVERSATION: Final = r"/v1/conversations/(?P<object>[A-Za-z0-9_-]+)"
_ITEM: Final = _CONVERSATION + "/items/[A-Za-z0-9_-]+"


def _route(method: str, path: str, operation: Operation) -> Route:
    return Route(method, re.compile(path), operation)


RESPONSE_ROUTES: Final = (
    _route("POST", "/v1/responses", RESPONSES),
    _route("GET", "/v1/responses", RESPONSES_SOCKET),
    _route("POST", "/v1/responses/compact", COMPACT),
    _route("POST", "/v1/responses/input_tokens", COUNT),
    _route("GET", _RESPONSE, ANSWER),
    _route("DELETE", _RESPONSE, KEPT_NO_MORE),
    _route("POST", f"{_RESPONSE}/cancel", ANSWER),
    _route("GET", f"{_RESPONSE}/input_items", KEPT),
    _route("POST", "/v1/conversations", CONVERSATION),
    _route("GET", _CONVERSATION, KEPT),
    _route("POST", _CONVERSATION, CONVERSATION_CHANGE),
    _route("DELETE", _CONVERSATION, KEPT_NO_MORE),
    _route("GET", f"{_CONVERSATION}/items", KEPT),
    _route("POST", f"{_CONVERSATION}/items", CONVERSATION_CHANGE),
    _route("GET", _ITEM, KEPT),
    _route("DELETE", _ITEM, KEPT),
)
"""The Responses and Conversations APIs."""

ROUTES: Final = (
    Route("POST", re.compile(r"/v1/chat/completions"), CHAT),
    Route("POST", re.compile(r"/v1/completions"), COMPLETIONS),
    Route("POST", re.compile(r"/v1/embeddings"), EMBEDDINGS),
    *RESPONSE_ROUTES,
    _route("GET", "/v1/realtime", REALTIME),
    *model_list("/v1/models"),
    *MORE_ROUTES,
)
