"""A provider that costs as little as possible: canned answers over TLS, written by hand on asyncio.

Run as ``python -m bench.provider CERT KEY [PAUSE_S]``; prints its port. A request whose body says ``"stream":true`` gets ``CHUNKS``
frames, one write each and a pause between them, so that each is a read of its own at the proxy.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from functools import partial

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


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float = PAUSE_S
) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            if re.search(rb'"stream": ?true', body):
                usage = b"include_usage" in body
                writer.write(_STREAM)
                delta = (
                    '[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]'
                )
                for _ in range(CHUNKS):
                    writer.write(_frame(delta, ',"usage":null' if usage else ""))
                    await asyncio.sleep(pause_s)
                if usage:
                    counts = (
                        ',"usage":{"prompt_tokens":60,"completion_tokens":200,"total_tokens":260}'
                    )
                    writer.write(_frame("[]", counts))
                writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            else:
                writer.write(_JSON)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(cert: str, key: str, pause_s: str = str(PAUSE_S)) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    serve = partial(_serve, pause_s=float(pause_s))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
