"""Operations as the tests of this folder do them."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.control.operations import Operations
from tollhouse.control.refusal import OperationRefused

NOW = 1_790_000_000.0


async def refusal(operations: Operations, name: str, **arguments: Any) -> OperationRefused:
    with pytest.raises(OperationRefused) as raised:
        await operations.perform(name, arguments)
    return raised.value
