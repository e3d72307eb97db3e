import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.families.asked import Asked
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai.meter import JsonMeter, StreamMeter
from tollhouse.families.openai.meter import meter as meter_of
from tollhouse.families.units import Charge, Units

_COUNTS = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": None},
}
_USAGE = Units(input=30, cached=10, output=12, reasoning=4, input_audio=3, requests=1)
_CONTENTS = st.text(max_size=20) | st.sampled_from(
    [
        ',"usage":null}',
        '"usage":null',
        "usage",
        '{"error":{}}',
        "\n\ndata: [DONE]\n\n",
        "\\",
        '"',
        "é日本🎈",
        '\\"usage":{',
    ]
)
_STYLES = st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")])


def _counted(meter: JsonMeter | StreamMeter) -> Units | None:
    charges = meter.finish()
    return charges[0].units if charges else None


def _chunk(content: str | None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {"index": 0, "delta": delta, "finish_reason": "stop" if content is None else None}
        ],
        **more,
    }


_chunks = st.builds(
    lambda content, obfuscation: _chunk(
        content, **({} if obfuscation is None else {"obfuscation": obfuscation})
    ),
    _CONTENTS | st.none(),
    st.none() | st.sampled_from(["aX9", "usage", 'a"b', "\\"]),
)


def _with_usage(chunk: dict[str, Any], place: int, usage: Any) -> dict[str, Any]:
    items = list(chunk.items())
    return dict([*items[:place], ("usage", usage), *items[place:]])


@st.composite
def _streams(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """The frames of a stream as sent unasked and as sent when asked for usage; the extra frame is b"" in the first."""
    style, ascii_only, end = (
        draw(_STYLES),
        draw(st.booleans()),
        draw(st.sampled_from([b"\n", b"\r\n", b"\r"])),
    )
    prefix = draw(
        st.sampled_from(
            [b"data: ", b"data:", b"event: chunk" + end + b"data: ", b": busy" + end + b"data: "]
        )
    )
    place = draw(st.integers(0, 6))
    pretty = draw(st.booleans()) and style == (",", ":")

    def frame(document: dict[str, Any]) -> bytes:
        if pretty:
            lines = json.dumps(document, indent=1, ensure_ascii=ascii_only).split("\n")
            return end.join(b"data: " + line.encode() for line in lines) + end * 2
        return (
            prefix
            + json.dumps(document, separators=style, ensure_ascii=ascii_only).encode()
            + end * 2
        )

    plain, asked = [], []
    if draw(st.booleans()):
        plain.append(b": keep-alive" + end * 2)
        asked.append(b": keep-alive" + end * 2)
    for chunk in draw(st.lists(_chunks, max_size=5)):
        plain.append(frame(chunk))
        asked.append(frame(_with_usage(chunk, place, None)))
    choices = draw(
        st.sampled_from([[], [{"index": 0, "delta": {}, "finish_reason": None}], [{"delta": {}}]])
    )
    plain.append(b"")
    asked.append(frame(_with_usage({**_chunk("x"), "choices": choices}, place, _COUNTS)))
    plain.append(b"data: [DONE]" + end * 2)
    asked.append(plain[-1])
    if draw(st.booleans()):
        plain[0], asked[0] = (
            b"\xef\xbb\xbf" + frames[0] if frames[0] else b"" for frames in (plain, asked)
        )
    return plain, asked


def _split(stream: bytes, cuts: list[float]) -> list[bytes]:
    places = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


_cuts = st.lists(st.floats(0, 1, exclude_max=True), max_size=15)


@given(_streams(), _cuts)
@settings(max_examples=300)
def test_the_client_gets_the_stream_it_would_have_got(
    frames: tuple[list[bytes], list[bytes]], cuts: list[float]
):
    """However the asked-for stream is cut, the bytes passed on are those of the stream without include_usage."""
    plain, asked = frames
    meter = StreamMeter(edits=True)
    out = b"".join(meter.feed(chunk) for chunk in _split(b"".join(asked), cuts)) + meter.flush()
    assert out == b"".join(plain)
    assert (_counted(meter), meter.done, meter.error) == (_USAGE, True, "")
    assert meter.finish()[0].model == "gpt-4o-2024-08-06"


@given(_streams(), _cuts)
def test_a_stream_that_was_not_touched_passes_byte_for_byte_at_once(
    frames: tuple[list[bytes], list[bytes]], cuts: list[float]
):
    """Without injection each chunk leaves as it came, and the usage is read all the same."""
    meter = StreamMeter(edits=False)
    for chunk in _split(b"".join(frames[1]), cuts):
        assert meter.feed(chunk) == chunk
    assert meter.flush() == b""
    assert (_counted(meter), meter.done) == (_USAGE, True)


@given(_streams())
def test_a_complete_frame_is_passed_on_at_once(frames: tuple[list[bytes], list[bytes]]):
    """A frame leaves with its last byte, before anything of the next one has come."""
    meter = StreamMeter(edits=True)
    for plain, asked in zip(*frames, strict=True):
        assert b"".join(meter.feed(asked[i : i + 7]) for i in range(0, len(asked), 7)) == plain


@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from([b"data: ", b"\n\n", b'{"usage":', b"null}", b"\r", b"[" * 99])
    ),
    _cuts,
)
def test_bytes_that_are_no_chat_stream_pass_unharmed(parts: list[bytes], cuts: list[float]):
    """Garbage never raises; unasked it passes as it is, asked it loses nothing but a usage member."""
    stream = b"".join(parts)
    for injected in (False, True):
        meter = StreamMeter(edits=injected)
        out = b"".join(meter.feed(chunk) for chunk in _split(stream, cuts)) + meter.flush()
        assert out == stream or (injected and b'"usage"' in stream)


