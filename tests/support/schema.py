"""The published schema of a line, without leave for fields that it does not name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from tollhouse.exports import published

_CALL: dict[str, Any] = json.loads(published.text("call"))
Draft202012Validator.check_schema(_CALL)
_CALL["additionalProperties"] = False
_FIELDS = _CALL["properties"]
for _within in (*(_FIELDS[name]["items"] for name in ("attempts", "charges")), _FIELDS["tokens"]):
    _within["unevaluatedProperties"] = False
_VALIDATOR = Draft202012Validator(_CALL)


def check_line(line: Mapping[str, Any]) -> None:
    """Raises `AssertionError` with what is wrong with it."""
    problems = [f"{error.json_path}: {error.message}" for error in _VALIDATOR.iter_errors(line)]
    assert not problems, problems
