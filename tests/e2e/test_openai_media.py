"""OpenAI's API beside its texts, and companies that speak it in their own way, through the running gateway by the unchanged SDK:
what the provider gets, what comes back, and what is charged to the nano-dollar."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from openai import APIStatusError, BadRequestError
from tests.families.samples.forms import BOUNDARY, form, wav
from tests.support import openai_media as answers
from tests.support.gateway import REAL_KEY, Road, open_road

from tollhouse.demo.standin import StandIn

URL = "https://api.openai.com/v1"


def charged(road: Road, usd: str, by: str = "usage") -> None:
    """The only line says so, and so does the budget."""
    [line] = road.wait_lines(1)
    assert (line["status"], line["reason"], line["charged_by"]) == (200, "", by)
    assert Decimal(line["cost_usd"]) == Decimal(usd) == road.used()
    assert Decimal(road.budget()["10 usd/day"]["held"]) == 0


def test_an_image_is_made(road: Road) -> None:
    """10 tokens of text at 5 USD a million, 40 of an image at 10, 272 of the answer at 40."""
    road.standin.script(answers.answered(answers.IMAGE))
    with road.sdk() as client:
        made = client.images.generate(model="gpt-image-1", prompt="A tollhouse.", quality="low")
    assert made.usage is not None
    assert made.usage.total_tokens == 322
    charged(road, "0.01133")


def test_a_streamed_image_longer_than_any_event_of_a_chat(road: Road) -> None:
    """Its usage stands behind three megabytes of image."""
    road.standin.script(answers.answered(answers.image_events(), "text/event-stream"))
    with road.sdk() as client:
        events = list(
            client.images.generate(model="gpt-image-1", prompt="A tollhouse.", stream=True)
        )
    assert [event.type for event in events] == ["image_generation.completed"]
    charged(road, "0.01133")


def test_text_is_read_aloud(road: Road) -> None:
    """Nine characters at 15 USD a million; the sound comes as it is."""
    road.standin.script(answers.answered(b"\xff\xf3sound", "audio/mpeg"))
    with road.sdk() as client:
        sound = client.audio.speech.create(model="tts-1", input="Who pays?", voice="alloy")
    assert sound.content == b"\xff\xf3sound"
    charged(road, "0.000135")


def test_a_file_is_uploaded_and_written_down(road: Road) -> None:
    """Four seconds at 0.0001 USD. The form arrives under its own content type, byte for byte."""
    road.standin.script(answers.answered(answers.HEARD))
    with road.sdk() as client:
        heard = client.audio.transcriptions.create(
            model="whisper-1", file=("toll.wav", wav(3.5), "audio/wav")
        )
    assert heard.text == "The toll is paid."
    [received] = road.standin.wait_count(1)
    assert received.get("content-type").startswith("multipart/form-data; boundary=")
    assert received.body.count(wav(3.5)) == 1
    charged(road, "0.0004")


def test_moderations_and_files_cost_nothing(road: Road) -> None:
    """They leave a line each."""
    road.standin.script(answers.answered(answers.MODERATED), answers.answered(answers.FILE))
    with road.sdk() as client:
        assert (
            client.moderations.create(input="Pay!", model="omni-moderation-latest").id == "modr-1"
        )
        made = client.files.create(file=("tolls.csv", b"a,b\r\n1,2"), purpose="assistants")
    assert made.id == "file-1"
    moderated, uploaded = road.wait_lines(2)
    for line in (moderated, uploaded):
        assert (line["status"], line["charged_by"]) == (200, "none")
    assert road.used() == 0
    assert b"a,b\r\n1,2" in road.standin.wait_count(2)[1].body


def test_a_form_of_two_models_is_refused(road: Road) -> None:
    """One that the provider might read as the dearer model never leaves."""
    body = form(("file", wav(1), "a.wav"), ("model", b"whisper-1"), ("model", b"gpt-4o-transcribe"))
    with road.http() as client:
        answer = client.post(
            f"{URL}/audio/transcriptions",
            content=body,
            headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
        )
    assert answer.status_code == 400
    assert 'the field \\"model\\" twice' in answer.text
    assert road.standin.snapshot() == []


def test_an_image_without_a_model_is_refused(road: Road) -> None:
    """What it costs depends on the model, so it is said."""
    with road.sdk() as client, pytest.raises(BadRequestError, match='has no "model"'):
        client.images.generate(prompt="a tollhouse")
    assert road.standin.snapshot() == []


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A gateway whose Groq, and whose router of its own that speaks as OpenRouter does, are the stand-in."""
    hosts = ("localhost", "api.openai.com", "api.groq.com", "router.internal")
    with StandIn(key=REAL_KEY, hosts=hosts) as standin:
        there = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
        }
        settings = {
            "providers.groq": there,
            "providers.router": {**there, "family": "openrouter", "hosts": ["router.internal"]},
        }
        with open_road(tmp_path_factory.mktemp("others"), settings, standin=standin) as made:
            for name in ("groq", "router"):
                made.gateway.tollhouse("key", "set", name, stdin=standin.key)
            yield made


def test_a_router_says_what_it_costs(others: Road) -> None:
    """The account's own cost is charged, rounded up to a nano-dollar, and not the table's price of the model."""
    others.standin.script(answers.answered(answers.openrouter_answer("0.0000123456")))
    before, seen = others.used(), len(others.lines())
    with others.sdk(base_url="https://router.internal/api/v1") as client:
        client.chat.completions.create(
            model="openai/gpt-4o", messages=[{"role": "user", "content": "Who pays?"}], max_tokens=9
        )
    line = others.wait_lines(seen + 1)[-1]
    assert (line["provider"], line["charged_by"]) == ("router", "usage")
    assert Decimal(line["cost_usd"]) == Decimal("0.000012346") == others.used() - before


def test_a_stream_of_groq_is_charged_once(others: Road) -> None:
    """It tells its usage twice: 10 tokens at 0.59 USD a million and 4 at 0.79."""
    others.standin.script(answers.answered(answers.groq_events(), "text/event-stream"))
    before, seen = others.used(), len(others.lines())
    with others.sdk(base_url="https://api.groq.com/openai/v1") as client:
        chunks = list(
            client.chat.completions.create(
                model="llama-3.3-70b-versatile",
                messages=[{"role": "user", "content": "Who pays?"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    assert len(chunks) == 3
    line = others.wait_lines(seen + 1)[-1]
    assert (line["provider"], line["charged_by"]) == ("groq", "usage")
    assert Decimal(line["cost_usd"]) == Decimal("0.00000906") == others.used() - before


def test_what_only_others_have_is_closed(others: Road) -> None:
    """A list of a company's endpoints is its own."""
    with (
        others.sdk(base_url="https://api.groq.com/openai/v1") as client,
        pytest.raises(APIStatusError) as caught,
    ):
        client.images.generate(prompt="a tollhouse", model="m")
    assert (caught.value.status_code, caught.value.code) == (403, "path_not_allowed")