def test_a_last_frame_without_its_empty_line_is_read_and_edited():
    """A frame whose end is missing at the stream's end counts as ended; a frame cut before that passes as it is."""
    chunk = json.dumps(_chunk("hi")).encode()
    asked = json.dumps(_with_usage(_chunk("hi"), 4, None)).encode()
    meter = StreamMeter(edits=True)
    assert meter.feed(b"data: " + asked + b"\n") == b""
    assert meter.flush() == b"data: " + chunk + b"\n"
    meter = StreamMeter(edits=True)
    assert meter.feed(b"data: " + asked[:-1]) + meter.flush() == b"data: " + asked[:-1]


def test_a_late_line_feed_goes_with_its_frame():
    """Of a dropped frame whose CR LF came in two chunks, the LF is dropped as well; of a kept one it is kept."""
    meter = StreamMeter(edits=True)
    asked = json.dumps({**_chunk("x"), "choices": [], "usage": _COUNTS}).encode()
    assert meter.feed(b"data: " + asked + b"\r\n\r") == b""
    assert meter.feed(b"\n") == b""
    assert meter.feed(b"data: [DONE]\r\n\r") == b"data: [DONE]\r\n\r"
    assert meter.feed(b"\n") == b"\n"


def test_usage_on_a_frame_with_content_is_taken_out_of_it():
    """Some servers put running counts into every chunk once asked: the content stays, the last counts win."""
    meter = StreamMeter(edits=True)
    for tokens in (1, 2):
        chunk = _chunk("x")
        frame = json.dumps(
            {**chunk, "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}
        ).encode()
        assert (
            meter.feed(b"data: " + frame + b"\n\n")
            == b"data: " + json.dumps(chunk).encode() + b"\n\n"
        )
    assert _counted(meter) == Units(input=5, output=2, requests=1)


def test_an_empty_first_chunk_is_no_usage_chunk():
    """Azure opens with choices [] and no usage: passed on; its model is empty, so the next one's is taken."""
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": [], "usage": None}
    meter = StreamMeter(edits=True)
    out = meter.feed(b"data: " + json.dumps(first).encode() + b"\n\n")
    del first["usage"]
    assert out == b"data: " + json.dumps(first).encode() + b"\n\n"
    meter.feed(b"data: " + json.dumps({**_chunk("a"), "usage": _COUNTS}).encode() + b"\n\n")
    assert meter.finish()[0].model == "gpt-4o-2024-08-06"


def test_an_error_inside_the_stream_is_named_by_its_code_only():
    """HTTP said 200; the error frame is passed on and its code kept, its message not."""
    meter = StreamMeter(edits=True)
    meter.feed(b"data: " + json.dumps(_chunk("a")).encode() + b"\n\n")
    frame = b'data: {"error":{"message":"secret words","type":"server_error","code":null}}\n\n'
    assert meter.feed(frame) == frame
    assert meter.error == "server_error"


def test_output_seen_grows_with_the_text():
    """One token a frame at least, about four bytes a token else; role and end frames count nothing."""
    meter = StreamMeter(edits=False)
    meter.feed(b"data: " + json.dumps(_chunk("")).encode() + b"\n\n")
    assert meter.output_seen == 0
    for _ in range(3):
        meter.feed(b"data: " + json.dumps(_chunk("a")).encode() + b"\n\n")
    assert meter.output_seen == 3
    tool = {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "x" * 77}}]}}]}
    meter.feed(b"data: " + json.dumps(tool).encode() + b"\n\n")
    assert meter.output_seen == 20
    meter.feed(b"data: " + json.dumps(_chunk(None)).encode() + b"\n\n")
    assert meter.output_seen == 20


