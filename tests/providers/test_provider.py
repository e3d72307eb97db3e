"""What a provider's entry says of a model that nobody else knows about."""

from __future__ import annotations

import pytest
from tests.support.values import replace

from tollhouse.providers.openai import OPENAI


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("gpt-3.5-turbo-0125", 4_096),
        ("gpt-3.5-turbo-16k", 16_384),
        ("gpt-4", 8_192),
        ("gpt-4-0613", 8_192),
        ("gpt-4-turbo", 4_096),
        ("gpt-4o-mini-2024-07-18", 16_384),
        ("ft:gpt-4o-2024-08-06:org::id", 16_384),
        ("GPT-4.1-nano", 32_768),
        ("gpt-audio-mini", 16_384),
        ("gpt-5", 128_000),
        ("gpt-5-chat-latest", 16_384),
        ("gpt-5-pro", 272_000),
        ("gpt-6.1-sol", 128_000),
        ("o1", 100_000),
        ("o3-mini", 100_000),
        ("nobody-knows", 128_000),
    ],
)
def test_the_longest_answer_without_a_cap(model: str, limit: int) -> None:
    """Of the models that OpenAI has published one for, else the longest that is known; never more than a context."""
    assert OPENAI.most_output(model, None) == limit
    assert OPENAI.most_output(model, 1_050_000) == limit
    assert OPENAI.most_output(model, 4_000) == 4_000


def test_the_most_that_is_read() -> None:
    """The model's own window, else the provider's longest."""
    assert OPENAI.most_input(8_192) == 8_192
    assert OPENAI.most_input(None) == 1_050_000


def test_the_configuration_wins() -> None:
    """Over what is known of a model as well."""
    configured = replace(OPENAI, default_input_tokens=5_000_000, default_output_tokens=3_000_000)
    assert configured.most_input(8_192) == 5_000_000
    assert configured.most_output("gpt-4o", 8_192) == 3_000_000
