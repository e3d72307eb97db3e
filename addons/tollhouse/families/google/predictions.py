"""``predict``: images of Imagen, and at Vertex vectors of the models before Gemini's.

https://ai.google.dev/api/models#method:-models.predict and
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/imagen-api.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import parsed, refuse
from tollhouse.families.google import spelled
from tollhouse.families.google.contents import InputCount, InputSums
from tollhouse.families.google.meter import ElementMeter
from tollhouse.families.google.request import Detail, model_of
from tollhouse.families.google.spelled import known, members
from tollhouse.families.google.told import Metadata
from tollhouse.families.google.usage import count
from tollhouse.families.meters import AnswerHead, Boundary
from tollhouse.families.units import Charge, Estimate, Units

_BODY: Final = known("instances", "parameters", "labels")
_PARAMETERS: Final = known("sampleCount", "storageUri")
_MOST_IMAGES: Final = 8
"""https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/imagen-api: 1 to 4; older
models 8."""
_IMAGES: Final = (b'"bytesBase64Encoded"', b'"gcsUri"')


def read_images(request: Request, dialect: Dialect) -> Asked:
    document = parsed(request.body)
    values = members(document.tree, _BODY)
    parameters = members(spelled.obj(values, "parameters") or {}, _PARAMETERS, "parameters.")
    samples = spelled.integer(parameters, "sampleCount", 1, _MOST_IMAGES, "parameters.")
    # The default differs by model: 1 to 4, the same page.
    images = (4 if samples is None else samples) * max(len(spelled.objects(values, "instances")), 1)
    return Asked(
        model_of(request.path), writes=False, reasons=False, detail=Detail(), document=images
    )


def estimate_images(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    images: int = asked.document
    return Estimate(Units(images=images, requests=1))


class ImageMeter:
    """Counts the images of an answer as they pass by. One that was filtered out is not there, and
    not charged."""

    output_seen = 0
    done = False
    error = ""
    edits = False
    boundary: Boundary | None = None
    created: tuple[str, ...] = ()

    def __init__(self, asked: Asked, head: AnswerHead) -> None:
        self._images = 0
        self._tail = b""
        self._whole = False

    def feed(self, data: bytes) -> bytes:
        window = self._tail + data
        for key in _IMAGES:
            at = window.find(key)
            while at >= 0:
                # Behind a backslash it is text of a string. What began in the tail counts once it
                # reaches beyond it.
                if window[at - 1 : at] != b"\\" and at + len(key) > len(self._tail):
                    self._images += 1
                at = window.find(key, at + 1)
        self._tail = window[-32:]
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return (Charge("", Units(images=self._images, requests=1)),) if self._images else ()


def read_vectors(request: Request, dialect: Dialect) -> Asked:
    document = parsed(request.body)
    values = members(document.tree, _BODY)
    model = model_of(request.path)
    contents = InputCount(document, model)
    instances = spelled.objects(values, "instances")
    if not instances:
        refuse('The body has no "instances".')
    for instance in instances:
        contents.rendered(instance)
    if any(set(instance) - {"content", "task_type", "taskType", "title"} for instance in instances):
        # Images and videos have prices of their own, and no count.
        refuse('Of "instances" the gateway can charge texts alone ("content").')
    return Asked(model, writes=False, reasons=False, detail=Detail(), document=contents.found())


def estimate_vectors(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    found: InputSums = asked.document
    tokens = found.worst if mode == "worst" else found.typical
    # Characters are never more than bytes; `InputCount` counts two for each in its worst case.
    characters = 0 if by_tokens(asked.model) else found.worst
    return Estimate(Units(input=0 if characters else tokens, characters=characters, requests=1))


def by_tokens(model: str) -> bool:
    """Gemini's vectors are charged by tokens, older ones by characters:
    https://cloud.google.com/vertex-ai/generative-ai/pricing#embedding-models."""
    return model.startswith("gemini-")


class _Vectors(Metadata):
    def __init__(self, asked: Asked, head: AnswerHead) -> None:
        super().__init__(asked, head)
        self._by_tokens = by_tokens(asked.model)
        self._told: Units | None = None

    def read(self, document: object) -> None:
        if not isinstance(document, Mapping):
            return
        metadata = document.get("metadata")
        characters = count(_inside(metadata, "billableCharacterCount"))
        if characters is not None and not self._by_tokens:
            self._told = Units(characters=characters, requests=1)
            return
        predictions = document.get("predictions")
        counts = [
            count(_inside(one, "embeddings", "statistics", "token_count"))
            for one in (predictions if isinstance(predictions, list) else ())
        ]
        if counts and None not in counts and self._by_tokens:
            self._told = Units(input=sum(filter(None, counts)), requests=1)

    def charges(self) -> tuple[Charge, ...]:
        return () if self._told is None else (Charge("", self._told),)


def _inside(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def vector_meter(asked: Asked, head: AnswerHead) -> ElementMeter:
    return ElementMeter(_Vectors(asked, head), streams=False)
