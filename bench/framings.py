"""What metering adds to a chunk of a streamed answer: ``python -m bench.framings``.

For each family and kind, chunks of about 200 bytes of text go through its meter and through a bare
pass-through, in turn. What is shown is the lowest CPU time of some rounds. Behind it stands the
memory of a process that has all families loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.base import Family
from tollhouse.families.formats.aws_event_stream import frame
from tollhouse.families.meters import AnswerHead, Meter, PassThrough
from tollhouse.providers import BUILT_IN

CHUNKS: Final = 5_000
ROUNDS: Final = 7
SIZE: Final = 200
WANTED_US: Final = 15.0
WANTED_MB: Final = 110
_EVENTS: Final = "text/event-stream"
_FRAMES: Final = "application/vnd.amazon.eventstream"
_CHAT: Final = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Say it."}]}'


class Stream(NamedTuple):
    """A streamed answer. ``chunk`` makes one chunk that carries the text."""

    provider: str
    path: str
    body: bytes
    chunk: Callable[[str], bytes]
    type: str = _EVENTS
    host: str = ""


def _event(document: str, name: str = "") -> Callable[[str], bytes]:
    head = f"event: {name}\n" if name else ""
    return lambda text: f"{head}data: {document % text}\n\n".encode()


def _line(document: str) -> Callable[[str], bytes]:
    return lambda text: f"{document % text}\n".encode()


def _element(document: str) -> Callable[[str], bytes]:
    return lambda text: f",\r\n{document % text}".encode()


def _frame(kind: str, document: str) -> Callable[[str], bytes]:
    head = ((":event-type", kind), (":message-type", "event"))
    return lambda text: frame(head, (document % text).encode())


_OPENAI: Final = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    '"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}'
)
_GEMINI: Final = (
    '{"candidates":[{"content":{"parts":[{"text":"%s"}],"role":"model"},"index":0}],'
    '"modelVersion":"gemini-2.5-flash"}'
)
_CLAUDE: Final = (
    '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}'
)
_CLAUDE_ASKS: Final = (
    b'{"model":"claude-sonnet-4-5","stream":true,"max_tokens":99,'
    b'"messages":[{"role":"user","content":"Say it."}]}'
)
_GEMINI_ASKS: Final = b'{"contents":[{"role":"user","parts":[{"text":"Say it."}]}]}'
_AWS: Final = "bedrock-runtime.us-east-1.amazonaws.com"
_CLAUDES: Final = "anthropic.claude-sonnet-4-5-20250929-v1:0"
STREAMS: Final = {
    "openai chat": Stream("openai", "/v1/chat/completions", _CHAT, _event(_OPENAI)),
    "openai chat, usage in each": Stream(
        "openai", "/v1/chat/completions", _CHAT, _event(_OPENAI[:-1] + ',"usage":null}')
    ),
    "openai responses": Stream(
        "openai",
        "/v1/responses",
        b'{"model":"m","stream":true,"input":"Say it."}',
        _event(
            '{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,'
            '"content_index":0,"delta":"%s"}',
            "response.output_text.delta",
        ),
    ),
    "anthropic messages": Stream(
        "anthropic", "/v1/messages", _CLAUDE_ASKS, _event(_CLAUDE, "content_block_delta")
    ),
    "google events": Stream(
        "gemini",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        _GEMINI_ASKS,
        _event(_GEMINI),
    ),
    "google events, usage in each": Stream(
        "gemini",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        _GEMINI_ASKS,
        _event(_GEMINI[:-1] + ',"usageMetadata":{"promptTokenCount":9}}'),
    ),
    "google array": Stream(
        "gemini",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        _GEMINI_ASKS,
        _element(_GEMINI),
        "application/json",
    ),
    "google array, usage in each": Stream(
        "gemini",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        _GEMINI_ASKS,
        _element(_GEMINI[:-1] + ',"usageMetadata":{"promptTokenCount":9}}'),
        "application/json",
    ),
    "bedrock converse": Stream(
        "bedrock",
        f"/model/{_CLAUDES}/converse-stream",
        b'{"messages":[{"role":"user","content":[{"text":"Say it."}]}]}',
        _frame("contentBlockDelta", '{"contentBlockIndex":0,"delta":{"text":"%s"}}'),
        _FRAMES,
        _AWS,
    ),
    "cohere chat": Stream(
        "cohere",
        "/v2/chat",
        _CHAT,
        _event(
            '{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"%s"}}}}',
            "content-delta",
        ),
    ),
    "cohere v1 lines": Stream(
        "cohere",
        "/v1/chat",
        b'{"model":"command-r","stream":true,"message":"Say it."}',
        _line('{"is_finished":false,"event_type":"text-generation","text":"%s"}'),
        "application/stream+json",
    ),
    "mistral chat": Stream("mistral", "/v1/chat/completions", _CHAT, _event(_OPENAI)),
}


def _family(name: str) -> tuple[Family, Dialect]:
    [found] = [provider for provider in BUILT_IN if provider.name == name]
    return found.family, found.dialect


def asked(stream: Stream) -> tuple[Family, Asked]:
    family, dialect = _family(stream.provider)
    operation = family.operation("POST", stream.path, "", stream.host)
    assert operation is not None, stream
    head = (("content-type", "application/json"),)
    query = "alt=sse" if stream.provider == "gemini" and stream.type == _EVENTS else ""
    request = Request(operation, stream.path, head, stream.body, query, stream.host)
    return family, family.read(request, dialect)


def chunks(stream: Stream) -> list[bytes]:
    """Each of `SIZE` bytes, if the framing leaves so much for the text."""
    room = max(SIZE - len(stream.chunk("")), 20)
    text = ("Who pays at the tollhouse, " * 10)[:room]
    return [stream.chunk(text) for _ in range(CHUNKS)]


def _us(make: Callable[[], Meter], pieces: list[bytes]) -> float:
    meter = make()
    feed = meter.feed
    before = time.process_time_ns()
    for piece in pieces:
        feed(piece)
        meter.output_seen  # noqa: B018 - the road asks for it behind each chunk.
    return (time.process_time_ns() - before) / len(pieces) / 1_000


def measured(stream: Stream) -> tuple[float, float]:
    """Microseconds a chunk: of the meter, and of the pass-through."""
    family, request = asked(stream)
    head = AnswerHead(200, (("content-type", stream.type),))
    pieces = chunks(stream)
    if stream.type == "application/json":
        pieces[0] = b"[" + pieces[0].lstrip(b",\r\n")
    rounds = [
        (_us(lambda: family.meter(request, head), pieces), _us(PassThrough, pieces))
        for _ in range(ROUNDS)
    ]
    return min(meter for meter, _ in rounds), min(bare for _, bare in rounds)


_LOADED: Final = """
import importlib, json, pkgutil, psutil
import tollhouse.gateway
before = psutil.Process().memory_info().rss
import tollhouse.families, tollhouse.providers
for room in (tollhouse.families, tollhouse.providers):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
print(json.dumps([before, psutil.Process().memory_info().rss]))
"""
_FAMILIES: Final = """
import importlib, json, pkgutil, psutil
before = psutil.Process().memory_info().rss
import tollhouse.families
for module in pkgutil.walk_packages(tollhouse.families.__path__, "tollhouse.families."):
    importlib.import_module(module.name)
print(json.dumps([before, psutil.Process().memory_info().rss]))
"""


def _memory(program: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return [size / 2**20 for size in json.loads(done.stdout)]


def main() -> int:
    print(f"{'us a chunk':30}{'bytes':>6}{'meter':>8}{'bare':>8}{'added':>8}{'ratio':>8}")
    late = False
    for name, stream in STREAMS.items():
        metered, bare = measured(stream)
        added = metered - bare
        late = late or added > WANTED_US
        size = len(chunks(stream)[1])
        print(f"{name:30}{size:6}{metered:8.2f}{bare:8.2f}{added:8.2f}{metered / bare:8.1f}")
    print(f"wanted: at most {WANTED_US} us added\n")
    alone, families = _memory(_FAMILIES)
    gateway, loaded = _memory(_LOADED)
    print(f"MB of Python alone {alone:.1f}, with all families {families:.1f}")
    print(f"MB of the gateway's modules {gateway:.1f}, with all families {loaded:.1f}")
    print(f"wanted: at most {WANTED_MB} MB of a worker with all families")
    return int(late or loaded > WANTED_MB)


if __name__ == "__main__":
    sys.exit(main())
