"""OpenAI's SDK with the two retries that it makes by itself: whatever the provider says, it sees at most three requests for one
call of the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import DefaultHttpxClient, OpenAI, OpenAIError
from tests.support.gateway import PLACEHOLDER
from tests.support.inproc import Inside, open_inside

from tollhouse.demo.standin_script import Behaviour, Latch, reply, reset_before_headers

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "once"}]}
KEPT: dict[str, Any] = {"model": "gpt-4o", "input": "once"}
"""The provider keeps the answer: a second request would make a second one."""


def says(status: int, *headers: tuple[str, str]) -> Behaviour:
    return reply(status, b'{"error":{}}', [("retry-after-ms", "1"), *headers])


@contextlib.contextmanager
def an_sdk(inside: Inside) -> Iterator[OpenAI]:
    client = DefaultHttpxClient(proxy=inside.proxy_url, verify=inside.context, trust_env=False)
    with OpenAI(api_key=PLACEHOLDER, http_client=client) as sdk:
        assert sdk.max_retries == 2
        yield sdk


def far(wait_ms: int) -> Behaviour:
    return reply(503, b'{"error":{"message":"no"}}', [("retry-after-ms", str(wait_ms))])


@pytest.mark.parametrize(
    "behaviours",
    [
        [far(1)] * 9,
        [far(400)] * 9,
        [far(1), *[far(400)] * 8],
        [far(400), *[far(1)] * 8],
        [says(429)] * 9,
        [reset_before_headers()] * 9,
        [far(1), *[reset_before_headers()] * 8],
        [says(500, ("x-should-retry", "true"))] * 9,
        [far(1), *[says(409)] * 8],
        [far(1), *[says(501)] * 8],
        [far(1), *[Behaviour(raw=b"SSH-2.0-OpenSSH\r\n\r\n")] * 8],
    ],
    ids=[
        "near",
        "far",
        "near, far",
        "far, near",
        "429",
        "lost",
        "503, lost",
        "said to",
        "503, 409",
        "503, 501",
        "503, no HTTP",
    ],
)
def test_an_sdk_that_retries(tmp_path: Path, behaviours: list[Behaviour]) -> None:
    """Whatever the provider says, it sees at most three requests for one call of the user."""
    settings = {"providers.openai": {"deadline_s": 0.35}}
    with open_inside(tmp_path, settings) as inside, an_sdk(inside) as sdk:
        inside.standin.script(*behaviours)
        with pytest.raises(OpenAIError):
            sdk.chat.completions.create(**CHAT)
        # A slow machine comes to the deadline earlier.
        seen = len(inside.standin.snapshot())
        assert 2 <= seen <= 3
        if behaviours == [far(400)] * 9:
            assert seen == 3, "each request of the SDK is one attempt"


def test_an_answer_that_is_no_http(tmp_path: Path) -> None:
    """What the provider keeps may have been made: neither the gateway nor the SDK sends it again."""
    with open_inside(tmp_path) as inside, an_sdk(inside) as sdk:
        inside.standin.always(Behaviour(raw=b"SSH-2.0-OpenSSH\r\n\r\n"))
        with pytest.raises(OpenAIError, match="see whether it has"):
            sdk.responses.create(**KEPT)
        assert len(inside.standin.snapshot()) == 1


def test_an_sdk_whose_time_is_over(tmp_path: Path) -> None:
    """A second attempt that hangs is given up before the SDK goes by itself, which would try it all again."""
    gate = Latch()
    with open_inside(tmp_path) as inside, an_sdk(inside) as sdk:
        inside.standin.script(far(1))
        inside.standin.always(Behaviour(wait=gate))
        with pytest.raises(OpenAIError) as caught:
            sdk.with_options(timeout=5.0).chat.completions.create(**CHAT)
        gate.open()
        assert "while the client still waits" in str(caught.value)
        assert len(inside.standin.snapshot()) == 2
