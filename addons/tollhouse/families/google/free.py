"""Requests that cost nothing and have a body: uploads, and small objects of JSON."""

from __future__ import annotations

from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import parsed, refuse
from tollhouse.families.google.kept_names import file_of, name_of
from tollhouse.families.google.models import plain
from tollhouse.families.google.request import model_of
from tollhouse.families.units import Estimate, Units
from tollhouse.headers import Headers

_MODELS: Final = ("model", "baseModel", "base_model")
_URIS: Final = frozenset({"fileUri", "file_uri"})
_URI: Final = "uri"
"""Of a video of Veo's (https://ai.google.dev/gemini-api/docs/video). A client's function may have a
parameter of this name, so only one of Google's counts."""
_GOOGLES: Final = "googleapis.com"
_COMMAND: Final = "x-goog-upload-command"
_PROTOCOL: Final = "x-goog-upload-protocol"
_OF_PARTS: Final = frozenset({"upload", "finalize", "query", "cancel"})
_MOST_OBJECTS: Final = 1_000


def read_json(request: Request, dialect: Dialect) -> Asked:
    """A body that may be empty. All objects that it names count."""
    objects: dict[str, None] = {}
    if request.body.strip():
        document = parsed(request.body)
        _names(document.name, document.tree, objects)
    return Asked(writes=False, reasons=False, objects=tuple(objects))


def _names(name: Any, value: Any, objects: dict[str, None], key: str = "") -> None:
    """``key`` says whether a text is where a file is. Any other may be a prompt."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _names(name, inner, objects, key)
    elif isinstance(value, list):
        for inner in value:
            _names(name, inner, objects)
    elif isinstance(value, str):
        text = name(value)
        of_file = key in _URIS or (key == _URI and text.lower().find(_GOOGLES) >= 0)
        if found := file_of(text) if of_file else name_of(text):
            objects[found] = None
        if len(objects) > _MOST_OBJECTS:
            refuse(f"The body names more than {_MOST_OBJECTS} objects; name fewer in one request.")


def read_job(request: Request, dialect: Dialect) -> Asked:
    """Work whose cost comes later. Its model stands in the path, or in the body."""
    asked = read_json(request, dialect)
    model = model_of(request.path)
    if not model and request.body.strip():
        document = parsed(request.body)
        found = (document.name(document.tree.get(key)) for key in _MODELS)
        model = next((name for name in found if isinstance(name, str)), "")
    return asked._replace(model=plain(model.rpartition("/models/")[2] or model))


def read_upload(request: Request, dialect: Dialect) -> Asked:
    """The bytes of a file, or the words that begin an upload: nothing of them is read."""
    return Asked(writes=False, reasons=False)


def read_upload_part(request: Request, dialect: Dialect) -> Asked:
    """Raises `Refused` for a request that begins an upload. It would be a job that nobody has paid
    for: https://ai.google.dev/gemini-api/docs/file-search#upload-files."""
    said = [value for name, value in request.headers if name == _COMMAND]
    words = {word.strip().lower() for word in ",".join(said).split(",")}
    protocols = {value.strip().lower() for name, value in request.headers if name == _PROTOCOL}
    if not words <= _OF_PARTS or not protocols <= {"resumable"}:
        refuse(
            "The query has an upload_id, so the request must go on with an upload that was begun: it needs "
            'the header X-Goog-Upload-Command ("upload", "upload, finalize", "query" or "cancel"), and '
            'X-Goog-Upload-Protocol may be "resumable" alone. Leave upload_id out to begin an upload.'
        )
    return read_upload(request, dialect)


def unchanged_headers(headers: Headers, asked: Asked) -> Headers:
    """A file goes out under its own type."""
    return headers


def nothing(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    return Estimate(Units())
