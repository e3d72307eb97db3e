"""Cohere's samples."""

from __future__ import annotations

from tests.families.samples.kit import Samples

from tollhouse.families.cohere import COHERE

SAMPLES = (Samples(COHERE, (("GET", "/v1/models"),), verdicts=((498, b"", "refused"),)),)
