"""Anthropic's samples."""

from __future__ import annotations

from tests.families.samples.kit import Samples

from tollhouse.families.anthropic import ANTHROPIC

SAMPLES = (
    Samples(
        ANTHROPIC,
        (("GET", "/v1/models"), ("GET", "/v1/models/claude-fable-5")),
        verdicts=(
            (
                400,
                b'{"type":"error","error":{"message":"Your credit balance is too low to access"}}',
                "no_money",
            ),
            (429, b'{"error":{"type":"billing_error"}}', "no_money"),
            (400, b'{"error":{"type":"invalid_request_error"}}', None),
            (401, b"", "refused"),
        ),
    ),
)
