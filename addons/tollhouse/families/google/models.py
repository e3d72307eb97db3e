"""What the name of a model says of it: https://ai.google.dev/gemini-api/docs/models."""

from __future__ import annotations

import re
from typing import Final

_PREFIX: Final = re.compile(r"(?:publishers/[a-z0-9-]+/)?models/|google/")
_VERSION: Final = re.compile(r"gemini-(\d+)")
_SILENT: Final = re.compile(
    r"gemini-(?:1\.|2\.0(?!.*think)|pro)|.*(?:-tts|embedding)|imagen|gemma-[123]"
)
_DRAWS: Final = re.compile(r"-image|banana")
_DRAWN: Final = frozenset({"output_image"})
_SPEAKS: Final = re.compile(r".*-tts(?:-|$)")


def plain(name: str) -> str:
    """The name as the table of prices has it. In a path an ``@`` may be escaped."""
    name = name.replace("%40", "@")
    return _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name


def version(name: str) -> int:
    """The generation of a Gemini model. 0: the name does not say it."""
    match = _VERSION.match(name)
    return int(match[1]) if match is not None else 0


def can_reason(name: str) -> bool:
    """Any model that is not known to be without thoughts can
    (https://ai.google.dev/gemini-api/docs/thinking)."""
    return _SILENT.match(name) is None


def only_speaks(name: str) -> bool:
    """Whether all that it writes is sound. The one price of its output is that of sound:
    https://ai.google.dev/gemini-api/docs/pricing."""
    return _SPEAKS.match(name) is not None


def may_write(name: str) -> frozenset[str]:
    """Parts of its output that a request need not ask for by name: models that draw do so by
    default (https://ai.google.dev/gemini-api/docs/image-generation)."""
    return _DRAWN if _DRAWS.search(name) is not None else frozenset()


def makes_video(name: str) -> bool:
    return name.startswith("gemini-omni")
