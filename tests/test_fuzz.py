"""Each reader of `fuzz` with some inputs, the same each time. ``python -m fuzz`` tries many more."""

from __future__ import annotations

import pytest
from fuzz.readers import readers
from hypothesis import HealthCheck, Phase, given, settings

READERS = readers()
EXAMPLES, OF_MEMORY = 25, 1


@pytest.mark.parametrize("name", READERS)
def test_reader(name: str) -> None:
    """Nothing is raised but a refusal, bytes pass unharmed, no count is below 0, memory is bounded."""
    reader = READERS[name]
    few = name.startswith("memory.")

    @settings(
        max_examples=OF_MEMORY if few else EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(reader.inputs)
    def tried(data: bytes) -> None:
        reader.check(data)

    tried()
