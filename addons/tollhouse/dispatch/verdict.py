"""What a provider's error says of the key that came with the request, and how long it asks to be left
alone, by the table of its family.

A refused key is read again from the store. If the account is empty, the next key is tried. Any
other error is for the workload, and is passed on.
"""

from __future__ import annotations

from typing import Any, Final

from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.retry import retry_after_s
from tollhouse.families.base import Family, Verdict
from tollhouse.families.formats.errors import error_object

PEEK_BYTES: Final = 65_536
PEEK_S: Final = 1.0
"""An error's body is short and comes with its head. It is not waited for longer than this."""


async def verdict_on_key(family: Family, answer: Answer) -> Verdict | None:
    """What ``answer`` says of the key of its request. Reads the beginning of an error's body ahead,
    if a rule needs it."""
    error: dict[str, Any] | None = None
    for rule in family.verdicts:
        if rule.status != answer.status:
            continue
        if rule.told is None:
            if not rule.kind or (answer.get("x-amzn-errortype") or "").startswith(rule.kind):
                return rule.verdict
            continue
        if error is None:
            error = error_object(await answer.peek(PEEK_BYTES, PEEK_S))
        if rule.told(error):
            return rule.verdict
    return None


async def asked_wait_s(family: Family, answer: Answer, now: float) -> float | None:
    """How many seconds the error ``answer`` asks us to wait: its headers (`retry_after_s`), else its
    body in the family's words. None if it does not say."""
    told = retry_after_s(answer, now)
    if told is None and family.retry_hint is not None and answer.status >= 400:
        told = family.retry_hint(error_object(await answer.peek(PEEK_BYTES, PEEK_S)))
    return told
