"""Which models a project may use: a truth table, and the gate."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.calls import admitted, requested
from tests.support.values import replace

from tollhouse.admit.models import Models, allowed, check_pattern
from tollhouse.call import Requested
from tollhouse.denial import Refused
from tollhouse.families.operation import Operation
from tollhouse.parties import Project


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


@pytest.mark.parametrize(
    "text", ["", "a b", "a\n", "x" * 257, "/gpt-4o", "openai/", "*/gpt-4o", "OpenAI/gpt-4o"]
)
def test_what_is_no_pattern(text: str) -> None:
    """Nothing, spaces, no provider, no model, a wildcard for a provider."""
    with pytest.raises(ValueError, match="is not a model pattern"):
        check_pattern(text)


def a_call(
    *patterns: str, method: str = "POST", path: str = "/v1/chat/completions", **asked: Any
) -> Requested:
    project = Project("proj", "acme", models=patterns)
    return requested(given=admitted(path, method=method, project=project), **asked)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (a_call("gpt-4o*"), None),
        (a_call("gpt-4o*", other_models=("gpt-4o-mini",)), None),
        (a_call(models_unknown=True, other_models=("x",)), None),
        (a_call("o1*", method="GET", path="/v1/models"), None),
        (a_call("o1*"), "may not use 'gpt-4o' of openai"),
        (a_call("gpt-4o*", other_models=("gpt-4o-mini", "o1")), "may not use 'o1' of openai"),
        (a_call("gpt-4o*", models_unknown=True), "can't be judged"),
        (a_call("*", models_unknown=True), "can't be judged"),
        (a_call("gpt-4o*", deployment="mine"), None),
        (a_call("openai/mine", deployment="mine"), None),
        (a_call("mine", deployment="mine"), "model of 'mine' in [providers.openai.models]"),
        (a_call("openai/m*", deployment="mine"), "may not use 'gpt-4o' of openai"),
        (a_call("openai/mine", deployment="mine", other_models=("o1",)), "may not use 'o1'"),
    ],
)
async def test_the_gate(call: Requested, why: str | None) -> None:
    """Every model that the request can reach is judged, and what can't be judged is refused."""
    gate = Models()
    if why is None:
        assert await gate(call, None) is call
        return
    with pytest.raises(Refused) as refused:
        await gate(call, None)
    denial = refused.value.denial
    assert (denial.code, denial.status) == ("model_not_allowed", 403)
    assert why in denial.why


def a_job(*patterns: str, method: str = "POST", **asked: Any) -> Requested:
    call = a_call(*patterns, **asked)
    at = call.admitted
    head = replace(at.arrival.head, method=method)
    at = replace(
        at,
        operation=Operation("race", "job", reads_body=True),
        arrival=replace(at.arrival, head=head),
    )
    return replace(call, admitted=at)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (a_job("gpt-4o*"), None),
        (a_job(model=""), None),
        (a_job("o1*"), "may not use 'gpt-4o' of openai"),
        (a_job("gpt-4o*", model=""), "the request names none that can be judged"),
        (a_job("gpt-4o*", models_unknown=True), "can't be judged"),
        (a_job("gpt-4o*", model="", method="GET"), None),
    ],
)
async def test_the_list_holds_for_jobs(call: Requested, why: str | None) -> None:
    """Of a request that starts one; what looks at a job uses no model."""
    if why is None:
        assert await Models()(call, None) is call
        return
    with pytest.raises(Refused) as refused:
        await Models()(call, None)
    assert refused.value.denial.code == "model_not_allowed"
    assert why in refused.value.denial.why
