"""What the ledger has to be told of a call, and the form in which it is kept on disk."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tollhouse.call import Amount
from tollhouse.ledger.names import Scope, parse_scopes

MAX_RECORD: Final = 1 << 20
"""The most bytes of a record. The head of a call is bounded, so its path and trace id are far
smaller."""
_KEPT: Final = ("call_id", "project", "identity", "provider", "model", "ts")
"""The fields that are kept of a record that is too large, with `_LONGEST_KEPT` characters of
each."""
_LONGEST_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """What the ledger has to be told of a call (see ``kind``). If ``charged`` has no request, the
    whole hold is given back."""

    call_id: str
    scopes: tuple[Scope, ...]
    charged: Amount
    record: Mapping[str, str]
    kind: Literal["ended", "begun", "held"] = "ended"
    """``ended``: the call has ended. ``begun``: the call is under way without a hold, and this is
    its charge if nothing more is heard of it. ``held``: the call is under way and Redis has its
    hold, so nothing is to be told."""
    tried_at: float | None = None
    """When the ledger was first told, in seconds since the epoch. None: it is told just now, or the
    call had no hold. Nobody else can have ended a call without a hold, so it is charged however
    late it is told."""


def encode(record: SpoolRecord) -> bytes:
    """The record as ASCII, at most `MAX_RECORD` bytes. Of a longer record only the fields `_KEPT`
    are kept."""
    body = _body(record, record.record)
    if len(body) > MAX_RECORD:
        found = record.record
        body = _body(record, {key: found[key][:_LONGEST_KEPT] for key in _KEPT if key in found})
    return body


def decode(body: bytes) -> SpoolRecord | None:
    """The record. None if ``body`` is no record, or has a kind that this version does not know."""
    try:
        document = json.loads(body)
        scopes = parse_scopes(document["tenant"], document["scopes"])
        kind = document.get("kind", "ended")
        tried_at = document.get("tried_at")
        if kind not in ("ended", "begun", "held") or not isinstance(tried_at, int | float | None):
            return None
        charged = Amount(*document["charged"])
        return SpoolRecord(document["call_id"], scopes, charged, document["record"], kind, tried_at)
    except (ValueError, KeyError, TypeError):
        return None


def checksum(body: bytes) -> int:
    return zlib.crc32(body)


def _body(record: SpoolRecord, fields: Mapping[str, str]) -> bytes:
    document: dict[str, Any] = {
        **({"kind": record.kind} if record.kind != "ended" else {}),
        **({"tried_at": record.tried_at} if record.tried_at is not None else {}),
        "call_id": record.call_id,
        "tenant": record.scopes[0].tenant,
        "scopes": " ".join(scope.name for scope in record.scopes),
        "charged": [record.charged.nano_usd, record.charged.tokens, record.charged.requests],
        "record": dict(fields),
    }
    # A lone surrogate of a header can be written because the text is ASCII with escapes.
    return json.dumps(document, separators=(",", ":")).encode()
