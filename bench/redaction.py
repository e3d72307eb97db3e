"""What the search for our own key in answers costs: ``uv run python -m bench.redaction``."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from tollhouse.credential.redact import Redactor
from tollhouse.credential.secret import Secret

FRAME = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1741604369,"model":"gpt-4o-2024-08-06",'
    b'"service_tier":"default","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"content":" word"},'
    b'"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
)
HEADERS = [
    ("content-type", "text/event-stream"),
    *((f"x-ratelimit-{n}", "30000000") for n in range(10)),
]


def _us(work: Callable[[], object], times: int) -> float:
    """The best of seven rounds: the machine's other work only adds."""

    def one_round() -> float:
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) / times

    return min(one_round() for _ in range(7)) * 1e6


def main() -> None:
    secret = Secret("sk-proj-" + secrets.token_urlsafe(42))
    redactor = Redactor([secret])
    chunks = {
        "a frame of 270 bytes": FRAME,
        "the same with quotes in it": FRAME.replace(b"word", b'{\\"a\\": \\"b\\"}'),
        "the same with other escapes": FRAME.replace(b"word", b"\\u00e9t\\u00e9 100%"),
        "the same, cut in a word": FRAME[:-70],
    }
    print(f"{_us(lambda: Redactor([secret]), 2000):8.2f} us  a call")
    print(f"{_us(lambda: redactor.headers(HEADERS), 2000):8.2f} us  the headers of an answer")
    for name, chunk in chunks.items():
        print(f"{_us(partial(redactor.feed, chunk), 2000):8.2f} us  {name}")
    whole = {
        "frames": FRAME * 4000,
        "base64 (embeddings)": base64.b64encode(secrets.token_bytes(786_432)),
        "HTML, escaped as Go does": FRAME.replace(b"word", b"\\u003cb\\u003e") * 4000,
    }
    for name, body in whole.items():
        pieces = [body[at : at + 65_536] for at in range(0, 1 << 20, 65_536)]
        print(f"{_us(partial(_feed_all, redactor, pieces), 3):8.0f} us  a MB of {name}")


def _feed_all(redactor: Redactor, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        redactor.feed(piece)


if __name__ == "__main__":
    main()
