"""Google's samples."""

from __future__ import annotations

from tests.families.samples.kit import Samples

from tollhouse.families.google import GOOGLE

SAMPLES = (
    Samples(
        GOOGLE,
        (("GET", "/v1beta/models"), ("GET", "/v1beta/models/gemini-x"), ("GET", "/v1/models")),
        verdicts=(
            (400, b'{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}', "refused"),
            (400, b'[{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}]', "refused"),
            (429, b'{"error":{"message":"Your prepayment credits are depleted."}}', "no_money"),
            (429, b'{"error":{"message":"slow down"}}', None),
        ),
    ),
)
