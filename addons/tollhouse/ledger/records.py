"""What Redis keeps of a call as text: the record in its tenant's stream, what its hold carries for
a sweep, and the names of its sums. Each is bounded, for some of it is what a client chose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from tollhouse.clipped import clipped
from tollhouse.compact_json import compact_json
from tollhouse.ledger import report
from tollhouse.ledger.names import Scope

FIELD_BYTES: Final = 512
"""The most bytes of one field of a record."""
RECORD_BYTES: Final = 1_800
"""The most bytes of a record, with the names of its fields. Redis adds some bytes for each field,
so a call takes less than 2 kB of the stream."""
NAME_BYTES: Final = 128
"""The most bytes of a model's name in the sums."""
LATER: Final = "\x1fheld_in\x1e\x1f"
"""Stands in a hold's text between the carried record and the later parts:
ledger/scripts/common.lua."""
_SEPARATOR: Final = "\x1f"
_NOT_IN_TEXT: Final = str.maketrans({"\x1e": " ", "\x1f": " "})
_KEPT: Final = frozenset(
    {"call_id", "ts", "tenant", "project", "identity", "provider", "attempts", "tokens"}
)
"""Fields that no client chooses. Readers find records by some of them and parse others, so these
are cut at `FIELD_BYTES` only."""
_STEPS: Final = (512, 256, 128, 64, 32, 16)


def bounded(record: Mapping[str, str]) -> dict[str, str]:
    """``record`` with its fields cut. None is above `FIELD_BYTES`, and all together are not above
    `RECORD_BYTES`. The longest fields are cut first."""
    whole = "".join([*record.keys(), *record.values()])
    if (
        len(whole) <= RECORD_BYTES
        and whole.isascii()
        and max(map(len, record.values()), default=0) <= FIELD_BYTES
    ):
        # Nearly every record needs no cut. This test takes a tenth of the time of the rest.
        return dict(record)
    kept: dict[str, str] = {}
    for limit in _STEPS:
        kept = {
            key: clipped(value, FIELD_BYTES if key in _KEPT else limit)
            for key, value in record.items()
        }
        if sum(_size(key) + _size(value) for key, value in kept.items()) <= RECORD_BYTES:
            break
    return kept


def texts(record: Mapping[str, object]) -> dict[str, str]:
    """The line as a Redis stream keeps it: a string as it is, anything else as JSON."""
    return {key: value if isinstance(value, str) else _text(value) for key, value in record.items()}


def _text(value: object) -> str:
    if type(value) is int:
        return str(value)
    if value is None:
        return "null"
    if type(value) is float and math.isfinite(value):
        return repr(value)
    if type(value) is bool:
        return "true" if value else "false"
    return compact_json(value).decode()


def flat(record: Mapping[str, str]) -> list[str]:
    """Field, value, field, value, ... as a script takes a record."""
    return list(chain.from_iterable(bounded(record).items()))


def swept(
    call_id: str, scopes: Sequence[Scope], nano_usd: int, carried: Mapping[str, str]
) -> dict[str, str]:
    """The record of a call whose gateway died."""
    return {**carried, "call_id": call_id, **whose(scopes), **report.swept_fields(nano_usd)}


def whose(scopes: Sequence[Scope]) -> dict[str, str]:
    return {str(scope.kind): scope.id for scope in scopes if scope.kind in ("tenant", "project")}


def packed(carried: Mapping[str, str]) -> str:
    """What a hold carries, as one text; `unpacked` reads it."""
    parts = flat(carried)
    if not "".join(parts).isprintable():
        parts = [part.translate(_NOT_IN_TEXT) for part in parts]
    return _SEPARATOR.join(parts)


def unpacked(text: str) -> dict[str, str]:
    """What a hold carries, from the third part of its text in Redis."""
    fields = text.partition(LATER)[0].split(_SEPARATOR)
    return dict(zip(fields[::2], fields[1::2], strict=False))


def sums_of(
    scopes: Sequence[Scope], record: Mapping[str, str], charged: int
) -> tuple[str, str, str]:
    """The names of the sums by model, by token and by session. A model or session that cost nothing
    is not counted: a workload could invent any number of them."""
    # A rotated token has the scope of its predecessor, so that both share their limits. The sums
    # are by the token itself.
    token = record.get("identity") or next(
        (scope.id for scope in scopes if scope.kind == "token"), ""
    )
    if not charged:
        return "-", token, ""
    model = record.get("model", "")
    provider = record.get("provider", "")
    name = (f"{provider}/{model}" if provider and model else model) or "-"
    session = record.get("session", "")
    return _summed(name), token, _summed(session) if session else ""


def _summed(name: str) -> str:
    return clipped(name, NAME_BYTES).translate(_NOT_IN_TEXT)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
