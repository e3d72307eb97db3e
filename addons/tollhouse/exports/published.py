"""The published schemas, as text. `schemas/NAME.json` is a JSON Schema with its version."""

from __future__ import annotations

from importlib import resources

NAMES = ("call",)


def text(name: str) -> str:
    """The schema called ``name``, one of `NAMES`."""
    return (
        resources.files("tollhouse.exports")
        .joinpath("schemas", f"{name}.json")
        .read_text(encoding="utf-8")
    )
