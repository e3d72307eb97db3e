"""Names of operations and of providers."""

from __future__ import annotations

import pytest

from tollhouse.providers import BUILT_IN
from tollhouse.telemetry.conventions import NAMES, operation

WELL_KNOWN = {
    *("anthropic", "aws.bedrock", "azure.ai.inference", "azure.ai.openai", "cohere", "deepseek"),
    *("gcp.gemini", "gcp.gen_ai", "gcp.vertex_ai", "groq", "ibm.watsonx.ai", "mistral_ai"),
    *("moonshot_ai", "openai", "perplexity", "x_ai"),
}
"""Values of gen_ai.provider.name in the conventions' registry."""


@pytest.mark.parametrize(
    ("kind", "metered", "writes", "name"),
    [
        ("chat", True, True, "chat"),
        ("responses", True, True, "chat"),
        ("messages", True, True, "chat"),
        ("converse-stream", True, True, "chat"),
        ("embeddings", True, False, "embeddings"),
        ("compatible embeddings", True, False, "embeddings"),
        ("invoke", True, True, "chat"),
        ("generate", True, True, "generate_content"),
        ("completions", True, True, "text_completion"),
        ("realtime", True, True, "realtime"),
        ("images", True, False, "images"),
        ("shown job", False, False, "shown_job"),
        ("models", False, False, "models"),
        ("", False, False, "unknown"),
    ],
)
def test_operations(kind: str, metered: bool, writes: bool, name: str) -> None:
    """A name of the conventions where one fits, else the family's own."""
    assert operation(kind, metered=metered, writes=writes) == name


def test_providers() -> None:
    """The conventions' own names are used, and those of their names that mean a provider of ours."""
    named = {one.name: one.genai_name for one in BUILT_IN if one.genai_name}
    assert set(named.values()) <= WELL_KNOWN
    assert not {one.name for one in BUILT_IN if not one.genai_name} & WELL_KNOWN


def test_no_metric_of_a_model_server() -> None:
    """A gateway is a client."""
    for names in NAMES.values():
        assert not [name for name in names if name and name.startswith("gen_ai.server")]
