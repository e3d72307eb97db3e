"""What a session of Gemini Live is charged for and may still cost, message by message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.dialogue import Dialogue, Terms
from tollhouse.families.google import GOOGLE
from tollhouse.families.google.routes import LIVE

LIMITS = Limits(131_072, 65_536)
PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


def begun() -> Dialogue:
    request = Request(LIVE, PATH, ())
    terms = Terms(request, "typical", Dialect(), lambda asked: LIMITS, lambda asked: asked)
    return GOOGLE.dialogue(GOOGLE.read(request, Dialect()), terms)


def says(dialogue: Dialogue, **message: Any) -> Asked | None:
    return dialogue.heard(json.dumps(message).encode(), 0.0)


def opened(**setup: Any) -> Dialogue:
    dialogue = begun()
    says(dialogue, setup={"model": "models/gemini-3.8-live", **setup})
    return dialogue


def hears(dialogue: Dialogue, now: float = 0.0, **message: Any) -> None:
    dialogue.told(json.dumps(message).encode(), now)


def used(read: int, written: int) -> dict[str, int]:
    return {
        "promptTokenCount": read,
        "responseTokenCount": written,
        "totalTokenCount": read + written,
    }


WORDS = {"modelTurn": {"parts": [{"text": "some words of text"}]}}
TURN = {"turnComplete": True}


def tokens(dialogue: Dialogue) -> list[tuple[int, int]]:
    return [(charge.units.input, charge.units.output) for charge in dialogue.charges]


def exposed(dialogue: Dialogue) -> list[tuple[int, int]]:
    return [(one.units.input, one.units.output) for _, one in dialogue.exposed(0.0)]


def test_turns() -> None:
    """Each has its own usage: the last report of a turn counts, and the turns are added."""
    dialogue = opened()
    assert exposed(dialogue) == [(1_024, 65_536)]
    hears(dialogue, serverContent=WORDS, usageMetadata=used(40, 5))
    assert len(exposed(dialogue)) == 2
    hears(dialogue, serverContent=TURN, usageMetadata=used(40, 30))
    hears(dialogue, serverContent=WORDS)
    hears(dialogue, serverContent=TURN, usageMetadata=used(80, 60))
    assert tokens(dialogue) == [(120, 90)]
    assert dialogue.charges[0].calls == dialogue.requests == 2
    assert len(exposed(dialogue)) == 1


def test_a_report_behind_its_turn() -> None:
    dialogue = opened()
    for number in (1, 2):
        hears(dialogue, serverContent=WORDS)
        hears(dialogue, serverContent=TURN)
        hears(dialogue, usageMetadata=used(40 * number, 30))
    assert tokens(dialogue) == [(120, 60)]


def test_a_turn_that_does_not_end() -> None:
    """What was counted of it stands; what was seen and not counted is charged beside."""
    dialogue = opened()
    hears(dialogue, 1.0, serverContent=WORDS)
    [unfinished] = dialogue.unfinished(3.0)
    assert unfinished.output_seen > 0
    assert unfinished.exposure.estimate.units.input == 1_024
    assert unfinished.seconds == 2.0
    hears(dialogue, serverContent=WORDS, usageMetadata=used(40, 500))
    [unfinished] = dialogue.unfinished(3.0)
    assert (unfinished.output_seen, unfinished.exposure.estimate.units.tokens) == (0, 0)
    assert tokens(dialogue) == [(40, 500)]


def test_a_cap_in_either_spelling() -> None:
    assert exposed(opened(generationConfig={"maxOutputTokens": 100})) == [(1_024, 100)]
    assert exposed(opened(generation_config={"max_output_tokens": 100})) == [(1_024, 100)]


def test_objects_are_judged() -> None:
    """Files, and the session that is to be gone on with; its handles are the tenant's from then on."""
    dialogue = begun()
    asked = says(
        dialogue,
        setup={"model": "gemini-3.8-live", "sessionResumption": {"handle": "handle-1"}},
    )
    assert asked is not None
    assert asked.objects == ("handle-1",)
    assert exposed(dialogue)[0][0] == LIMITS.context
    hears(dialogue, sessionResumptionUpdate={"newHandle": "handle-2", "resumable": True})
    assert dialogue.created == ("handle-2",)
    uri = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    content = {"turns": [{"parts": [{"fileData": {"fileUri": uri}}]}]}
    asked = says(dialogue, clientContent=content)
    assert asked is not None
    assert asked.objects == ("files/abc",)


