"""A call's lines, found in the file of the log."""

from __future__ import annotations

import json
from pathlib import Path

from tollhouse.exports.found import logged


def test_only_the_calls_own_lines(tmp_path: Path) -> None:
    """Not those of calls that name it in their session or trace, and not one that was written in part."""
    call_id, other = f"call_{1:024x}", f"call_{2:024x}"
    own = [{"call_id": call_id, "charged_by": rule} for rule in ("sweep", "usage")]
    lines = [own[0], {"call_id": other, "session": call_id}, own[1], {"trace": {"id": call_id}}]
    texts = [json.dumps(line) for line in lines]
    file = tmp_path / "calls.jsonl"
    torn = [f'{{"call_id":"{call_id}","ts":"20', f'"{call_id}"', f'["{call_id}"]']
    file.write_bytes("\n".join([*texts, *torn, f'"{call_id}"']).encode() + b"\xff")
    assert logged(file, call_id) == own
