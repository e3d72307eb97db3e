"""The stand-in's files: an upload is answered, and nothing of it is kept. Pure.

Shapes: https://platform.openai.com/docs/api-reference/files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from typing import Final

from tollhouse.demo import standin_answers as answers
from tollhouse.demo.standin_book import Received

PATH: Final = "/v1/files"
CREATED: Final = 1_700_000_000


def uploaded(received: Received) -> tuple[int, bytes]:
    """Status and body of the answer."""
    fields = {}
    for head, value in _parts(received):
        fields[str(head.get_param("name", header="content-disposition"))] = head, value
    if not {"file", "purpose"} <= fields.keys():
        missing = "You must provide the fields 'file' and 'purpose' in a multipart form."
        return 400, answers.error_json(missing, "invalid_request_error", None)
    (file, content), (_, purpose) = fields["file"], fields["purpose"]
    made = {
        "id": f"file-{received.number:012d}",
        "object": "file",
        "bytes": len(content),
        "created_at": CREATED,
        "filename": file.get_filename() or "",
        "purpose": purpose.decode("utf-8", "replace"),
        "status": "processed",
    }
    return 200, json.dumps(made).encode()


def _parts(received: Received) -> Iterator[tuple[Message, bytes]]:
    """The head and the content of each part of a form (RFC 7578)."""
    form = Message()
    form["content-type"] = received.get("content-type")
    boundary = b"\r\n--" + (form.get_boundary() or "").encode()
    # The first part is behind the first delimiter, and behind the last one there is nothing but its end.
    for part in (b"\r\n" + received.body).split(boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        yield message_from_bytes(head + b"\r\n\r\n"), content
