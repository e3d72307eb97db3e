"""Requests that make objects which the provider keeps, or that start a job: files, skills, batches and
sessions. Their answers have an id and no usage."""

from __future__ import annotations

from typing import Final

from tollhouse.families.anthropic.message_fields import objects, optional
from tollhouse.families.anthropic.request import MAX_OBJECTS, of_document
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import Document, parsed, refuse
from tollhouse.families.formats.generic import objects_of
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.meters import AnswerHead, Meter, PassThrough
from tollhouse.families.units import Estimate, Units
from tollhouse.headers import Headers

_MAX_MODELS: Final = 32
_MAX_ID: Final = 1_024
_NOTHING: Final = Asked(writes=False, reasons=False)


def read_upload(request: Request, dialect: Dialect) -> Asked:
    """A file has any form. Nothing in it is judged."""
    return _NOTHING


def read_batch(request: Request, dialect: Dialect) -> Asked:
    """The models and the objects of all requests of a batch, each read as strictly as one alone.
    ``detail`` is True where one of them may use a container that is charged by its time."""
    document = parsed(request.body)
    models: dict[str, None] = {}
    ids: dict[str, None] = {}
    unknown = executes = False
    for one in objects(document.tree, "requests"):
        params = optional(one, "params", dict, "an object", "requests.")
        if params is None:
            refuse('A request of the batch has no "params".')
        asked = of_document(Document(params, document.long))
        models.update(dict.fromkeys((asked.model, *asked.other_models)))
        ids.update(dict.fromkeys(asked.objects))
        unknown = unknown or asked.models_unknown or len(models) > _MAX_MODELS
        executes = executes or asked.detail.executes
        if len(ids) > MAX_OBJECTS:
            refuse(f"The body names more than {MAX_OBJECTS} objects.")
    if not models:
        refuse('The body has no "requests".')
    found = _NOTHING._replace(objects=tuple(ids), detail=executes)
    if unknown:
        return found._replace(models_unknown=True)
    first, *others = models
    return found._replace(model=first, other_models=tuple(others))


def read_agents(request: Request, dialect: Dialect) -> Asked:
    """An agent chooses its models itself. Files, vaults and the agent are named in the body."""
    named = objects_of(parsed(request.body)) if request.body else ()
    return _NOTHING._replace(models_unknown=True, objects=named)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Nobody asks: none of these is metered."""
    return Estimate(Units(requests=1))


def as_they_are(headers: Headers, asked: Asked) -> Headers:
    """The headers of a body of any type."""
    return headers


def meter(asked: Asked, head: AnswerHead) -> Meter:
    return Made()


class Made(PassThrough):
    """Reads the id of what was made."""

    def __init__(self) -> None:
        self._topmost = Topmost(("id",))

    @property
    def created(self) -> tuple[str, ...]:  # type: ignore[override]
        found = self._topmost.found.get("id")
        return (found,) if isinstance(found, str) and 0 < len(found) <= _MAX_ID else ()

    def feed(self, data: bytes) -> bytes:
        self._topmost.feed(data)
        return data
