"""Which endpoints of Anthropic's API there are, and what each costs:
https://platform.claude.com/docs/en/api/overview."""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.operation import Cost, Objects, Operation, Route, model_list

_ID: Final = r"[A-Za-z0-9._:-]+"
_KEPT: Final = rf"(?P<object>{_ID})"

MESSAGES: Final = Operation("messages", "metered", reads_body=True)
CHAT: Final = Operation("chat", "metered", reads_body=True)
"""In OpenAI's format: https://platform.claude.com/docs/en/api/openai-sdk."""
HELLO: Final = Operation("hello", "free", keyless=True)
"""What Claude Code asks before its first call. Without an answer it does not begin."""
COUNT: Final = Operation("count_tokens", "free", reads_body=True, creates=False)
BATCH: Final = Operation("batch", "job", reads_body=True, objects="makes")
RESULTS: Final = Operation("batches", "free", shows_usage=True)
UPLOAD: Final = Operation("upload", "free", reads_body=True, objects="makes", upload="bytes")
VERSION: Final = Operation("upload", "free", reads_body=True, upload="bytes")
AGENTS: Final = Operation("agents", "job", reads_body=True, objects="makes")
AGENT: Final = Operation("agents", "job", reads_body=True)


def _free(kind: str, objects: Objects = "") -> Operation:
    return Operation(kind, "free", objects=objects)


def _route(method: str, path: str, operation: Operation) -> Route:
    return Route(method, re.compile(path), operation)


def _kept(path: str, kind: str) -> tuple[Route, ...]:
    """A list of objects, one of them, and its end."""
    return (
        _route("GET", path, _free(kind, "lists")),
        _route("GET", f"{path}/{_KEPT}", _free(kind)),
        _route("DELETE", f"{path}/{_KEPT}", _free(kind, "deletes")),
    )


def _closed(path: str, kind: str, cost: Cost, methods: tuple[str, ...]) -> tuple[Route, ...]:
    return tuple(_route(method, path, Operation(kind, cost)) for method in methods)


_INNER: Final = (
    rf"(?:/archive|/events(?:/stream)?|/resources(?:/{_ID})?"
    rf"|/threads(?:/{_ID}(?:/(?:archive|events|stream))?)?)?"
)
"""What belongs to a session: anthropic-python `resources/beta/sessions`."""

ROUTES: Final = (
    _route("POST", "/v1/messages", MESSAGES),
    _route("POST", "/v1/chat/completions", CHAT),
    _route("GET", "/api/hello", HELLO),
    _route("POST", "/v1/messages/count_tokens", COUNT),
    *model_list("/v1/models"),
    # Half the price, when it is done: https://platform.claude.com/docs/en/build-with-claude/batch-processing.
    _route("POST", "/v1/messages/batches", BATCH),
    *_kept("/v1/messages/batches", "batches"),
    _route("GET", f"/v1/messages/batches/{_KEPT}/results", RESULTS),
    _route("POST", f"/v1/messages/batches/{_KEPT}/cancel", _free("batches")),
    # https://platform.claude.com/docs/en/build-with-claude/files
    _route("POST", "/v1/files", UPLOAD),
    *_kept("/v1/files", "files"),
    _route("GET", f"/v1/files/{_KEPT}/content", _free("files")),
    # https://platform.claude.com/docs/en/build-with-claude/skills-guide
    _route("POST", "/v1/skills", UPLOAD),
    *_kept("/v1/skills", "skills"),
    _route("POST", f"/v1/skills/{_KEPT}/versions", VERSION),
    _route("GET", f"/v1/skills/{_KEPT}/versions", _free("skills")),
    _route("GET", f"/v1/skills/{_KEPT}/versions/{_ID}", _free("skills")),
    _route("GET", f"/v1/skills/{_KEPT}/versions/{_ID}/content", _free("skills")),
    _route("DELETE", f"/v1/skills/{_KEPT}/versions/{_ID}", _free("skills")),
    # Managed agents: what they use is told in the events of their sessions, and no answer has it.
    _route("POST", "/v1/sessions", AGENTS),
    _route("GET", "/v1/sessions", Operation("agents", "job", objects="lists")),
    _route("POST", rf"/v1/sessions/{_KEPT}{_INNER}", AGENT),
    *_closed(rf"/v1/sessions/{_KEPT}{_INNER}", "agents", "job", ("GET", "DELETE")),
    _route("POST", f"/v1/deployments/{_KEPT}/run", AGENT),
    _route("POST", "/v1/dreams", AGENTS),
    _route("GET", "/v1/dreams", Operation("agents", "job", objects="lists")),
    *_closed(rf"/v1/dreams/{_KEPT}", "agents", "job", ("GET",)),
    _route("POST", f"/v1/dreams/{_KEPT}/(?:archive|cancel)", AGENT),
    # Users, keys, limits and bills: https://platform.claude.com/docs/en/build-with-claude/administration-api.
    *_closed(
        rf"/v1/organizations(?:/{_ID}){{1,6}}",
        "organization",
        "account",
        ("GET", "POST", "PUT", "PATCH", "DELETE"),
    ),
    *_closed("/v1/oauth/token", "token", "mints", ("POST",)),
)
