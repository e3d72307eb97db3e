"""Which model a request to Azure names, and when its stream is made to tell its usage."""

from __future__ import annotations

import pytest
from tests.families.samples.forms import FORM, form

from tollhouse.admit.reading import by_model
from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.azure import AZURE
from tollhouse.families.meters import AnswerHead
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers

CHAT = "/openai/deployments/my-deployment/chat/completions"
V1 = "/openai/v1/chat/completions"
BODY = b'{"messages":[],"max_tokens":7}'
NAMED = b'{"model":"other","messages":[]}'
STREAM = b'{"model":"m","messages":[],"stream":true}'


def read(path: str, body: bytes, query: str = "", headers: Headers = ()) -> Asked:
    operation = AZURE.operation("POST", path)
    assert operation is not None
    return AZURE.read(Request(operation, path, headers, body, query), Dialect("on_request"))


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        (CHAT, BODY, "my-deployment"),
        (CHAT, NAMED, "my-deployment"),
        (CHAT, b" { } ", "my-deployment"),
        (CHAT, b'{"tools":[{"model":"x"}]}', "my-deployment"),
        (V1, NAMED, "other"),
        ("/openai/deployments/a.b_c-1/embeddings", b'{"input":"a"}', "a.b_c-1"),
    ],
)
def test_the_deployment_is_the_model(path: str, body: bytes, model: str) -> None:
    """The path's, whatever the body says; at the v1 path the body's."""
    assert read(path, body).model == model


SPEECH = "/openai/deployments/%s/audio/speech"
HEARD = "/openai/deployments/%s/audio/transcriptions"
IMAGES = "/openai/deployments/%s/images/generations"
SAID = b'{"model":"%s","input":"Say hello.","voice":"alloy"}'
DRAWN = b'{"model":"%s","prompt":"p"}'
SOUND = form(("model", b"whisper-1"), ("file", b"x" * 4_000, "a.mp3"))


@pytest.mark.parametrize(
    ("path", "body", "model", "unit"),
    [
        (SPEECH % "voice", SAID % b"gpt-4o-mini-tts", "tts-1", "characters"),
        (SPEECH % "tts-1", SAID % b"tts-1", "gpt-4o-mini-tts", "input"),
        ("/openai/v1/audio/speech", SAID % b"voice", "gpt-4o-mini-tts", "input"),
        (IMAGES % "pictures", DRAWN % b"gpt-image-1", "dall-e-3", "images"),
        (IMAGES % "pictures", DRAWN % b"dall-e-3", "gpt-image-1", "input"),
        ("/openai/v1/images/generations", DRAWN % b"pictures", "gpt-image-1", "input"),
        (HEARD % "ears", SOUND, "gpt-4o-transcribe", "input_audio"),
        (HEARD % "gpt-4o-transcribe", SOUND, "whisper-1", "milliseconds"),
    ],
)
def test_the_unit_is_that_of_the_model_behind_the_name(
    path: str, body: bytes, model: str, unit: str
) -> None:
    """As the provider's entry says it; neither the deployment's name nor the body's model decides."""
    asked = read(path, body, headers=FORM if body is SOUND else ())
    called = asked.model
    mapped = by_model(asked, {called: model})
    assert (mapped.model, mapped.deployment) == (model, called)
    units = AZURE.estimate(mapped, "typical", Limits(60_000, 4_000), Dialect()).units
    assert getattr(units, unit) > 0
    by_tokens = unit.startswith("input")
    assert (units.input > 0) is by_tokens
    answer = b'{"data":[{}],"duration":2.5}'
    meter = AZURE.meter(mapped, AnswerHead(200, (("content-type", "application/json"),)))
    meter.feed(answer)
    meter.flush()
    counted = [getattr(charge.units, unit) for charge in meter.finish()]
    assert counted == ([] if by_tokens else [max(counted)])


def test_a_search_is_that_of_the_model_behind_the_name() -> None:
    """A model of a search searches, whatever its deployment is called."""
    asked = by_model(read(CHAT, BODY), {"my-deployment": "gpt-4o-search-preview"})
    beside = AZURE.estimate(asked, "typical", Limits(9, 9), Dialect()).beside
    assert beside == (Charge("web_search_preview", Units(requests=1)),)


def test_a_form_without_a_model() -> None:
    """As OpenAI's SDK for Azure may send it: the path names the deployment."""
    body = form(("file", b"x" * 4_000, "a.mp3"))
    assert read(HEARD % "ears", body, headers=FORM).model == "ears"
    with pytest.raises(Refused):
        read("/openai/v1/audio/transcriptions", body, headers=FORM)
    image = form(("prompt", b"p"), ("image", b"x", "a.png"))
    path = "/openai/deployments/pictures/images/edits"
    asked = read(path, image, headers=FORM)
    assert (asked.model, AZURE.sent_headers(FORM, asked)) == ("pictures", FORM)


def test_a_body_without_a_model_is_sent_as_it_came() -> None:
    """What is read beside it is the same, and only a lowered cap changes it."""
    asked = read(CHAT, BODY)
    assert asked.cap == 7
    assert AZURE.rewrite(BODY, asked) == BODY
    lowered = AZURE.rewrite(BODY, asked._replace(lowered_to=3))
    assert lowered == b'{"messages":[],"max_tokens":3}'


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (CHAT, b'{"n":0}', '"n" must be'),
        (CHAT, b'{"model":5}', '"model" must be'),
        (CHAT, b'{"a":1,"a":2}', '"a" twice'),
        (CHAT, b"{", "not valid JSON"),
        (CHAT, b"no", "not valid JSON"),
        (V1, BODY, 'no "model"'),
    ],
)
def test_what_is_refused(path: str, body: bytes, why: str) -> None:
    """As of OpenAI, and a body without a model where the path names none."""
    with pytest.raises(Refused) as refused:
        read(path, body)
    assert why in refused.value.denial.why


@pytest.mark.parametrize(
    ("query", "asks"),
    [
        ("", True),
        ("api-version=2024-10-21", True),
        ("api-version=2024-09-01-preview", True),
        ("api-version=2024-08-01-preview", False),
        ("a=b&api-version=2023-05-15", False),
        ("api-version=preview", True),
    ],
)
def test_which_versions_are_asked_for_their_usage(query: str, asks: bool) -> None:
    """Those that know the option."""
    assert read(CHAT, STREAM, query).asks_for_usage is asks


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/a/b/chat/completions",
        "/openai/deployments/a%20b/chat/completions",
        "/openai/deployments/d/models",
        "/openai/deployments",
        "/openai/chat/completions",
        "/v1/chat/completions",
        "/v1/messages",
    ],
)
def test_what_is_closed(path: str) -> None:
    """What is no path of Azure's, and what is not open."""
    assert AZURE.operation("POST", path) is None
    assert AZURE.operation("GET", path) is None
