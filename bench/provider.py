"""A provider that costs as little as possible: canned answers over TLS, written by hand on asyncio.

Run as ``python -m bench.provider CERT KEY``; prints its port. A request whose body says ``"stream":true`` gets ``--chunks``
frames, one write each and a pause between them, so that each is a read of its own at the proxy. With ``--lock-step`` a frame waits
for a line on stdin instead, which lets one frame of every stream out; the end waits for one more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import ssl
import sys
from dataclasses import dataclass

CHUNKS = 200
PAUSE_S = 0.002

_ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1741604369,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 80},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 60,
            "completion_tokens": 80,
            "total_tokens": 140,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_bench",
    }
).encode()
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(_ANSWER),
    _ANSWER,
)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _frame(choices: str, usage: str) -> bytes:
    return _chunk(
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1741604369,"model":"gpt-4o-2024-08-06",'
        b'"service_tier":"default","system_fingerprint":"fp_bench","choices":%s%s}\n\n'
        % (choices.encode(), usage.encode())
    )


class Steps:
    """Frames that may go out, of all streams alike."""

    def __init__(self) -> None:
        self._allowed = 0
        self._more = asyncio.Event()

    def allow(self) -> None:
        self._allowed += 1
        self._more.set()
        self._more = asyncio.Event()

    async def passed(self, number: int) -> None:
        """Returns when frame ``number``, counted from 0, may go out."""
        while number >= self._allowed:
            await self._more.wait()


@dataclass(frozen=True)
class Answering:
    """How streams are answered."""

    pause_s: float
    chunks: int
    steps: Steps | None
    """None: a frame goes out when the pause behind the one before is over."""

    async def stream(self, writer: asyncio.StreamWriter, *, usage: bool) -> None:
        writer.write(_STREAM)
        delta = '[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]'
        frame = _frame(delta, ',"usage":null' if usage else "")
        for number in range(self.chunks):
            if self.steps is not None:
                await self.steps.passed(number)
                writer.write(frame)
            else:
                writer.write(frame)
                await asyncio.sleep(self.pause_s)
        if self.steps is not None:
            await self.steps.passed(self.chunks)
        if usage:
            counts = ',"usage":{"prompt_tokens":60,"completion_tokens":200,"total_tokens":260}'
            writer.write(_frame("[]", counts))
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if re.search(rb'"stream": ?true', body):
                    await self.stream(writer, usage=b"include_usage" in body)
                else:
                    writer.write(_JSON)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _take_steps(steps: Steps) -> None:
    """A line on stdin allows a frame."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while await reader.readline():
        steps.allow()


async def serve(options: argparse.Namespace) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    steps = Steps() if options.lock_step else None
    answering = Answering(options.pause, options.chunks, steps)
    server = await asyncio.start_server(answering.serve, "127.0.0.1", 0, ssl=context, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    if steps is not None:
        await _take_steps(steps)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.provider", description=__doc__)
    parser.add_argument("cert")
    parser.add_argument("key")
    parser.add_argument("--pause", type=float, default=PAUSE_S)
    parser.add_argument("--chunks", type=int, default=CHUNKS)
    parser.add_argument("--lock-step", action="store_true")
    allow_many_files()
    asyncio.run(serve(parser.parse_args()))


def allow_many_files() -> None:
    """As many open files as the machine lets this process have: a stream takes one or two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))


if __name__ == "__main__":
    main()
