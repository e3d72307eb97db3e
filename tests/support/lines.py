"""The lines of calls in a file that a gateway may be writing to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Those that are whole. A reader may see the first part of a write alone."""
    if not file.exists():
        return []
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
