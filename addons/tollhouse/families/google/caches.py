"""Explicit caches: https://ai.google.dev/api/caching. One is charged when it is made, and for each
hour that it is kept."""

from __future__ import annotations

import re
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import refuse
from tollhouse.families.google import spelled
from tollhouse.families.google.estimate import input_tokens
from tollhouse.families.google.models import plain
from tollhouse.families.google.request import Detail, cache_contents
from tollhouse.families.google.told import storage_charge
from tollhouse.families.google.usage import uncounted
from tollhouse.families.units import Estimate, Units

_TTL: Final = re.compile(r"(\d{1,9})(?:\.\d{1,9})?s")
_DEFAULT_HOURS: Final = 1
"""https://ai.google.dev/gemini-api/docs/caching: an hour if nothing is said."""


def read_new(request: Request, dialect: Dialect) -> Asked:
    document, values, found = cache_contents(request)
    model = plain(spelled.text(values, "model", document).rpartition("/models/")[2])
    if not model:
        refuse('The body has no "model".')
    if uses := uncounted(found.tools):
        refuse(
            f'The cache has the tool "{next(iter(uses))}", whose uses are charged by the request that '
            "asks for it: give it with each request instead."
        )
    return Asked(
        model,
        writes=False,
        reasons=False,
        asks=found.asks,
        may=found.may,
        objects=found.objects,
        detail=Detail(hours=_hours(values) or _DEFAULT_HOURS),
        document=found,
    )


def _hours(values: dict[str, Any]) -> int | None:
    """Begun hours count. Raises `Refused` for a time of day: what the cache costs can't be known
    then without a clock that agrees with Google's."""
    if "expireTime" in values:
        refuse('Give the cache a "ttl" instead of an "expireTime", so that its cost can be known.')
    ttl = values.get("ttl")
    if ttl is None:
        return None
    match = _TTL.fullmatch(ttl) if isinstance(ttl, str) else None
    if match is None:
        refuse('"ttl" must be a number of seconds such as "3600s".')
    return int(match[1]) // 3600 + 1


def estimate_new(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    tokens = input_tokens(asked.document, limits, worst=mode == "worst")
    storage = storage_charge(tokens, asked.detail.hours)
    return Estimate(
        Units(input=tokens, cache_write=tokens, requests=1),
        asked.asks,
        asked.may,
        beside=(storage,),
    )