def _seen(*deltas: dict[str, Any]) -> int:
    meter = StreamMeter(edits=False)
    choices = [{"index": index, "delta": delta} for index, delta in enumerate(deltas)]
    meter.feed(b"data: " + json.dumps({"choices": choices, "usage": None}).encode() + b"\n\n")
    return meter.output_seen


@pytest.mark.parametrize("place", ["content", "reasoning_content", "refusal"])
def test_all_texts_of_a_frame_count(place: str):
    """Each choice, each tool call, and reasoning beside an answer, escapes and quotes among them."""
    text = 'a "quoted" \\ word ' * 4
    alone = _seen({place: text})
    assert alone >= len(text) // 4
    assert _seen(*[{place: text}] * 8) >= 8 * alone - 8
    tools = [{"index": index, "function": {"arguments": text}} for index in range(8)]
    assert _seen({"tool_calls": tools}) >= 8 * alone - 8
    assert _seen({"reasoning": text, "content": text}) >= 2 * alone - 2
    assert _seen({"content": text, "reasoning": text}) >= 2 * alone - 2


def test_the_providers_own_count_is_believed_when_it_is_more():
    """A running count above the text that was seen: hidden reasoning, for one."""
    meter = StreamMeter(edits=False)
    frame = {**_chunk("a"), "usage": {"prompt_tokens": 5, "completion_tokens": 900}}
    meter.feed(b"data: " + json.dumps(frame).encode() + b"\n\n")
    assert meter.output_seen == 900


def test_the_last_tier_that_was_told_counts():
    """Also where the frame with the usage names none."""
    meter = StreamMeter(edits=True)
    for tier in ("default", "priority"):
        meter.feed(b"data: " + json.dumps(_chunk("a", service_tier=tier)).encode() + b"\n\n")
    meter.feed(
        b"data: " + json.dumps({**_chunk(None), "choices": [], "usage": _COUNTS}).encode() + b"\n\n"
    )
    assert meter.finish() == (Charge("gpt-4o-2024-08-06", _USAGE, "priority"),)


_TEXT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
_DONE = b"data: [DONE]\n\n"
_EVENTS = (
    _TEXT + b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5}}\n\n' + _DONE
)
_OBJECT = b'{"model":"m","usage":{"prompt_tokens":12,"completion_tokens":5}}'


