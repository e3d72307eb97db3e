"""Names of objects that Google keeps: files, caches, stores, interactions."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from tollhouse.families.formats.document import refuse, shown

ID: Final = r"[A-Za-z0-9._~-]+"
_KEPT: Final = re.compile(
    rf"(?:projects/{ID}/locations/{ID}/)?"
    rf"((?:cachedContents|fileSearchStores|files|batches|batchPredictionJobs|tuningJobs)/{ID}"
    rf"|(?:(?:(?:publishers/{ID}/)?models|tunedModels|fileSearchStores|tuningJobs)/[^/:]+/"
    rf"(?:upload/)?)?operations/{ID})"
)
_FILE: Final = re.compile(
    rf"/(?:(?:upload|download)/)?v1(?:beta|alpha)?/(files/{ID})(?::download)?"
)
_HOST: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_API: Final = "generativelanguage.googleapis.com"
_STORAGE: Final = "storage.googleapis.com"


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
    """The file of the Files API that a ``fileUri`` means, "" if it means something else: a page, a
    video of YouTube, an object of Cloud Storage. Raises `Refused` for one that can't be told."""
    name = uri if name_of(uri) == uri and uri.startswith("files/") else _file(uri)
    if name is None:
        refuse(
            'A "fileUri" must be the "uri" of a file as its upload gave it, or an http, https or gs URL.'
        )
    return name


def _file(uri: str) -> str | None:
    try:
        parts = urlsplit(uri)
        host = (parts.hostname or "").lower()
    except ValueError:
        return None
    if parts.scheme == "gs":
        return ""
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not _HOST.fullmatch(host):
        return None
    if host == _API:
        match = _FILE.fullmatch(parts.path)
        return None if match is None else match[1]
    return "" if host == _STORAGE or not host.endswith(".googleapis.com") else None
