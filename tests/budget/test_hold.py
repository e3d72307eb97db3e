"""What is held for a call, and what the hold remembers of it."""

from __future__ import annotations

import pytest
from tests.support.calls import admitted, requested

from tollhouse.budget.hold import carried


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("gpt-4o", "gpt-4o"),
        ("é" * 256, "é" * 256),
        ("文" * 256, "文" * 169 + "..."),
    ],
)
def test_what_a_client_chose_is_kept_short(model: str, kept: str) -> None:
    """At most 512 bytes, since Redis keeps it for each call under way."""
    call = requested({"model": model, "messages": []}, admitted())
    assert carried(call)["model"] == kept