@pytest.mark.parametrize(
    "kind", ["text/event-stream; charset=utf-8", "text/plain", "application/json", "x/y", ""]
)
@pytest.mark.parametrize("first", [b"", b"\xef\xbb\xbf", b"\n", b": busy\n\n"])
@pytest.mark.parametrize("size", [1, 1000])
def test_events_are_known_by_what_was_asked_for(kind: str, first: bytes, size: int):
    """Whatever type they come under, and however they are cut, the usage is read and taken out."""
    meter = meter_of(
        Asked("m", stream=True, asks_for_usage=True), AnswerHead(200, (("content-type", kind),))
    )
    stream = first + _EVENTS
    out = (
        b"".join(meter.feed(stream[at : at + size]) for at in range(0, len(stream), size))
        + meter.flush()
    )
    assert meter.finish() == (Charge("", Units(input=12, output=5, requests=1)),)
    assert out == first + _TEXT + _DONE
    assert (meter.done, meter.edits, meter.boundary is not None) == (True, True, True)


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", ""])
@pytest.mark.parametrize("stream", [True, False])
def test_an_object_is_known_by_its_first_byte(kind: str, stream: bool):
    """A server that answers a request for a stream with one object is read as what it sent."""
    meter = meter_of(
        Asked("m", stream=stream, asks_for_usage=stream), AnswerHead(200, (("content-type", kind),))
    )
    assert meter.feed(b" \n") + meter.feed(_OBJECT) + meter.flush() == b" \n" + _OBJECT
    assert meter.finish() == (Charge("m", Units(input=12, output=5, requests=1)),)
    assert (meter.edits, meter.boundary) == (False, None)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (_COUNTS, _USAGE),
        ({"prompt_tokens": 8, "total_tokens": 8}, Units(input=8, requests=1)),
        (
            {"prompt_tokens": 8, "completion_tokens": 2.0, "prompt_tokens_details": None},
            Units(input=8, output=2, requests=1),
        ),
        (
            {"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": 99}},
            Units(input=8, cached=8, requests=1),
        ),
        (
            {
                "prompt_tokens": 8,
                "completion_tokens": 2,
                "total_tokens": 15,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Units(input=8, output=7, reasoning=5, requests=1),
        ),
        (None, None),
        ([], None),
        ({}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": "8"}, None),
    ],
)
def test_counts_come_into_one_normal_form(usage: object, expected: Units | None):
    """Details are parts; null is no usage; reasoning is added only where the total says that it is outside."""
    meter = JsonMeter()
    meter.feed(json.dumps({"model": "m", "usage": usage}).encode())
    meter.flush()
    assert meter.finish() == (() if expected is None else (Charge("m", expected),))


def _embeddings(floats: int, indent: int | None, usage_first: bool) -> bytes:
    data = [{"object": "embedding", "index": 0, "embedding": [0.0123456789] * floats}]
    counts = {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 7}}
    document = (
        {"object": "list", **counts, "data": data}
        if usage_first
        else {"object": "list", "data": data, **counts}
    )
    return json.dumps(document, indent=indent).encode()


@pytest.mark.parametrize("floats", [2, 2_000, 200_000])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("usage_first", [False, True])
def test_usage_of_an_embedding_of_any_size_is_read(
    floats: int, indent: int | None, usage_first: bool
):
    """Also of one that is longer than what is kept, wherever the usage stands in it."""
    body = _embeddings(floats, indent, usage_first)
    meter = JsonMeter()
    for at in range(0, len(body), 60_000):
        chunk = body[at : at + 60_000]
        assert meter.feed(chunk) == chunk
    assert meter.flush() == b""
    assert meter.finish() == (Charge("text-embedding-3-small", Units(input=7, requests=1)),)


def test_a_long_chat_answer_is_read_at_both_ends():
    """The model stands before the text and the usage behind it; nested words of the same name mislead nobody."""
    message = {
        "content": 'x"usage":{"prompt_tokens":1},' * 3000,
        "usage": {"prompt_tokens": 1},
        "model": "no",
    }
    document = {
        "id": "1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"message": message}],
        "usage": _COUNTS,
        "service_tier": "flex",
    }
    for size in (1 << 20, 1 << 13):
        meter = JsonMeter(max_body=max(size, 1 << 13))
        meter.feed(json.dumps(document).encode())
        meter.flush()
        assert meter.finish() == (Charge("gpt-4o-2024-08-06", _USAGE, "flex"),)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[1]", b"{" * 100_000, b'\n\n{"model":"m"}', b'{"usage":{"prompt_tokens":1}'],
)
def test_an_answer_that_is_no_json_object_has_no_usage(body: bytes):
    """It passes, and nothing is counted."""
    meter = JsonMeter()
    assert meter.feed(body) == body
    meter.flush()
    assert meter.finish() == ()


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_no_error_is_none(error: object):
    """Servers that always send the member."""
    meter = JsonMeter()
    meter.feed(json.dumps({"error": error, "usage": {"prompt_tokens": 1}}).encode())
    meter.flush()
    assert meter.error == ""


