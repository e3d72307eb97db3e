"""The endpoints of OpenAI's API beside its texts: images, sound, what the provider keeps, work that
is done later.

A route's ``object`` groups are ids of what the provider keeps.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.openai.never_open import never_open
from tollhouse.families.operation import Operation, Route

IMAGES: Final = Operation("images", "metered", reads_body=True, upload="form")
SPEECH: Final = Operation("speech", "metered", reads_body=True)
HEARD: Final = Operation("transcriptions", "metered", reads_body=True, upload="form")
DECISIONS: Final = Operation("decisions", "metered", reads_body=True)
SEARCH: Final = Operation("file_search", "metered", reads_body=True)
CONTAINER: Final = Operation("containers", "metered", reads_body=True, objects="makes")
MODERATIONS: Final = Operation("moderations", "free", reads_body=True, creates=False)
KEPT: Final = Operation("objects", "free")
OUTPUT: Final = Operation("objects", "free", shows_usage=True)
"""A file, which may be the output of a batch."""
LISTED: Final = Operation("objects", "free", objects="lists")
MADE: Final = Operation("objects", "free", reads_body=True, objects="makes", upload="form")
CHANGED: Final = Operation("objects", "free", reads_body=True)
DELETED: Final = Operation("objects", "free", objects="deletes")
JOB: Final = Operation("jobs", "job", reads_body=True, objects="makes", upload="form")
BATCH: Final = Operation("batches", "job", reads_body=True, objects="makes")
"""A job that shows its usage when it is over."""
SHOWN: Final = Operation("objects", "free", objects="makes")
"""A job is shown, with the files that it has made by now."""
SHOWN_BATCH: Final = Operation("objects", "free", objects="makes", shows_usage=True)
ENDED_BATCH: Final = Operation(
    "objects", "free", reads_body=True, objects="makes", shows_usage=True
)

_ID: Final = r"[A-Za-z0-9._:-]{1,256}"


def _route(method: str, path: str, operation: Operation) -> Route:
    """``{}`` stands for an id. The first is the group ``object``, the next ``object2``."""
    pattern, number = path, 0
    while "{}" in pattern:
        number += 1
        name = "object" if number == 1 else f"object{number}"
        pattern = pattern.replace("{}", f"(?P<{name}>{_ID})", 1)
    return Route(method, re.compile(pattern), operation)


def _kept(path: str, *, changed: bool = True) -> tuple[Route, ...]:
    """All that is done with one kind of objects: made, listed, shown, changed, deleted."""
    one = f"{path}/{{}}"
    return (
        _route("POST", path, MADE),
        _route("GET", path, LISTED),
        _route("GET", one, KEPT),
        *((_route("POST", one, CHANGED),) if changed else ()),
        _route("DELETE", one, DELETED),
    )


def _within(path: str, made: Operation = MADE) -> tuple[Route, ...]:
    """The same for what belongs to one object. Its list shows nothing of anybody else's, and the
    object stays when a part of it is deleted."""
    one = f"{path}/{{}}"
    return (
        _route("POST", path, made),
        _route("GET", path, KEPT),
        _route("GET", one, KEPT),
        _route("DELETE", one, KEPT),
    )


def _job(path: str, *steps: str) -> tuple[Route, ...]:
    """Work that is done later. To look at it and to end it costs nothing."""
    one = f"{path}/{{}}"
    return (
        _route("POST", path, JOB),
        _route("GET", path, LISTED if "{}" not in path else KEPT),
        _route("GET", one, SHOWN),
        *(_route("POST", f"{one}/{step}", CHANGED) for step in steps),
    )


MEDIA: Final = (
    _route("POST", "/v1/images/(?:generations|edits|variations)", IMAGES),
    _route("POST", "/v1/audio/speech", SPEECH),
    _route("POST", "/v1/audio/(?:transcriptions|translations)", HEARD),
    _route("POST", "/v1/decisions", DECISIONS),
    _route("POST", "/v1/moderations", MODERATIONS),
)
_STORE: Final = "/v1/vector_stores/{}"
OBJECTS: Final = (
    *_kept("/v1/files", changed=False),
    _route("GET", "/v1/files/{}/content", OUTPUT),
    _route("POST", "/v1/uploads", MADE),
    _route("POST", "/v1/uploads/{}/parts", MADE),
    _route("POST", "/v1/uploads/{}/complete", MADE),
    _route("POST", "/v1/uploads/{}/cancel", CHANGED),
    *_kept("/v1/vector_stores"),
    _route("POST", f"{_STORE}/search", SEARCH),
    # The file is there already.
    *_within(f"{_STORE}/files", CHANGED),
    _route("POST", f"{_STORE}/files/{{}}", CHANGED),
    _route("GET", f"{_STORE}/files/{{}}/content", KEPT),
    _route("POST", f"{_STORE}/file_batches", MADE),
    _route("GET", f"{_STORE}/file_batches/{{}}", KEPT),
    _route("GET", f"{_STORE}/file_batches/{{}}/files", KEPT),
    _route("POST", f"{_STORE}/file_batches/{{}}/cancel", CHANGED),
    _route("POST", "/v1/containers", CONTAINER),
    _route("GET", "/v1/containers", LISTED),
    _route("GET", "/v1/containers/{}", KEPT),
    _route("DELETE", "/v1/containers/{}", DELETED),
    *_within("/v1/containers/{}/files"),
    _route("GET", "/v1/containers/{}/files/{}/content", KEPT),
    *_kept("/v1/skills"),
    _route("GET", "/v1/skills/{}/content", KEPT),
    *_within("/v1/skills/{}/versions"),
    _route("GET", "/v1/skills/{}/versions/{}/content", KEPT),
    *_kept("/v1/assistants"),
    _route("POST", "/v1/threads", MADE),
    _route("GET", "/v1/threads/{}", KEPT),
    _route("POST", "/v1/threads/{}", CHANGED),
    _route("DELETE", "/v1/threads/{}", DELETED),
    *_within("/v1/threads/{}/messages"),
    _route("POST", "/v1/threads/{}/messages/{}", CHANGED),
)
JOBS: Final = (
    _route("POST", "/v1/batches", BATCH),
    _route("GET", "/v1/batches", LISTED),
    _route("GET", "/v1/batches/{}", SHOWN_BATCH),
    _route("POST", "/v1/batches/{}/cancel", ENDED_BATCH),
    *_job("/v1/fine_tuning/jobs", "cancel", "pause", "resume"),
    _route("GET", "/v1/fine_tuning/jobs/{}/(?:events|checkpoints)", KEPT),
    _route("POST", "/v1/fine_tuning/alpha/graders/(?:run|validate)", JOB),
    *_job("/v1/videos"),
    _route("POST", "/v1/videos/(?:characters|edits|extensions)", JOB),
    _route("POST", "/v1/videos/{}/remix", JOB),
    _route("GET", "/v1/videos/{}/content", KEPT),
    _route("DELETE", "/v1/videos/{}", DELETED),
    _route("POST", "/v1/threads/runs", JOB),
    *_job("/v1/threads/{}/runs", "cancel"),
    # The run goes on, and costs more.
    _route("POST", "/v1/threads/{}/runs/{}/submit_tool_outputs", JOB),
    _route("GET", "/v1/threads/{}/runs/{}/steps", KEPT),
    _route("GET", "/v1/threads/{}/runs/{}/steps/{}", KEPT),
    *_kept("/v1/evals"),
    *_job("/v1/evals/{}/runs"),
    _route("POST", "/v1/evals/{}/runs/{}", CHANGED),
    _route("POST", "/v1/evals/{}/runs/{}/cancel", CHANGED),
    _route("DELETE", "/v1/evals/{}/runs/{}", KEPT),
    _route("GET", "/v1/evals/{}/runs/{}/output_items", KEPT),
    _route("GET", "/v1/evals/{}/runs/{}/output_items/{}", KEPT),
)
MORE_ROUTES: Final = (*never_open("/v1"), *MEDIA, *JOBS, *OBJECTS)
"""The first that fits counts: ``/v1/threads/runs`` is no thread."""
