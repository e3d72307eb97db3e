"""What a session of the Realtime API may still cost, message by message."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.dialogue import Dialogue, Terms
from tollhouse.families.openai import OPENAI
from tollhouse.families.openai.routes import REALTIME

LIMITS = Limits(32_000, 4_096)


def opened(query: str = "model=gpt-realtime", mode: Any = "typical") -> Dialogue:
    request = Request(REALTIME, "/v1/realtime", (), query=query)
    terms = Terms(request, mode, Dialect(), lambda asked: LIMITS, lambda asked: asked)
    return OPENAI.dialogue(OPENAI.read(request, Dialect()), terms)


def says(dialogue: Dialogue, **event: Any) -> Asked | None:
    return dialogue.heard(json.dumps(event).encode(), 0.0)


def hears(dialogue: Dialogue, now: float = 0.0, **event: Any) -> None:
    dialogue.told(json.dumps(event).encode(), now)


def exposed(dialogue: Dialogue) -> list[tuple[int, int]]:
    """Input and output of each answer that may still be charged."""
    return [(one.units.input, one.units.output) for _, one in dialogue.exposed(0.0)]


def session(kind: str = "session.updated", detects: Any = None, **settings: Any) -> dict[str, Any]:
    sound = {"input": {"turn_detection": detects}}
    return {"type": kind, "session": {"model": "gpt-realtime", "audio": sound, **settings}}


def usage(read: int, written: int) -> dict[str, Any]:
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}


def done(name: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": name, "status": status, **more}}


def test_an_answer_that_the_provider_begins_by_itself() -> None:
    """One more is exposed than are under way, and the same object as long as nothing changes."""
    dialogue = opened()
    assert exposed(dialogue) == [(1_024, 4_096)]
    assert dialogue.exposed(0.0) is dialogue.exposed(1.0)
    hears(dialogue, type="response.created", response={"id": "resp_1"})
    assert exposed(dialogue) == [(1_024, 4_096)] * 2
    assert dialogue.requests == 1
    hears(dialogue, **done("resp_1", usage=usage(3_000, 500)))
    assert exposed(dialogue) == [(4_096, 4_096)]
    assert [charge.units.tokens for charge in dialogue.charges] == [3_500]


def test_without_turn_detection() -> None:
    """Nothing is exposed until an answer is asked for."""
    dialogue = opened()
    says(dialogue, type="session.update", session={"audio": {"input": {"turn_detection": None}}})
    assert len(exposed(dialogue)) == 1
    hears(dialogue, **session())
    assert exposed(dialogue) == []
    says(dialogue, type="response.create")
    says(dialogue, type="response.create", response={"max_output_tokens": 100})
    assert [output for _, output in exposed(dialogue)] == [4_096, 100]
    hears(dialogue, type="response.created", response={"id": "resp_1"})
    assert len(exposed(dialogue)) == 2
    hears(dialogue, **done("resp_1", usage=usage(10, 10)))
    assert len(exposed(dialogue)) == 1
    assert dialogue.requests == 2


def test_a_message_that_does_not_leave() -> None:
    dialogue = opened()
    hears(dialogue, **session())
    says(dialogue, type="response.create")
    dialogue.withdraw()
    assert (exposed(dialogue), dialogue.requests) == ([], 0)
    says(dialogue, type="input_audio_buffer.clear")
    dialogue.withdraw()
    assert dialogue.requests == 0


def test_a_cap_counts_when_the_server_says_so() -> None:
    """Until then the larger of the two."""
    dialogue = opened()
    says(dialogue, type="session.update", session={"max_output_tokens": 50})
    assert exposed(dialogue)[0][1] == 4_096
    hears(dialogue, **session(detects={}, max_output_tokens=50))
    assert exposed(dialogue)[0][1] == 50
    says(dialogue, type="session.update", session={"max_output_tokens": "inf"})
    assert exposed(dialogue)[0][1] == 4_096
    hears(dialogue, **session(detects={}, max_output_tokens="inf"))
    assert exposed(dialogue)[0][1] == 4_096


def test_the_conversation_grows() -> None:
    """Sound by its time, and not by its base64; up to what the model reads."""
    dialogue = opened()
    sound = base64.b64encode(bytes(480_000)).decode()
    for _ in range(20):
        says(dialogue, type="input_audio_buffer.append", audio=sound)
    # 10 s each, of 10 tokens a second.
    assert exposed(dialogue)[0][0] == 3_072
    assert opened(mode="worst").exposed(0.0)[0].estimate.units.input == 32_000


@pytest.mark.parametrize("status", ["completed", "incomplete", "cancelled", "failed"])
def test_an_answer_without_usage(status: str) -> None:
    """It is charged what was seen, if there was anything, and its input."""
    dialogue = opened()
    hears(dialogue, type="response.created", response={"id": "resp_1"})
    hears(dialogue, type="response.output_audio_transcript.delta", delta="a few words of text")
    [unfinished] = dialogue.unfinished(3.0)
    assert (unfinished.output_seen, unfinished.seconds) == (5, 3.0)
    hears(dialogue, **done("resp_1", status, usage=None))
    assert dialogue.unfinished(0.0) == ()
    [charge] = dialogue.charges
    assert (charge.units.input, charge.units.output) == (1_024, 5)


def test_an_answer_that_failed_at_once() -> None:
    dialogue = opened()
    hears(dialogue, type="response.created", response={"id": "resp_1"})
    hears(dialogue, **done("resp_1", "failed", usage=None))
    assert dialogue.charges == ()


def test_an_answer_that_is_asked_for_in_vain() -> None:
    dialogue = opened()
    hears(dialogue, **session())
    says(dialogue, type="response.create")
    hears(dialogue, type="error", error={"code": "conversation_already_has_active_response"})
    assert exposed(dialogue) == []


@pytest.mark.parametrize(
    ("model", "units"),
    [("whisper-1", {"milliseconds": 100_000}), ("gpt-4o-transcribe", {"input_audio": 1_000})],
)
def test_what_is_written_down(model: str, units: dict[str, int]) -> None:
    """By a model of its own, which has to be judged."""
    dialogue = opened()
    transcription = {"audio": {"input": {"transcription": {"model": model}}}}
    asked = says(dialogue, type="session.update", session=transcription)
    assert asked is not None
    assert asked.other_models == (model,)
    [(_, found)] = dialogue.exposed(0.0)
    [beside] = found.beside
    assert beside.model == model
    assert {name: getattr(beside.units, name) for name in units} == units


def test_objects_are_judged() -> None:
    dialogue = opened()
    asked = says(dialogue, type="session.update", session={"prompt": {"id": "pmpt_1"}})
    assert asked is not None
    assert asked.objects == ("pmpt_1",)


@pytest.mark.parametrize(
    "query",
    ["", "model=", "model=a&model=b", "Model=a&model=b", "call_id=rtc_1", "model=a&call_id=b"],
)
def test_a_handshake_that_is_refused(query: str) -> None:
    with pytest.raises(Refused):
        opened(query)


def test_each_transcriber_is_judged() -> None:
    """A session has one in the place of the present API, and one in that of its beta."""
    both = {
        "audio": {"input": {"transcription": {"model": "whisper-1"}}},
        "input_audio_transcription": {"model": "gpt-4o-transcribe"},
    }
    asked = says(opened(), type="session.update", session=both)
    assert asked is not None
    assert asked.other_models == ("gpt-4o-transcribe", "whisper-1")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.update", "Session": {"model": "gpt-realtime-2"}},
        {"type": "session.update", "session": {"Model": "gpt-realtime-2"}},
        {"type": "session.update", "session": {"Input_Audio_Transcription": {"model": "m"}}},
        {"type": "session.update", "session": {"audio": {"Input": {}}}},
        {"type": "session.update", "session": {"audio": {"input": {"Transcription": {}}}}},
        {"type": "session.update", "session": {"input_audio_transcription": {"Model": "m"}}},
        {"type": "session.update", "session": {"input_audio_transcription": {"model": ["m"]}}},
        {"type": "response.create", "response": {"Max_Output_Tokens": 1}},
    ],
    ids=range(8),
)
def test_a_name_that_may_be_read_in_two_ways(event: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        says(opened(), **event)


def test_who_writes_down_is_who_was_asked_when_the_sound_was_whole() -> None:
    """Also in a session for transcription, and where another one is named before its answer has come."""
    dialogue = opened()
    for number, model in enumerate(("gpt-4o-transcribe", "gpt-4o-mini-transcribe")):
        settings = {"input_audio_transcription": {"model": model}}
        hears(dialogue, type="transcription_session.updated", session=settings)
        hears(dialogue, type="input_audio_buffer.committed", item_id=f"item_{number}")
    for number in range(2):
        hears(
            dialogue,
            type="conversation.item.input_audio_transcription.completed",
            item_id=f"item_{number}",
            usage={"type": "tokens", **usage(100, 10)},
        )
    models = [charge.model for charge in dialogue.charges]
    assert models == ["gpt-4o-transcribe", "gpt-4o-mini-transcribe"]


@pytest.mark.parametrize(
    "media",
    [
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_audio", "audio": "AAAA"},
    ],
)
def test_text_beside_media(media: dict[str, str]) -> None:
    """It counts as it does by itself."""
    dialogue = opened()
    words = {"type": "input_text", "text": "some words " * 4_000}
    item = {"type": "message", "role": "user", "content": [media, words]}
    says(dialogue, type="conversation.item.create", item=item)
    assert exposed(dialogue)[0][0] > 8_000


def test_a_file_that_an_item_names() -> None:
    content = [{"type": "input_image", "file_id": "file-theirs"}]
    item = {"type": "message", "role": "user", "content": content}
    asked = says(opened(), type="conversation.item.create", item=item)
    assert asked is not None
    assert asked.objects == ("file-theirs",)


def test_many_answers_at_one_time() -> None:
    dialogue = opened()
    for _ in range(64):
        says(dialogue, type="response.create")
    with pytest.raises(Refused):
        says(dialogue, type="response.create")


def test_an_answer_that_was_asked_for_is_unfinished() -> None:
    """Also before it has begun. One that an error may be the answer to is not."""
    dialogue = opened()
    says(dialogue, type="response.create")
    says(dialogue, type="response.create")
    assert len(dialogue.unfinished(0.0)) == 2
    hears(dialogue, type="error", error={"code": "invalid_value"})
    assert len(dialogue.unfinished(0.0)) == 1
    hears(dialogue, type="response.created", response={"id": "resp_1"})
    hears(dialogue, **done("resp_1", usage=usage(30, 5)))
    assert dialogue.unfinished(0.0) == ()


ERROR = {"type": "invalid_request_error", "code": "invalid_value", "message": ""}
CREATE = {"type": "response.create"}
DELETE = {"type": "conversation.item.delete", "item_id": "item_0"}
ADD = {"type": "conversation.item.create", "item": {"type": "message"}}
ADDED = {"type": "conversation.item.added"}


@pytest.mark.parametrize(
    ("messages", "events", "error", "freed"),
    [
        ([CREATE], [], {}, True),
        ([{**CREATE, "event_id": "a"}], [], {"event_id": "a"}, True),
        ([{**CREATE, "event_id": "a"}], [], {"event_id": "b"}, False),
        ([{**CREATE, "event_id": "a"}], [], {}, False),
        ([DELETE, CREATE], [], {}, False),
        ([CREATE, DELETE], [], {}, False),
        ([CREATE, {**DELETE, "event_id": "d"}], [], {"event_id": "d"}, False),
        ([CREATE, {**DELETE, "event_id": "d"}], [], {}, True),
        ([ADD, CREATE], [ADDED], {}, True),
        ([ADD, CREATE], [], {}, False),
        ([DELETE, ADD, CREATE], [ADDED], {}, False),
        ([DELETE, CREATE], [], {"code": "conversation_already_has_active_response"}, True),
        ([{"type": "input_audio_buffer.append", "audio": "!"}, CREATE], [], {}, False),
    ],
    ids=range(13),
)
def test_whose_an_error_is(
    messages: list[dict[str, Any]], events: list[dict[str, Any]], error: dict[str, str], freed: bool
) -> None:
    """What was asked for is charged until it is known to have failed."""
    dialogue = opened()
    hears(dialogue, **session())
    for message in messages:
        says(dialogue, **message)
    for event in events:
        hears(dialogue, **event)
    hears(dialogue, type="error", error={**ERROR, **error})
    assert (dialogue.unfinished(0.0) == ()) is freed
    assert (len(exposed(dialogue)) == 0) is freed


def test_the_second_error_is_the_answers() -> None:
    """One is that of the other message."""
    dialogue = opened()
    says(dialogue, **DELETE)
    says(dialogue, **CREATE)
    for _ in range(2):
        assert len(dialogue.unfinished(0.0)) == 1
        hears(dialogue, type="error", error=ERROR)
    assert dialogue.unfinished(0.0) == ()


def test_a_second_message_of_the_same_id() -> None:
    dialogue = opened()
    says(dialogue, **CREATE, event_id="a")
    with pytest.raises(Refused):
        says(dialogue, **DELETE, event_id="a")


WRITES = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
SOUND = {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(96_000)).decode()}
COMMITTED = {"type": "input_audio_buffer.committed", "item_id": "item_1"}
WRITTEN = "conversation.item.input_audio_transcription"


def test_sound_that_is_written_down() -> None:
    """By whom the session names when it is committed, until its transcription has come."""
    dialogue = opened("intent=transcription")
    assert exposed(dialogue) == []
    asked = says(dialogue, type="session.update", session=WRITES)
    assert asked is not None
    assert asked.model == "gpt-4o-transcribe"
    for end in ("completed", "failed"):
        says(dialogue, **SOUND)
        hears(dialogue, type="session.updated", session={"type": "transcription", **WRITES})
        hears(dialogue, **COMMITTED)
        [one] = dialogue.unfinished(0.0)
        # Two seconds of 24 kHz in 16 bits, a little more by the message around them.
        assert 20 <= one.exposure.estimate.units.input <= 21
        assert one.output_seen == 8
        hears(dialogue, type=f"{WRITTEN}.delta", item_id="item_1", delta="he")
        hears(dialogue, type=f"{WRITTEN}.{end}", item_id="item_1", transcript="hello")
        assert dialogue.unfinished(0.0) == ()
    assert dialogue.requests == 2


def test_sound_that_was_committed_before() -> None:
    """An update that the provider has not answered tells nothing of it, nor does one that ends the writing."""
    dialogue = opened()
    hears(dialogue, **session())
    says(dialogue, type="session.update", session=WRITES)
    hears(dialogue, **COMMITTED)
    assert dialogue.unfinished(0.0) == ()
    hears(dialogue, type="session.updated", session=WRITES)
    says(dialogue, type="session.update", session={"audio": {"input": {"transcription": None}}})
    hears(dialogue, type="session.updated", session={"audio": {"input": {"transcription": None}}})
    hears(dialogue, **COMMITTED)
    assert dialogue.unfinished(0.0) == ()
    assert not any(one.beside for _, one in dialogue.exposed(0.0))


def test_an_answer_in_a_session_of_transcriptions() -> None:
    """No model was judged that could have given it: the session ends."""
    dialogue = opened("intent=transcription")
    says(dialogue, type="session.update", session=WRITES)
    with pytest.raises(ValueError, match="an answer"):
        hears(dialogue, type="response.created", response={"id": "resp_1"})
