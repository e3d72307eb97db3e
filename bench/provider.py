"""A provider that costs as little as possible: canned answers over TLS, written by hand on asyncio.

Run as ``python -m bench.provider CERT KEY``; prints its port. A request whose body says ``"stream":true`` gets ``--chunks``
frames, one write each and a pause between them, so that each is a read of its own at the proxy. With ``--lock-step`` a frame waits
for a line on stdin instead, which lets one frame of every stream out; the end waits for one more. A call whose question says
"answer after 2 s" is answered then. ``GET /book`` says how many calls came, by path.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import ssl
import sys
from collections import Counter
from dataclasses import dataclass, field

from bench import formats

BOOK = b"/book"
CHUNKS = 200
PAUSE_S = 0.002


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

    book: Counter[str] = field(default_factory=Counter)
    """How many calls came, by path. A provider charges for what it works on, whoever waits for it."""

    async def stream(self, writer: asyncio.StreamWriter, stream: formats.Stream) -> None:
        writer.write(formats.HEAD_OF_STREAM + stream.begin)
        for number in range(self.chunks):
            frame = stream.frames[number % len(stream.frames)]
            if self.steps is not None:
                await self.steps.passed(number)
                writer.write(frame)
            else:
                writer.write(frame)
                await asyncio.sleep(self.pause_s)
        if self.steps is not None:
            await self.steps.passed(self.chunks)
        writer.write(stream.end)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                await self.answer(writer, head.split(b" ", 2)[1], body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, writer: asyncio.StreamWriter, path: bytes, body: bytes) -> None:
        if path == BOOK:
            writer.write(formats.whole(dict(self.book)))
            return
        anthropic = path.endswith(b"/messages")
        self.book[path.decode("latin-1")] += 1
        if later := re.search(rb"answer after (\d+) s", body):
            await asyncio.sleep(int(later[1]))
        if not re.search(rb'"stream": ?true', body):
            writer.write(formats.ANTHROPIC if anthropic else formats.OPENAI)
        elif anthropic:
            await self.stream(writer, formats.anthropic_stream())
        else:
            await self.stream(writer, formats.openai_stream(usage=b"include_usage" in body))


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
