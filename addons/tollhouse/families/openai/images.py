"""Images: made, edited and varied. https://platform.openai.com/docs/api-reference/images.

GPT Image models are charged by tokens, which the answer tells. All others are charged by the
image: the answer's own list is the count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.text_tokens import BYTES_PER_TOKEN
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai.answers import EventsMeter, Members, WholeMeter
from tollhouse.families.openai.form_fields import FormFields, form_fields, sent_headers
from tollhouse.families.openai.media_usage import media_units, told
from tollhouse.families.openai.usage import count_of
from tollhouse.families.units import Charge, Estimate, Units

# fmt: off
_KNOWN: Final = frozenset(
    {
        "model", "prompt", "n", "size", "quality", "stream", "partial_images", "image", "images",
        "mask", "markup", "background", "moderation", "output_compression", "output_format",
        "response_format", "style", "user", "input_fidelity", "svg", "complexity", "frame_count",
        "frame_duration_ms", "safety_identifier",
    }
)
# fmt: on
_LISTS: Final = frozenset({"image", "images", "svg"})
_FILES: Final = frozenset({"image", "images", "mask", "markup"})
MAX_N: Final = 10
"""https://platform.openai.com/docs/api-reference/images/create#images-create-n"""
MAX_IMAGES: Final = 16
"""Images of one edit: https://platform.openai.com/docs/api-reference/images/createEdit#images-createEdit-image"""
_MAX_PARTIAL: Final = 3
_MAX_FRAMES: Final = 1_000

_BY_TOKENS: Final = re.compile(r"(?:.*/)?(?:gpt-image|chatgpt-image|gpt-[0-9.]+-image)")
_PUBLISHED: Final = re.compile(r"gpt-image-1(?:-mini|\.5)?(?:-20\d\d-\d\d-\d\d)?")
"""Models whose tokens for each size and quality are published."""
_OUTPUT: Final = {"low": 408, "medium": 1_584, "high": 6_240}
"""Tokens of the largest image of a quality, 1024 x 1536: https://platform.openai.com/docs/guides/image-generation#cost-and-latency"""
_PIXELS: Final = 1_024 * 1_536
_PARTIAL: Final = 100
"""Tokens of each partial image: the same page."""
_INPUT_IMAGE: Final = 65 + 4 * 129 + 6_240
"""Tokens of an image that is edited: 65, 129 for each of at most 4 tiles, 6,240 with high fidelity.
https://platform.openai.com/docs/guides/images-vision#gpt-image-1"""
_SIZE: Final = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_AROUND: Final = 1_024
"""``worst``: text that the provider puts around the prompt. It is a margin: no number is published."""
_ENDS: Final = ("image_generation.completed", "image_edit.completed")


@dataclass(frozen=True, slots=True)
class ImageCall:
    """What the meter and the estimate have to know. ``text`` are the bytes of the prompt."""

    count: int
    inputs: int
    text: int
    quality: str
    size: str
    partial: int
    frames: int


def read(request: Request, dialect: Dialect) -> Asked:
    fields = form_fields(request, _KNOWN, _LISTS, _FILES)
    model, stream = fields.model(), fields.flag("stream")
    drawing = fields.tree.get("svg")
    others: tuple[str, ...] = ()
    unknown = False
    if isinstance(drawing, dict) and drawing.get("model") is not None:
        # A second model writes the SVG.
        name = drawing["model"]
        known = isinstance(name, str) and 0 < len(name) <= 256
        others, unknown = ((name,), False) if known else ((), True)
    elif drawing is not None:
        unknown = True
    call = ImageCall(
        count=fields.integer("n", 1, MAX_N) or 1,
        inputs=_inputs(fields),
        text=fields.size("prompt")[1],
        quality=fields.text("quality"),
        size=fields.text("size"),
        partial=fields.integer("partial_images", 0, _MAX_PARTIAL) or 0,
        frames=fields.integer("frame_count", 1, _MAX_FRAMES) or 1,
    )
    return Asked(
        model,
        others,
        unknown,
        stream,
        writes=False,
        # What a deployment serves is known only by the provider's entry.
        reasons=bool(request.model) or _by_tokens(model, others),
        objects=_named(fields),
        detail=call,
        document=fields,
    )


