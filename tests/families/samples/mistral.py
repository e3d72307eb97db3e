"""Mistral's samples."""

from __future__ import annotations

from tests.families.samples.kit import Samples

from tollhouse.families.mistral import MISTRAL

SAMPLES = (Samples(MISTRAL, (("GET", "/v1/models"),), verdicts=((402, b"", "no_money"),)),)
