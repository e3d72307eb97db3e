"""Objects that the provider keeps: files, vector stores, assistants, threads. They cost nothing
here, and their ids are told. https://platform.openai.com/docs/api-reference/files.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeGuard

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import Document, named, parsed, refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.multipart import Part, form_of, is_multipart
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.meters import AnswerHead, Boundary, PassThrough
from tollhouse.families.openai.form_fields import FormFields, sent_headers
from tollhouse.families.units import Charge, Estimate, Units

# fmt: off
ID_FIELDS: Final = frozenset(
    {
        "file_id", "file_ids", "input_file_id", "training_file", "validation_file", "part_ids",
        "vector_store_id", "vector_store_ids", "thread_id", "assistant_id", "batch_id",
        "container_id", "container", "conversation", "conversation_id", "previous_response_id",
        "skill_id", "skill_ids", "upload_id", "run_id", "video_id", "eval_id",
    }
)
# fmt: on
"""Fields whose value is an id, or a list of them, or an object with one."""
REFERENCES: Final = frozenset({"video", "source"})
"""Fields whose value may be an object with an id: `video_edit_params.py` and
`evals/run_create_params.py` of openai-python. A video may be a file of the form as well."""
_OF_EVERYBODY: Final = ("stored_completions", "responses")
"""Sources of a run of evals that are all requests ever made with a key: `evals/run_create_params.py`. No tenant has made
them all."""
_SEGMENT: Final = re.compile(r"[^\[\]]+")
_BESIDE: Final = ("output_file_id", "error_file_id", "thread_id")
"""Ids beside an object's own: of a batch and of a run."""
_MOST_RESULTS: Final = 100
_LONGEST: Final = 256


def read(request: Request, dialect: Dialect) -> Asked:
    """A body that is empty, JSON, or a form whose files are passed on."""
    if not request.body and request.form is None:
        return Asked(writes=False, reasons=False)
    if is_multipart(request.headers):
        found = form_of(request, ID_FIELDS | {"purpose"}, ID_FIELDS)
        texts = {
            f"{number}": {"file_id": found.text(part)}
            for number, part in enumerate(found.parts)
            if _names_object(part)
        }
        return Asked(
            writes=False,
            reasons=False,
            objects=named_objects(Document(texts, {})),
            document=FormFields(texts, {}, found),
        )
    document = parsed(request.body)
    return Asked(writes=False, reasons=False, objects=named_objects(document), document=document)


def _names_object(part: Part) -> bool:
    """Whether a part of a form is an id: ``file_id``, ``file_ids[]``, ``input_reference[file_id]``,
    ``video[id]``."""
    words = _SEGMENT.findall(part.name)
    return any(word in ID_FIELDS for word in words) or (
        words[0] in REFERENCES and words[1:] == ["id"]
    )


def named_objects(document: Document) -> tuple[str, ...]:
    """The ids that the body names, each once."""
    found: dict[str, None] = {}
    _collect(document.tree, document, found, inside=False)
    return tuple(found)


def _collect(value: Any, document: Document, found: dict[str, None], *, inside: bool) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            if key in REFERENCES and isinstance(one, dict) and isinstance(one.get("id"), str):
                _collect(one["id"], document, found, inside=True)
            if key == "source" and isinstance(one, dict) and one.get("type") in _OF_EVERYBODY:
                found[f"all {one['type']}"] = None
            _collect(one, document, found, inside=key in ID_FIELDS or (inside and key == "id"))
    elif isinstance(value, list):
        for one in value:
            _collect(one, document, found, inside=inside)
    elif inside and isinstance(value, str):
        name = named(value, document.long)
        found[name[:_LONGEST]] = None


def nothing(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    return Estimate(Units(requests=1))


class CreatedMeter:
    """Reads the id at the outermost level of a JSON answer, as soon as it has come, and those of
    what came into being with it: the file of an upload, the thread of a run, the results of a job."""

    done = False
    error = ""
    edits = False
    boundary: Boundary | None = None
    output_seen = 0

    def __init__(self, charges: tuple[Charge, ...] = ()) -> None:
        self._topmost = Topmost(("id", "file", "result_files", *_BESIDE))
        self._charges = charges

    @property
    def created(self) -> tuple[str, ...]:
        found = self._topmost.found
        inner, results = found.get("file"), found.get("result_files")
        ids: tuple[object, ...] = (
            found.get("id"),
            inner.get("id") if isinstance(inner, dict) else None,
            *(found.get(key) for key in _BESIDE),
            *(results[:_MOST_RESULTS] if isinstance(results, list) else ()),
        )
        return tuple(one for one in ids if _is_id(one))

    def feed(self, data: bytes) -> bytes:
        self._topmost.feed(data)
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._charges


def _is_id(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST
        and value.isascii()
        and value.isprintable()
    )


def meter(asked: Asked, head: AnswerHead) -> CreatedMeter:
    return CreatedMeter()


def unmetered(asked: Asked, head: AnswerHead) -> PassThrough:
    return PassThrough()


def shut(request: Request, dialect: Dialect) -> Asked:
    """What is refused always is refused here as well, whoever has let it come this far."""
    raise Refused("path_not_allowed", f"{request.path[:120]!a} is never open.")


OBJECTS: Final = Kind(read, nothing, meter, sent_headers=sent_headers)
FREE: Final = Kind(read, nothing, unmetered, sent_headers=sent_headers)
"""What costs nothing and makes nothing."""
SHUT: Final = Kind(shut, nothing, unmetered, sent_headers=sent_headers)


def _tool(name: str, size: str = "") -> Kind:
    """An operation that costs one use of a tool of the provider's. ``size`` is the field of the body
    that its price depends on."""

    def read_tool(request: Request, dialect: Dialect) -> Asked:
        asked = read(request, dialect)
        tree = asked.document.tree if isinstance(asked.document, Document) else {}
        tier = tree.get(size)
        if tier is not None and not isinstance(tier, str):
            refuse(f'"{size}" must be a string.')
        return asked._replace(model=name, tier=(tier or "")[:32])

    def meter_tool(asked: Asked, head: AnswerHead) -> CreatedMeter:
        return CreatedMeter((Charge(name, Units(requests=1), asked.tier),))

    return Kind(read_tool, nothing, meter_tool, sent_headers=sent_headers)


SEARCH: Final = _tool("file_search")
CONTAINER: Final = _tool("code_interpreter", "memory_limit")
