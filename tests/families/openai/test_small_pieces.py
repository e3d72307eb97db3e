"""The last event of pictures comes to the same charges in pieces of any size."""

from __future__ import annotations

import pytest
from tests.families.samples import openai_media

from tollhouse.families.asked import Request
from tollhouse.families.meters import AnswerHead


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_an_event_without_usage_charges_nothing(size: int) -> None:
    """It was charged as a picture if it came in small pieces."""
    for samples in openai_media.SAMPLES:
        for one in samples.exchanges:
            operation = samples.family.operation(one.method, one.path, one.query, samples.host)
            assert operation is not None
            if operation.kind != "images" or not one.answer.startswith((b"data", b"event")):
                continue
            asked = samples.family.read(
                Request(operation, one.path, one.sent, one.request), samples.dialect
            )
            meter = samples.family.meter(asked, AnswerHead(200, one.headers))
            event = b'data: {"type":"image_edit.completed","b64_json":"AAAA","size":"1x1"}\n\n'
            for at in range(0, len(event), size):
                meter.feed(event[at : at + size])
            meter.flush()
            assert meter.finish() == ()
