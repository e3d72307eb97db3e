"""Which models a project may use: a truth table, and the gate."""

from __future__ import annotations

from typing import Any

import pytest
from tests.admit.head import head

from tollhouse.admit.models import Models, allowed, check_pattern
from tollhouse.call import Call, Project
from tollhouse.providers.openai import OPENAI


@pytest.mark.parametrize(
    ("patterns", "provider", "model", "answer"),
    [
        ([], "openai", "anything", True),
        (["gpt-4o"], "openai", "gpt-4o", True),
        (["gpt-4o"], "openai", "gpt-4o-mini", False),
        (["gpt-4o"], "openai", "GPT-4o", False),
        (["gpt-4o*"], "openai", "gpt-4o-mini", True),
        (["gpt-4o*"], "openai", "ft:gpt-4o", False),
        (["gpt-4o*"], "vllm", "gpt-4o", True),
        (["openai/gpt-4o*"], "openai", "gpt-4o", True),
        (["openai/gpt-4o*"], "vllm", "gpt-4o", False),
        (["openai/gpt-4o*"], "vllm", "openai/gpt-4o", False),
        (["vllm/meta-llama/*"], "vllm", "meta-llama/Llama-3", True),
        (["vllm/meta-llama/*"], "meta-llama", "Llama-3", False),
        (["*"], "openai", "a/b", True),
        (["openai/*"], "openai", "gpt-4o", True),
        (["gpt-[45]o"], "openai", "gpt-5o", True),
        (["o1", "o3"], "openai", "o3", True),
        (["o?"], "openai", "o10", False),
    ],
)
def test_allowed(patterns: list[str], provider: str, model: str, answer: bool) -> None:
    """One row for each rule."""
    assert allowed(patterns, provider, model) is answer


@pytest.mark.parametrize("text", ["", "a b", "a\n", "x" * 257, "/gpt-4o", "openai/", "*/gpt-4o", "OpenAI/gpt-4o"])
def test_what_is_no_pattern(text: str) -> None:
    """Nothing, spaces, no provider, no model, a wildcard for a provider."""
    with pytest.raises(ValueError, match="is not a model pattern"):
        check_pattern(text)


def a_call(*patterns: str, **more: Any) -> Call:
    call = Call.begin(head())
    call.provider, call.project = OPENAI, Project("proj", "acme", models=patterns)
    call.endpoint = OPENAI.endpoint("POST", "/v1/chat/completions")
    call.model = "gpt-4o"
    for name, value in more.items():
        setattr(call, name, value)
    return call


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (a_call("gpt-4o*"), None),
        (a_call("gpt-4o*", other_models=("gpt-4o-mini",)), None),
        (a_call(models_unknown=True, other_models=("x",)), None),
        (a_call("o1*", endpoint=OPENAI.endpoint("GET", "/v1/models")), None),
        (a_call("o1*"), "may not use 'gpt-4o' of openai"),
        (a_call("gpt-4o*", other_models=("gpt-4o-mini", "o1")), "may not use 'o1' of openai"),
        (a_call("gpt-4o*", models_unknown=True), "can't be judged"),
        (a_call("*", models_unknown=True), "can't be judged"),
    ],
)
async def test_the_gate(call: Call, why: str | None) -> None:
    """Every model that the request can reach is judged, and what can't be judged is refused."""
    decision = await Models()(call, None)
    assert decision.allowed is (why is None)
    if why is not None:
        assert decision.denial is not None
        assert (decision.denial.code, decision.denial.status) == ("model_not_allowed", 403)
        assert why in decision.denial.why
