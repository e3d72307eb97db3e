"""Names of objects that Google keeps: files, caches, stores, interactions."""

from __future__ import annotations

import re
from typing import Any, Final

from tollhouse.families.formats.document import refuse, shown

ID: Final = r"[A-Za-z0-9._~-]+"
_KEPT: Final = re.compile(
    rf"(?:projects/{ID}/locations/{ID}/)?"
    rf"((?:cachedContents|fileSearchStores|files|batches|batchPredictionJobs|tuningJobs)/{ID}"
    rf"|(?:(?:(?:publishers/{ID}/)?models|tunedModels|fileSearchStores|tuningJobs)/[^/:]+/"
    rf"(?:upload/)?)?operations/{ID})"
)
_OF_API: Final = re.compile(
    r"(?:https?://generativelanguage\.googleapis\.com(?::\d+)?/(?:(?:upload|download)/)?"
    r"v1(?:beta|alpha)?/)?(?=files/)",
    re.IGNORECASE,
)
_API: Final = re.compile(r"(?:[a-z]+:)?//(?:[^/@]*@)?generativelanguage\.googleapis\.com", re.I)
_FILE: Final = re.compile(rf"(files/{ID})(?::download)?(?:\?alt=media)?")


def name_of(value: Any) -> str:
    """The object's name without the project and the place before it, "" if it is none. A project
    has a number and a name, and either may stand there."""
    match = _KEPT.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match is not None else ""


def asked_for(value: str, where: str) -> str:
    """The name that a request gives. Raises `Refused` for one that is not of the form."""
    name = name_of(value)
    if not name:
        refuse(f"{shown(where)} must be the name of an object, such as cachedContents/abc.")
    return name


def file_of(uri: str) -> str:
    """The file of the Files API that a ``fileUri`` means, "" if it means something else (a video of
    YouTube, an object of Cloud Storage). Raises `Refused` for a URL of that API that names none."""
    prefix = _OF_API.match(uri)
    if prefix is None:
        if _API.match(uri.strip()):
            refuse('A "fileUri" at generativelanguage.googleapis.com must be that of a file.')
        return ""
    match = _FILE.fullmatch(uri, prefix.end())
    if match is None:
        refuse('A "fileUri" of the Files API must be the file\'s own "uri", as its upload gave it.')
    return match[1]
