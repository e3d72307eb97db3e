"""Bedrock's samples."""

from __future__ import annotations

from tests.families.samples.kit import Samples

from tollhouse.families.bedrock import BEDROCK

SAMPLES = (
    Samples(
        BEDROCK,
        (("GET", "/foundation-models"),),
        host="bedrock.us-east-1.amazonaws.com",
        verdicts=(
            (
                403,
                b'{"message":"Authentication failed: Please make sure your API Key is valid."}',
                "refused",
            ),
            (403, b'{"Message":"User is not authorized"}', None),
        ),
    ),
)
