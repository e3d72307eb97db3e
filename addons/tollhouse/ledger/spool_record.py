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
"""Bytes of a record; the path and the trace id of a call are far below it, bounded as its head
is."""
_KEPT: Final = ("call_id", "project", "identity", "provider", "model", "ts")
"""Fields of a record that is too large which are kept, `_LONGEST_KEPT` characters of each."""
_LONGEST_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """What the ledger has to be told of a call (see ``kind``). An amount of no request gives all
    back."""

    call_id: str
    scopes: tuple[Scope, ...]
    charged: Amount
    record: Mapping[str, str]
    kind: Literal["ended", "begun", "held"] = "ended"
    """``begun``: not ended yet, and charged so if nothing else is heard of it. ``held``: not
    ended, and nothing is to be told: Redis has its hold."""
    tried_at: float | None = None
    """When the ledger was to be told first, in seconds since the epoch. None: just now; or there
    was no hold, so that nobody else can have ended the call, and it is charged however late it is
    told."""


def encode(record: SpoolRecord) -> bytes:
    """At most `MAX_RECORD` bytes of ASCII. Of a record that is longer only `_KEPT` is kept."""
    body = _body(record, record.record)
    if len(body) > MAX_RECORD:
        found = record.record
        body = _body(record, {key: found[key][:_LONGEST_KEPT] for key in _KEPT if key in found})
    return body


def decode(body: bytes) -> SpoolRecord | None:
    """None if ``body`` is no record, or one of a kind that this version does not know."""
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
    # ASCII: a lone surrogate of a header is written as well.
    return json.dumps(document, separators=(",", ":")).encode()
