"""SECURITY.md row 23: a provider that gives our key back gets it overwritten, and nothing else.

Comparisons are made before they are asserted, so that one that fails does not show the key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.gateway import Road

from tollhouse.demo.standin_script import Behaviour, ScriptedReply, Steps, reply

CHAT = "https://api.openai.com/v1/chat/completions"
MODELS = "https://api.openai.com/v1/models"
COUNTS = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
JSON = ("content-type", "application/json")
SSE = ("content-type", "text/event-stream; charset=utf-8")
MARK = "[redacted by tollhouse]"

Parts = tuple[str, str, str]


def in_base64(encode: Callable[[bytes], bytes], before: str) -> Callable[[str], Parts]:
    """Base64 of a text with the key in it: what the key does not decide alone stays."""

    def parts(key: str) -> Parts:
        text = encode(f"{before}{key}, no more".encode()).decode()
        start, end = -(-len(before) * 8 // 6), (len(before) + len(key)) * 8 // 6
        return text[:start], text[start:end], text[end:]

    return parts


def spelt(form: str) -> Callable[[str], Parts]:
    return lambda key: ("Bearer ", "".join(form.format(ord(sign)) for sign in key), "!")


SPELLINGS: dict[str, Callable[[str], Parts]] = {
    "plain": spelt("{:c}"),
    "percent": spelt("%{:02x}"),
    "json": spelt("\\u{:04x}"),
    "base64": in_base64(base64.b64encode, ""),
    "base64 1 off": in_base64(base64.b64encode, "x-key="),
    "base64 2 off": in_base64(base64.urlsafe_b64encode, "?~key:"),
}
each_spelling = pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())


def marked(parts: Parts) -> str:
    before, key, after = parts
    return before + MARK.ljust(len(key), "*") + after


def asked(**more: Any) -> dict[str, Any]:
    return {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "what is your key?"}],
        **more,
    }


def answer(text: str, model: str = "gpt-4o") -> bytes:
    """A chat completion that says ``text``, which is escaped already."""
    message = (
        f'{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}'
    )
    return f'{{"model":"{model}","choices":[{message}],"usage":{json.dumps(COUNTS)}}}'.encode()


def frame(text: str, rest: str = "") -> bytes:
    return f'data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}],"model":"gpt-4o"{rest}}}\n\n'.encode()


@pytest.mark.parametrize("url", [CHAT, MODELS], ids=["metered", "unmetered"])
@each_spelling
def test_in_a_header(road: Road, spelling: Callable[[str], Parts], url: str) -> None:
    """The value is overwritten in place; the headers beside it and the body are as they were."""
    parts = spelling(road.standin.key)
    body = answer("hello")
    road.standin.script(reply(200, body, [JSON, ("x-seen", "".join(parts)), ("x-other", "kept")]))
    with road.http() as client:
        got = client.post(url, json=asked()) if url == CHAT else client.get(url)
    clean = got.headers["x-seen"] == marked(parts)
    assert clean
    assert (got.status_code, got.headers["x-other"], got.content) == (200, "kept", body)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@each_spelling
def test_in_json(road: Road, spelling: Callable[[str], Parts], http2: bool) -> None:
    """Overwritten by as many bytes; the length and the count stay, and the JSON is JSON."""
    parts = spelling(road.standin.key)
    road.standin.script(reply(200, answer("".join(parts)), [JSON]))
    with road.http(http2=http2) as client:
        got = client.post(CHAT, json=asked())
    clean = got.content == answer(marked(parts))
    assert clean
    assert int(got.headers["content-length"]) == len(got.content)
    assert MARK in got.json()["choices"][0]["message"]["content"]
    [line] = road.wait_lines(1)
    assert (line["charged_by"], line["tokens"]) == ("usage", {"input": 7, "output": 5})


def test_at_the_end_of_a_body(road: Road) -> None:
    """A key that the body ends with, and a body that ends with half a key: all of it comes, of the length announced."""
    key = road.standin.key
    for text, wanted in (
        (f"it is {key}", "it is " + MARK.ljust(len(key), "*")),
        (f"it is {key[:30]}", None),
    ):
        for body in (text.encode(), (text.encode(),)):
            road.standin.script(reply(400, body))
            with road.http() as client:
                got = client.post(CHAT, json=asked())
            clean = got.text == (wanted or text)
            assert clean


def test_in_an_error(road: Road) -> None:
    """An error answer is not metered, and cleaned all the same."""
    parts = SPELLINGS["plain"](road.standin.key)
    error = '{"error":{"message":"Incorrect API key provided: %s","code":"bad"}}'
    road.standin.script(reply(403, (error % "".join(parts)).encode(), [JSON]))
    with road.http() as client:
        got = client.post(CHAT, json=asked())
    clean = got.text == error % marked(parts)
    assert clean
    assert got.status_code == 403


def test_the_line_is_clean(road: Road) -> None:
    """What the meter reads for the line has been cleaned before: a model named like the key is not logged."""
    key = road.standin.key
    road.standin.script(reply(200, answer("hello", model=key), [JSON]))
    with road.http() as client:
        assert client.post(CHAT, json=asked()).status_code == 200
    [line] = road.wait_lines(1)
    clean = line["model_served"] == MARK.ljust(len(key), "*")
    assert clean


@pytest.mark.parametrize("include_usage", [False, True], ids=["injected", "asked for"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
@each_spelling
def test_in_a_stream_cut_anywhere(
    road: Road, spelling: Callable[[str], Parts], size: int, include_usage: bool
) -> None:
    """However the stream is cut into chunks the client gets its bytes, the key overwritten but for its first characters where it
    is cut behind them, and the count is read."""
    parts = spelling(road.standin.key)
    null = ',"usage":null' if include_usage else ""
    counts = frame("", f',"usage":{json.dumps(COUNTS)}').replace(
        b'{"index":0,"delta":{"content":""}}', b""
    )
    sent = [
        frame("it is ", null),
        frame("".join(parts), null),
        frame("!", null),
        counts,
        b"data: [DONE]\n\n",
    ]
    whole = b"".join(sent)
    road.standin.script(
        reply(200, [whole[at : at + size] for at in range(0, len(whole), size)], [SSE])
    )
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    with road.http() as client:
        got = client.post(CHAT, json=asked(stream=True, **options))
    if not include_usage:
        sent[3] = b""
    before, key, after = parts
    mark = MARK.ljust(len(key), "*")
    passed = [before + key[:n] + mark[n:] + after for n in range(4 if size <= 7 else 1)]
    clean = any(got.content == b"".join([sent[0], frame(one, null), *sent[2:]]) for one in passed)
    assert clean
    [line] = road.wait_lines(1)
    assert (line["charged_by"], line["tokens"]) == ("usage", {"input": 7, "output": 5})


def test_no_frame_waits(road: Road) -> None:
    """Each frame is with the client before the next one is sent, the one with the key too."""
    key = road.standin.key
    steps = Steps()
    frames = [frame("it is "), frame(key), frame("sk-"), b"data: [DONE]\n\n"]
    road.standin.script(Behaviour(reply=ScriptedReply(200, [SSE], frames), steps=steps))
    steps.release()
    seen = b""
    with road.http() as client, client.stream("POST", CHAT, json=asked(stream=True)) as got:
        for piece in got.iter_raw():
            seen += piece
            if seen.endswith(b"\n\n"):
                steps.release()
    clean = seen == b"".join(frames).replace(key.encode(), MARK.ljust(len(key), "*").encode())
    assert clean
