"""Which endpoints of Mistral's API are open, and what each is. The paths are those of mistralai-python."""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.operation import Cost, Objects, Operation, Route, model_list

_ID: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_OBJECT: Final = f"(?P<object>{_ID})"


def _metered(path: str, kind: str, objects: Objects = "") -> Route:
    operation = Operation(kind, "metered", reads_body=True, objects=objects)
    return Route("POST", re.compile(path), operation)


def _other(method: str, path: str, kind: str, cost: Cost = "free", objects: Objects = "") -> Route:
    return Route(method, re.compile(path), Operation(kind, cost, objects=objects))


SHOWN_BATCH: Final = Operation("batches", "free", objects="makes", shows_usage=True)
"""A batch is shown or ended. The answer names the files that it has made."""
_CONVERSATIONS: Final = "/v1/conversations"

ROUTES: Final = (
    _metered("/v1/chat/completions", "chat"),
    _metered("/v1/fim/completions", "fim"),
    _metered("/v1/agents/completions", "agent"),
    _metered("/v1/embeddings", "embeddings"),
    _metered("/v1/(?:moderations|classifications)", "classify"),
    _metered("/v1/chat/(?:moderations|classifications)", "classify"),
    _metered("/v1/ocr", "ocr"),
    _metered("/v1/audio/speech", "speech"),
    Route(
        "POST",
        re.compile("/v1/audio/transcriptions"),
        Operation("transcription", "metered", reads_body=True, upload="form"),
    ),
    _metered(_CONVERSATIONS, "conversation", "makes"),
    _metered(f"{_CONVERSATIONS}/{_OBJECT}", "append"),
    _metered(f"{_CONVERSATIONS}/{_OBJECT}/restart", "append", "makes"),
    _other("GET", _CONVERSATIONS, "conversations", objects="lists"),
    _other("GET", f"{_CONVERSATIONS}/{_OBJECT}", "conversations"),
    _other("GET", f"{_CONVERSATIONS}/{_OBJECT}/(?:history|messages)", "conversations"),
    _other("DELETE", f"{_CONVERSATIONS}/{_OBJECT}", "conversations", objects="deletes"),
    Route(
        "POST",
        re.compile("/v1/files"),
        Operation("upload", "free", reads_body=True, objects="makes", upload="bytes"),
    ),
    _other("GET", "/v1/files", "files", objects="lists"),
    _other("GET", f"/v1/files/{_OBJECT}", "files"),
    # It may be the output of a batch.
    Route(
        "GET",
        re.compile(f"/v1/files/{_OBJECT}/content"),
        Operation("files", "free", shows_usage=True),
    ),
    _other("DELETE", f"/v1/files/{_OBJECT}", "files", objects="deletes"),
    Route(
        "POST",
        re.compile("/v1/batch/jobs"),
        Operation("batch", "job", reads_body=True, objects="makes"),
    ),
    _other("GET", "/v1/batch/jobs", "batches", objects="lists"),
    Route("GET", re.compile(f"/v1/batch/jobs/{_OBJECT}"), SHOWN_BATCH),
    Route("POST", re.compile(f"/v1/batch/jobs/{_OBJECT}/cancel"), SHOWN_BATCH),
    # No other job has a body that is read here: the gate refuses it before.
    _other("POST", "/v1/fine_tuning/jobs", "tuning", "job", "makes"),
    # A document is read and indexed for money: https://mistral.ai/pricing.
    _other("POST", f"/v1/libraries/{_OBJECT}/documents", "library", "job", "makes"),
    _other("POST", "/v1/client/sessions", "session", "mints"),
    *model_list("/v1/models"),
)
"""The Responses, agents, connectors, skills and workflows are closed, and so is a file's signed URL, which would go around the
gateway."""
