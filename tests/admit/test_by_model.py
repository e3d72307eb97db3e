"""Calls at the base URL whose path names no provider: whose they are, by their model."""

from __future__ import annotations

import json
import re

import pytest
from tests.support.calls import CHAT, admitted, head
from tests.support.values import replace
from tests.support.wire import an_exchange

from tollhouse.admit.by_model import ByModel
from tollhouse.admit.reading import ReadBody
from tollhouse.call import Requested
from tollhouse.denial import Refused
from tollhouse.families.operation import Operation, Route
from tollhouse.providers import Catalog, Provider
from tollhouse.providers.anthropic import ANTHROPIC
from tollhouse.providers.openai import OPENAI

VLLM = replace(OPENAI, name="vllm", hosts=("*.any.example", "llm.example"), model_globs=())
OTHER = replace(OPENAI, name="other", hosts=("other.example",), model_globs=("other-*",))
NOT_OPENAI = replace(ANTHROPIC, name="mute", openai_path=None, model_globs=("mute-*",))
NO_HOST = replace(VLLM, name="nohost", hosts=())
READ = ReadBody(max_body_bytes=1_000, idle_s=5)
ROUTES = {"llama-*": "vllm", "other-2*": "openai", "gone-*": "nobody", "nohost": "nohost"}
GATE = ByModel(Catalog((OPENAI, VLLM, OTHER, NOT_OPENAI, NO_HOST)), ROUTES, READ)


async def routed(
    model: str, *, listener: str = "base_url", target: str = CHAT, provider: Provider = OPENAI
) -> Requested:
    given = replace(head("POST", target), listener=listener)
    body = json.dumps({"model": model, "messages": [], "max_tokens": 7}).encode()
    call = admitted(CHAT, provider=provider)
    call = replace(call, arrival=replace(call.arrival, head=given))
    exchange, _ = an_exchange(given, body)
    return await GATE(await READ(call, exchange), exchange)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("llama-4", "vllm"),
        ("Llama-4", "openai"),
        ("other-1", "other"),
        ("other-2b", "openai"),
        ("gone-1", "openai"),
    ],
)
async def test_the_first_route_that_fits(model: str, provider: str) -> None:
    """Those of the configuration stand before the providers' own; what fits none is OpenAI's."""
    call = await routed(model)
    assert call.admitted.provider.name == provider
    assert call.admitted.host == (
        "llm.example"
        if provider == "vllm"
        else "other.example"
        if provider == "other"
        else "api.openai.com"
    )
    assert (call.asked.model, call.asked.cap) == (model, 7)


async def test_the_path_is_the_providers_own() -> None:
    """Its own prefix stands for OpenAI's. A path that its family does not have is not open."""
    own = replace(OTHER, openai_path="")
    gate = ByModel(Catalog((OPENAI, own)), {}, READ)
    call = await routed("gpt-4o")
    asked = call.asked._replace(model="other-1")
    with pytest.raises(Refused) as refused:
        await gate(call._replace(asked=asked), None)
    assert refused.value.denial.code == "path_not_allowed"
    assert "as /other/..." in refused.value.denial.why


async def test_no_endpoint_is_reached_that_only_openai_opens() -> None:
    """A job that the file opens for OpenAI is not open at whoever has a model of that name."""
    jobs = Operation("job", "job", reads_body=True)
    family = replace(OPENAI.family, routes=(Route("POST", re.compile(CHAT), jobs),))
    gate = ByModel(Catalog((OPENAI, replace(OTHER, family=family))), {}, READ)
    call = await routed("gpt-4o")
    asked = call.asked._replace(model="other-1")
    with pytest.raises(Refused) as refused:
        await gate(call._replace(asked=asked), None)
    assert refused.value.denial.code == "path_not_allowed"


@pytest.mark.parametrize(
    ("given", "target"),
    [("proxy", CHAT), ("transparent", CHAT), ("base_url", f"/openai{CHAT}")],
)
async def test_who_named_a_provider_gets_it(given: str, target: str) -> None:
    """Through the proxy by the host, at the base URL by the path's beginning."""
    call = await routed("llama-4", listener=given, target=target)
    assert call.admitted.provider.name == "openai"


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("mute-1", "path_not_allowed", "which has no /v1/chat/completions in OpenAI's format"),
        ("nohost", "host_not_allowed", "name yours under [providers.nohost] hosts"),
    ],
)
async def test_what_cannot_be_sent_there(model: str, code: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        await routed(model)
    assert refused.value.denial.code == code
    assert words in refused.value.denial.why