@pytest.mark.parametrize(
    "message",
    [
        {"setup": {"model": "gemini-3.8-live"}},
        {"clientContent": {}, "realtimeInput": {}},
        {"somethingNew": {}},
        {"client_Content": {}},
        {},
    ],
)
def test_a_message_that_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        says(opened(), **message)


@pytest.mark.parametrize(
    "message", [{"clientContent": {}}, {"setup": {}}, {"setup": {"model": ["a"]}}]
)
def test_a_first_message_that_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        says(begun(), **message)


def test_searches() -> None:
    """Each turn is charged the searches that it is grounded in, and is held for them before."""
    dialogue = opened(tools=[{"googleSearch": {}}])
    [(_, estimate)] = dialogue.exposed(0.0)
    assert [one.model for one in estimate.beside] == ["google_search"]
    for queries in (["a", "b"], ["a"]):
        grounded = {"groundingMetadata": {"webSearchQueries": queries}}
        hears(dialogue, serverContent=WORDS | grounded)
        hears(dialogue, serverContent=TURN, usageMetadata=used(40, 30))
    own, searches = dialogue.charges
    assert (own.model, own.units.input) == ("gemini-3.8-live", 80)
    assert (searches.model, searches.units.requests) == ("google_search", 3)


def test_a_search_that_its_client_does_not_wait_for() -> None:
    dialogue = opened(tools=[{"google_search": {}}])
    hears(dialogue, serverContent={"groundingMetadata": {"webSearchQueries": ["a"]}})
    assert [(one.model, one.units.requests) for one in dialogue.charges] == [("google_search", 1)]


def test_a_store_that_a_setup_names() -> None:
    """Somebody else's files may be in it."""
    search = {"fileSearchStoreNames": ["fileSearchStores/theirs"]}
    asked = says(begun(), setup={"model": "gemini-3.8-live", "tools": [{"fileSearch": search}]})
    assert asked is not None
    assert asked.objects == ("fileSearchStores/theirs",)


@pytest.mark.parametrize("mime", ["image/png", "audio/pcm"])
def test_text_beside_media(mime: str) -> None:
    """It counts as it does by itself."""
    dialogue = opened()
    parts = [{"inlineData": {"mimeType": mime, "data": "A" * 40}}, {"text": "some words " * 4_000}]
    says(dialogue, clientContent={"turns": [{"role": "user", "parts": parts}]})
    assert exposed(dialogue)[0][0] > 8_000


def test_a_turn_that_was_asked_for_is_unfinished() -> None:
    """Also before it has begun, unless its message did not leave."""
    dialogue = opened()
    says(dialogue, clientContent={"turns": [], "turn_complete": True})
    assert len(dialogue.unfinished(0.0)) == 1
    hears(dialogue, serverContent=WORDS)
    hears(dialogue, serverContent=TURN, usageMetadata=used(40, 30))
    assert dialogue.unfinished(0.0) == ()
    says(dialogue, toolResponse={"functionResponses": []})
    dialogue.withdraw()
    assert dialogue.unfinished(0.0) == ()


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("models/gemini-3.8-live", "gemini-3.8-live"),
        ("publishers/google/models/gemini-3.8-live", "gemini-3.8-live"),
        ("projects/p/locations/eu/publishers/google/models/gemini-3.8-live", "gemini-3.8-live"),
        ("projects/p/locations/eu/endpoints/1", "endpoints/1"),
        (
            "projects/p/locations/eu/projects/q/locations/eu/models/m",
            "projects/q/locations/eu/models/m",
        ),
    ],
)
def test_a_model_of_vertex(name: str, model: str) -> None:
    """The table of prices and a project's list know it without its place."""
    dialogue = begun()
    asked = says(dialogue, setup={"model": name})
    assert asked is not None
    assert asked.model == dialogue.asked.model == model


def test_usage_by_the_names_of_vertex() -> None:
    dialogue = opened()
    usage = {"promptTokenCount": 40, "candidatesTokenCount": 30, "thoughtsTokenCount": 5}
    hears(dialogue, serverContent={**WORDS, **TURN}, usageMetadata={**usage, "totalTokenCount": 75})
    assert tokens(dialogue) == [(40, 35)]
