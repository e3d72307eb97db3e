"""The records of one call, by its id."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tollhouse.exports.pages import NOBODY, Cursors, Perform, RecordReader, Span

_EPOCH_OF_IDS: Final = 1_577_836_800_000
"""2020. An id that says an earlier time is not one of `call.new_call_id`, and all records are looked at."""


def began_ms(call_id: str) -> int | None:
    """When the call began, in milliseconds since the epoch, as its id says."""
    ms = int(call_id[5:17], 16)
    return ms if _EPOCH_OF_IDS < ms < time.time() * 1000 + 86_400_000 else None


def records_of(
    perform: Perform,
    call_id: str,
    page: int,
    on_page: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """The lines of the call, in their order. Empty if Redis has none."""
    span = Span(since=began_ms(call_id))
    tenants = [*perform("tenants", {}), NOBODY]
    reader = RecordReader(
        perform, tenants, ("calls", "uncharged"), span, Cursors(perform), page, on_page
    )
    found: list[dict[str, Any]] = []
    for record in reader:
        if record.call_id == call_id:
            found.append(record.line())
            # A sweep may be corrected, and a call in the background be charged later.
            if found[-1]["charged_by"] not in ("sweep", "later"):
                break
        elif found and record.tenant != found[-1]["tenant"]:
            break
    return found


def logged(file: Path, call_id: str) -> list[dict[str, Any]]:
    """The same from the file of lines, as far as it goes back. A line that was written in part is left out. Raises `OSError`."""
    needle = json.dumps(call_id).encode()
    with file.open("rb") as lines:
        # Few lines have the id at all, and only these are parsed.
        parsed = (_parsed(line) for line in lines if needle in line)
        return [each for each in parsed if each.get("call_id") == call_id]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
