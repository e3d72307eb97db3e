"""Azure's samples."""

from __future__ import annotations

from tests.families.samples.kit import Samples
from tests.families.samples.openai import SPEAKS_OPENAI

from tollhouse.families.azure import AZURE

SAMPLES = (
    Samples(AZURE, (("GET", "/openai/v1/models"), ("GET", "/openai/models/m")), **SPEAKS_OPENAI),
)