def _by_tokens(model: str, others: tuple[str, ...]) -> bool:
    return any(map(_BY_TOKENS.match, (model, *others)))


def _inputs(fields: FormFields) -> int:
    found = len(fields.files)
    for key in ("image", "images", "mask", "markup"):
        value = fields.tree.get(key)
        found += len(value) if isinstance(value, list) else value is not None
    if found > MAX_IMAGES + 2:
        refuse(f"The body has more than {MAX_IMAGES} images, a mask and a markup.")
    return found


def _named(fields: FormFields) -> tuple[str, ...]:
    """Images that the provider keeps."""
    found = []
    for key in ("image", "images", "mask", "markup"):
        value = fields.tree.get(key)
        for one in value if isinstance(value, list) else (value,):
            name = one.get("file_id") if isinstance(one, dict) else None
            if isinstance(name, str):
                found.append(name)
    return tuple(dict.fromkeys(found))


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    call: ImageCall = asked.detail
    if not _by_tokens(asked.model, asked.other_models):
        return Estimate(Units(images=call.count, requests=1))
    worst = mode == "worst"
    known = dialect.own_rules and _PUBLISHED.fullmatch(asked.model) and not asked.other_models
    each, text = _tokens(call, limits), call.text
    inputs = call.inputs * _INPUT_IMAGE
    if worst and not known:
        # Nobody has published the tokens of this model's images.
        each = max(each, limits.answer)
        inputs = limits.context if call.inputs else 0
    tokens = inputs + (text + _AROUND if worst else -(-text // BYTES_PER_TOKEN))
    output = call.count * (each * call.frames + call.partial * _PARTIAL)
    image = min(inputs, tokens)
    return Estimate(
        Units(input=tokens, output=output, input_image=image, output_image=output, requests=1)
    )


def _tokens(call: ImageCall, limits: Limits) -> int:
    """Tokens of one image."""
    if call.quality not in ("", "auto", *_OUTPUT):
        return limits.answer
    tokens = _OUTPUT.get(call.quality, _OUTPUT["high"])
    size = _SIZE.fullmatch(call.size)
    pixels = int(size[1]) * int(size[2]) if size is not None else _PIXELS
    return max(tokens, -(-tokens * pixels // _PIXELS))


def meter(asked: Asked, head: AnswerHead) -> Sniffed:
    call: ImageCall = asked.detail
    reader = partial(_read_answer, call, _by_tokens(asked.model, asked.other_models))
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: WholeMeter(reader),
        of_events=lambda: EventsMeter(reader, _ENDS, ends=call.count, each=_PARTIAL),
        may_edit=False,
    )


def _read_answer(
    call: ImageCall, by_tokens: bool, found: Members, before: tuple[Charge, ...]
) -> tuple[Charge, ...]:
    """Each image of a stream has a bill of its own."""
    units = media_units(found.get("usage"))
    if units is not None:
        if by_tokens and not units.output_image:
            units = units._replace(output_image=units.output)
    elif not by_tokens:
        data = found.get("data")
        # A list that is too long to be kept has as many images as were asked for.
        count = len(data) if isinstance(data, list) else 1 if "type" in found else call.count
        units = Units(images=count, requests=1) if count else None
    drawn = found.get("svg_usage")
    written = media_units(drawn)
    charges = told(found, units)
    if written is not None and isinstance(drawn, dict):
        reasoning = min(count_of(drawn.get("reasoning_tokens")) or 0, written.output)
        name = drawn.get("model")
        charges += (
            Charge(name if isinstance(name, str) else "", written._replace(reasoning=reasoning)),
        )
    return before + charges


IMAGES: Final = Kind(read, estimate, meter, sent_headers=sent_headers)
