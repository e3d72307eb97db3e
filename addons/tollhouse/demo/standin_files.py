"""The stand-in's files, as the API keeps them.

Shapes: https://platform.openai.com/docs/api-reference/files.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from typing import Any, Final

from tollhouse.demo import standin_answers as answers
from tollhouse.demo.standin_book import Received

PATH: Final = "/v1/files"
CREATED: Final = 1_700_000_000
_MOST: Final = 100

Found = tuple[int, str, bytes]
"""Status, content type and body of an answer."""


class Files:
    """What was uploaded, until it is deleted; of more than 100 the newest. A file is processed when it has been looked at once."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def answer(self, received: Received) -> Found | None:
        """None for what is no endpoint of files."""
        path = received.target.partition("?")[0]
        found, _, rest = path.removeprefix(f"{PATH}/").partition("/")
        with self._lock:
            match received.method, path == PATH, rest:
                case "POST", True, _:
                    return self._uploaded(received)
                case "GET", True, _:
                    data = [shown for shown, _ in reversed(self._kept.values())]
                    return _json({"object": "list", "data": data, "has_more": False})
                case "GET" | "DELETE", False, "" | "content" if found not in self._kept:
                    missing = f"No such File object: {found}"
                    return 404, _JSON, answers.error_json(missing, "invalid_request_error", None)
                case "GET", False, "":
                    shown, content = self._kept[found]
                    self._kept[found] = {**shown, "status": "processed"}, content
                    return _json(shown)
                case "GET", False, "content":
                    return 200, "application/octet-stream", self._kept[found][1]
                case "DELETE", False, "":
                    del self._kept[found]
                    return _json({"id": found, "object": "file", "deleted": True})
        return None

    def _uploaded(self, received: Received) -> Found:
        fields = {}
        for head, value in _parts(received):
            fields[str(head.get_param("name", header="content-disposition"))] = head, value
        if not {"file", "purpose"} <= fields.keys():
            missing = "You must provide the fields 'file' and 'purpose' in a multipart form."
            return 400, _JSON, answers.error_json(missing, "invalid_request_error", None)
        (file, content), (_, purpose) = fields["file"], fields["purpose"]
        name = f"file-{received.number:012d}"
        made = {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": CREATED,
            "filename": file.get_filename() or "",
            "purpose": purpose.decode("utf-8", "replace"),
            "status": "uploaded",
        }
        self._kept[name] = made, content
        while len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        return _json(made)


_JSON: Final = "application/json"


def _json(document: dict[str, Any]) -> Found:
    return 200, _JSON, json.dumps(document).encode()


def _parts(received: Received) -> Iterator[tuple[Message, bytes]]:
    """The head and the content of each part of a form (RFC 7578)."""
    form = Message()
    form["content-type"] = received.get("content-type")
    boundary = b"\r\n--" + (form.get_boundary() or "").encode()
    # The first part is behind the first delimiter, and behind the last one there is nothing but its end.
    for part in (b"\r\n" + received.body).split(boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        yield message_from_bytes(head + b"\r\n\r\n"), content