def test_an_error_body_is_named():
    """The code of an error answer is kept for the line."""
    meter = JsonMeter()
    meter.feed(b'{"error":{"message":"m","type":"t","param":null,"code":"insufficient_quota"}}')
    meter.flush()
    assert meter.error == "insufficient_quota"


def test_a_long_answer_of_many_small_parts_is_read_in_few_steps() -> None:
    """An answer with ``logprobs`` has a bracket or a quote in every third byte. What it nests is passed over in one step of the
    interpreter's own, so that none of its pieces holds up the event loop; where a piece ends makes no difference."""
    part = b'{"token":"\\"}","logprob":-0.1,"bytes":[97],"top":[{"a":{"b":[{"c":"{"}]}}]},'
    body = (
        b'{"choices":[{"logprobs":{"content":['
        + part * 3_000
        + b'{}]}}],"usage":{"prompt_tokens":7},"model":"m"}'
    )
    for size in (1 << 16, 4_093, 17):
        meter = JsonMeter()
        assert (
            b"".join(meter.feed(body[at : at + size]) for at in range(0, len(body), size)) == body
        )
        meter.flush()
        assert meter.finish() == (Charge("m", Units(input=7, requests=1)),)


def test_an_answer_that_nests_without_an_end_is_not_read_on() -> None:
    """It has no usage, and takes no time."""
    meter = JsonMeter(max_body=16)
    meter.feed(b'{"a":' + b"[" * 100_000)
    meter.feed(b"]" * 100_000 + b',"usage":{"prompt_tokens":7}}')
    meter.flush()
    assert meter.finish() == ()


@pytest.mark.parametrize("more", [{}, {"completion_tokens": 0, "total_tokens": 0}])
def test_zeros_are_no_count(more: dict[str, int]) -> None:
    """Every request has input. A count that came before them stays."""
    zeros = {"prompt_tokens": 0, **more}
    whole = JsonMeter()
    whole.feed(json.dumps({"model": "m", "usage": zeros}).encode())
    whole.flush()
    assert whole.finish() == ()
    stream = StreamMeter(edits=False)
    for usage in (_COUNTS, zeros):
        stream.feed(b"data: " + json.dumps(_chunk("a", usage=usage)).encode() + b"\n\n")
    assert _counted(stream) == _USAGE


def test_what_a_tool_of_free_text_is_given_is_output() -> None:
    """A custom tool's ``input`` is written by the model as ``arguments`` are."""
    meter = StreamMeter(edits=False)
    delta = {"tool_calls": [{"index": 0, "custom": {"name": "sh", "input": "x" * 400}}]}
    meter.feed(
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"
    )
    assert meter.output_seen == 100


@pytest.mark.parametrize(
    ("total", "uneven"), [(42, False), (None, False), (0, False), (43, True), (30, True)]
)
def test_counts_that_do_not_come_to_their_total(total: int | None, uneven: bool) -> None:
    """They are charged as they stand, and the charge says so. A total of 0 is none."""
    meter = JsonMeter()
    meter.feed(json.dumps({"model": "m", "usage": {**_COUNTS, "total_tokens": total}}).encode())
    meter.flush()
    assert meter.finish() == (Charge("m", _USAGE, uneven=uneven),)


@pytest.mark.parametrize("size", [1, 40, 10_000])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_sound_of_an_answer_is_kept(streamed: bool, size: int) -> None:
    """Its id, where sound was asked for: a later request may name it."""
    sound = {"id": "audio_1", "data": "A" * 400, "transcript": '"audio":{"id":"audio_2"'}
    answer = {"model": "m", "choices": [{"message": {"audio": sound}}], "usage": _COUNTS}
    if streamed:
        answer["choices"] = [{"delta": {"audio": sound}}]
    data = json.dumps(answer).encode()
    data = b"data: " + data + b"\n\n" if streamed else data
    for asks, created in ((frozenset({"output_audio"}), ("audio_1",)), (frozenset(), ())):
        meter = meter_of(Asked(stream=streamed, asks=asks, choices=2), AnswerHead(200, ()))
        for at in range(0, len(data), size):
            assert meter.feed(data[at : at + size]) == data[at : at + size]
        meter.flush()
        assert (meter.created, meter.finish()[0].units) == (created, _USAGE)
