"""Images: what is held for, and what the answers come to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.families.samples.forms import FORM, form

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers

LIMITS = Limits(context=100_000, answer=8_000)
OWN = Dialect(own_rules=True)
JSON: Headers = (("content-type", "application/json"),)
PNG = b"\x89PNG\r\n\x1a\n"


def asked(body: dict[str, Any] | bytes, path: str = "/v1/images/generations") -> Asked:
    operation = OPENAI.operation("POST", path)
    assert operation is not None
    multipart = isinstance(body, bytes)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OPENAI.read(Request(operation, path, FORM if multipart else JSON, content), OWN)


def held(body: dict[str, Any] | bytes, mode: Mode = "typical", dialect: Dialect = OWN) -> Units:
    return OPENAI.estimate(asked(body), mode, LIMITS, dialect).units


def image(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt-image-1", "prompt": "toll", **fields}


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"quality": "low"}, 408),
        ({"quality": "medium"}, 1_584),
        ({"quality": "high", "n": 3}, 18_720),
        ({}, 6_240),
        ({"quality": "auto", "partial_images": 2}, 6_440),
        # Twice the pixels of 1024 x 1536.
        ({"quality": "low", "size": "2048x1536"}, 816),
        ({"quality": "low", "size": "256x256"}, 408),
        ({"quality": "max"}, 8_000),
        ({"quality": "low", "frame_count": 5}, 2_040),
    ],
)
def test_tokens_of_the_answer(fields: dict[str, Any], tokens: int) -> None:
    """By quality and pixels, for each image and each frame; 100 for each partial image."""
    units = held(image(**fields))
    assert (units.output, units.output_image) == (tokens, tokens)
    assert (units.input, units.images, units.requests) == (1, 0, 1)


def test_images_of_the_request() -> None:
    """6,821 tokens each, beside the prompt."""
    body = form(
        ("model", b"gpt-image-1"),
        ("prompt", b"tolltoll"),
        ("image[]", PNG, "a"),
        ("image[]", PNG, "b"),
    )
    assert held(body) == Units(
        input=13_644, input_image=13_642, output=6_240, output_image=6_240, requests=1
    )


def test_worst_holds_what_nobody_has_published() -> None:
    """The context and the longest answer of a model whose rules are not known; 1,024 tokens around each prompt."""
    new = image(model="gpt-image-2", image=[{"file_id": "f"}])
    assert held(new, "worst") == Units(
        input=101_028, input_image=100_000, output=8_000, output_image=8_000, requests=1
    )
    assert held(image(), "worst").output == 6_240
    assert held(image(), "worst", Dialect()).output == 8_000


def test_other_models_are_held_by_the_image() -> None:
    assert held({"model": "dall-e-3", "prompt": "p", "n": 4}) == Units(images=4, requests=1)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "n": 0},
        {"model": "m", "n": "2"},
        {"model": "m", "partial_images": 4},
        {"model": 1},
        {"model": ""},
        {"model": "m", "quality": 7},
        {"model": "m", "images": [{"file_id": "f"}] * 19},
        form(("model", b"m"), ("n", b"2.0")),
        form(("model", b"m"), ("stream", b"yes")),
        form(("model", b"m", "model.txt")),
        form(("prompt", b"p")),
    ],
)
def test_what_is_refused(body: dict[str, Any] | bytes) -> None:
    """Wrong types, numbers out of their range, a model that is missing or a file."""
    with pytest.raises(Refused) as refused:
        asked(body)
    assert refused.value.denial.code == "bad_request"


def test_a_second_model_writes_the_svg() -> None:
    """It is one of the models that are judged, and has its own bill."""
    call = asked(image(svg={"model": "gpt-6-luna"}))
    assert (call.model, call.other_models, call.models_unknown) == (
        "gpt-image-1",
        ("gpt-6-luna",),
        False,
    )
    assert asked(image(svg="x")).models_unknown
    answer = {
        "data": [{"b64_json": "eA=="}],
        "usage": {
            "input_tokens": 5,
            "output_tokens": 7,
            "output_tokens_details": {"image_tokens": 6},
        },
        "svg_usage": {
            "model": "gpt-6-luna",
            "input_tokens": 3,
            "output_tokens": 9,
            "reasoning_tokens": 4,
        },
    }
    assert charges(call, json.dumps(answer).encode()) == (
        Charge("", Units(input=5, output=7, output_image=6, requests=1)),
        Charge("gpt-6-luna", Units(input=3, output=9, reasoning=4, requests=1)),
    )


def charges(
    call: Asked, answer: bytes, content_type: str = "application/json"
) -> tuple[Charge, ...]:
    meter = OPENAI.meter(call, AnswerHead(200, (("content-type", content_type),)))
    assert meter.feed(answer) == answer
    meter.flush()
    return meter.finish()


def test_a_list_too_long_to_be_kept_has_what_was_asked_for() -> None:
    """Two megabytes of images by the piece."""
    call = asked({"model": "dall-e-3", "prompt": "p", "n": 3})
    answer = b'{"data":[' + b",".join([b'{"b64_json":"%b"}' % (b"A" * 700_000)] * 3) + b"]}"
    assert charges(call, answer) == (Charge("", Units(images=3, requests=1)),)
    assert charges(call, b'{"data":[{"url":"u"}]}') == (Charge("", Units(images=1, requests=1)),)
    assert charges(call, b'{"data":[]}') == ()


def test_usage_behind_megabytes() -> None:
    """Of an answer, in a member of its own."""
    usage = b'"usage":{"input_tokens":5,"output_tokens":7}'
    answer = b'{"data":[{"b64_json":"%b"}],%b}' % (b"A" * 3_000_000, usage)
    assert charges(asked(image()), answer) == (
        Charge("", Units(input=5, output=7, output_image=7, requests=1)),
    )


def test_each_image_of_a_stream_has_its_bill() -> None:
    """The stream is over with the last of them."""
    call = asked(image(stream=True, n=2))
    event = b'data: {"type":"image_generation.completed","usage":{"input_tokens":5,"output_tokens":7}}\n\n'
    one = Charge("", Units(input=5, output=7, output_image=7, requests=1))
    meter = OPENAI.meter(call, AnswerHead(200, ()))
    meter.feed(event)
    assert (meter.finish(), meter.done) == ((one,), False)
    meter.feed(event.replace(b"\n", b"\r\n"))
    assert (meter.finish(), meter.done) == ((one, one), True)
    assert meter.output_seen == 200


def test_an_error_that_is_streamed() -> None:
    call = asked(image(stream=True))
    meter = OPENAI.meter(call, AnswerHead(200, ()))
    meter.feed(b'event: error\ndata: {"type":"error","error":{"code":"server_error"}}\n\n')
    assert (meter.error, meter.finish(), meter.done) == ("server_error", (), False)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_lines_of_each_kind(end: bytes, size: int) -> None:
    """Cut anywhere, with comments and other fields between; ``data`` with and without a blank."""
    lines = [
        b": wait",
        b"event: image_generation.completed",
        b"datax: {}",
        b'data:{"type":"image_generation.completed",',
        b'data: "usage":{"input_tokens":5,"output_tokens":7}}',
        b"",
        b"",
    ]
    stream = end.join(lines)
    meter = OPENAI.meter(asked(image(stream=True)), AnswerHead(200, ()))
    for at in range(0, len(stream), size):
        meter.feed(stream[at : at + size])
    meter.flush()
    assert meter.finish() == (Charge("", Units(input=5, output=7, output_image=7, requests=1)),)
