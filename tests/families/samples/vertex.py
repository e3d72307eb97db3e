"""Vertex's samples."""

from __future__ import annotations

from tests.families.samples.kit import Samples

from tollhouse.families.vertex import VERTEX

SAMPLES = (Samples(VERTEX, (("GET", "/v1beta1/publishers/google/models"),)),)
