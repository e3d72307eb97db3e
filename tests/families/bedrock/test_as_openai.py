"""Chat completions in OpenAI's format: what Bedrock adds to them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.bedrock.open_calls import CHAT
from tollhouse.families.meters import AnswerHead
from tollhouse.families.units import Charge, Units
from tollhouse.headers import Headers

MODEL = "openai.gpt-oss-20b-1:0"
GUARDRAIL = (("x-amzn-bedrock-guardrailidentifier", "g"),)
LIMITS = Limits(context=128_000, answer=4_096)
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


def read(headers: Headers = (), **more: Any) -> Asked:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **more}
    request = Request(CHAT, "/openai/v1/chat/completions", headers, json.dumps(body).encode())
    return BEDROCK.read(request, Dialect())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "beside"),
    [((), ()), (GUARDRAIL, (Charge("guardrail", Units(requests=1)),))],
)
def test_a_guardrail(stream: bool, headers: Headers, beside: tuple[Charge, ...]) -> None:
    """It stands in a header, and is held and charged beside the tokens."""
    asked = read(headers, stream=stream)
    assert BEDROCK.estimate(asked, "typical", LIMITS, Dialect()).beside == beside
    meter = BEDROCK.meter(asked, AnswerHead(200, ()))
    answer = json.dumps({"model": MODEL, "choices": [], "usage": USAGE})
    meter.feed(f"data: {answer}\n\n".encode() if stream else answer.encode())
    meter.flush()
    own = Charge(MODEL, Units(input=9, output=4, requests=1))
    assert meter.finish() == (own, *beside)


def test_a_guardrail_and_a_search() -> None:
    """Bedrock has no search there."""
    with pytest.raises(Refused) as refused:
        read(GUARDRAIL, web_search_options={})
    assert refused.value.denial.code == "bad_request"
