"""What each family's contract is tried with: one file a family. `kit` has the words."""

from tests.families.samples import (
    anthropic,
    azure,
    bedrock,
    cohere,
    google,
    mistral,
    openai,
    openai_compat,
    openai_media,
    tiny,
    vertex,
)
from tests.families.samples.kit import Exchange, Samples

SAMPLES: tuple[Samples, ...] = (
    *openai.SAMPLES,
    *openai_media.SAMPLES,
    *openai_compat.SAMPLES,
    *tiny.SAMPLES,
    *azure.SAMPLES,
    *anthropic.SAMPLES,
    *google.SAMPLES,
    *vertex.SAMPLES,
    *bedrock.SAMPLES,
    *cohere.SAMPLES,
    *mistral.SAMPLES,
)

__all__ = ["SAMPLES", "Exchange", "Samples"]
