"""SECURITY.md rows 41 and 42: content types by which another body would be read, and text that a client chooses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.families.samples.forms import BOUNDARY, wav
from tests.support.attack import BODY, Attacked, get, post
from tests.support.inproc import TENANT

from tollhouse.gateway import Gateway

FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"


def typed(content_type: str | None) -> bytes:
    whole = post(BODY).replace(b"Content-Type: application/json\r\n", b"")
    if content_type is None:
        return whole
    return whole.replace(
        b"\r\n\r\n", b"\r\nContent-Type: " + content_type.encode() + b"\r\n\r\n", 1
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json; charset=gzip",
        "application/x-www-form-urlencoded",
        f"multipart/form-data; boundary={BOUNDARY}",
        "text/plain",
        "application/msgpack",
        "",
        None,
    ],
)
def test_the_type_of_a_json_body(attacked: Attacked, content_type: str | None) -> None:
    """Row 41: it was judged as JSON in UTF-8, and the provider is told that it is that."""
    with attacked.tunnel() as client:
        answer = client.ask(typed(content_type))
    assert answer.status == 200
    received = attacked.clean()
    assert (received.body, received.get_all("content-type")) == (BODY, ["application/json"])
    attacked.lines(1)


@pytest.mark.parametrize(
    "said",
    [
        "Content-Type: text/plain; charset=utf-16",
        "Content-Type: text/plain; charset=ebcdic-us",
        "Content-Type: application/json",
        "Content-Transfer-Encoding: base64",
        "Content-Type: multipart/mixed; boundary=x",
    ],
)
def test_the_type_of_a_field(attacked: Attacked, said: str) -> None:
    """Row 41: a field of a form that the provider might read as another text."""
    dispositions = 'Content-Disposition: form-data; name="model"', said
    head = "\r\n".join([f"--{BOUNDARY}", *dispositions, "", ""]).encode()
    file = 'Content-Disposition: form-data; name="file"; filename="a.wav"'
    body = head + f"whisper-1\r\n--{BOUNDARY}\r\n{file}\r\n\r\n".encode() + wav(1)
    body += f"\r\n--{BOUNDARY}--\r\n".encode()
    with attacked.tunnel() as client:
        sent = post(body, path="/v1/audio/transcriptions")
        answer = client.ask(sent.replace(b"Content-Type: application/json", FORM.encode(), 1))
    attacked.refused(answer, 400, "bad_request")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from strings(key)
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value


async def newest(gateway: Gateway) -> Any:
    """The last record of the tenant's stream."""
    return await gateway.redis.xrevrange(f"toll:{{{TENANT}}}:calls", count=1)


ODD = {
    "long": "x" * 30_000,
    "a line's end": "x\u2028\u0085" * 5_000,
    "JSON": '","cost_usd":"0","x":"' * 1_000,
    "a terminal's": "\u009b31m\u202e" * 3_000,
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", ["trace", "user agent", "path", "model"])
def test_text_in_the_line(attacked: Attacked, place: str, name: str) -> None:
    """Row 42: no text of the line is over 512 bytes, one line stays one line, and Redis keeps a bounded record."""
    text = ODD[name]
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())[:30_000]
    match place:
        case "trace":
            sent = get(f"X-Coreason-Trace-ID: {text}")
        case "user agent":
            sent = get(f"User-Agent: {text}")
        case "path":
            sent = get(path=f"/v1/{quoted}")
        case _:
            model = text.replace('"', '\\"')
            sent = post(BODY.replace(b'"gpt-4o"', f'"{model}"'.encode()))
    written = (attacked.inside.directory / "calls.jsonl").read_bytes().count(b"\n")
    with attacked.tunnel() as client:
        answer = client.ask(sent)
    assert answer.status == {"path": 403, "model": 400}.get(place, 200)
    [line] = attacked.lines(1)
    assert max(len(one.encode()) for one in strings(line)) <= 512
    assert (attacked.inside.directory / "calls.jsonl").read_bytes().count(b"\n") == written + 1
    assert len(attacked.inside.standin.snapshot()) == (answer.status == 200)

    if answer.status == 200:
        # What is refused before it is held for is not in the stream.
        [[_, record]] = attacked.inside.do(newest(attacked.inside.gateway))
        assert record[b"call_id"].decode() == line["call_id"]
        assert sum(len(key) + len(value) for key, value in record.items()) < 2_500
