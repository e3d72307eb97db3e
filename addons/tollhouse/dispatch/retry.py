"""When an attempt is made again: the table of the policy, and what the provider and the SDK say.

The loop is in `dispatch.attempts`. Clocks are passed in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

from tollhouse.call import RequestHead
from tollhouse.dispatch.answer import Answer, Sent, UpstreamError
from tollhouse.dispatch.retry_budget import RetryBudget
from tollhouse.families import DEFAULT
from tollhouse.families.base import Family
from tollhouse.providers import Provider

Then = Literal["again", "at once", "next key", "give up"]
"""``again``: after a wait. ``at once``: without one, and once a call. ``next key``: at once with
another key, and if there is none ``again``. ``give up``: what there is goes to the client."""


class Row(NamedTuple):
    """``happened`` are statuses, or codes of `UpstreamError`. None fits everything."""

    happened: frozenset[int | str]
    then: Then
    sent: frozenset[Sent] | None = None
    creates: bool | None = None
    """The request makes or changes something at the provider (`Requested.creates`)."""
    told: Literal["true", "false"] | None = None
    """The provider's ``x-should-retry``."""

    def fits(self, happened: int | str, sent: Sent, creates: bool, told: str) -> bool:
        return (
            (not self.happened or happened in self.happened)
            and (self.sent is None or sent in self.sent)
            and self.creates in (None, creates)
            and self.told in (None, told)
        )


_ANY: Final[frozenset[int | str]] = frozenset()
_LOST: Final[frozenset[int | str]] = frozenset({"upstream_unreachable"})
_ERRORS: Final[frozenset[int | str]] = _LOST | {"upstream_tls", "upstream_timeout"}
"""No connection, no TLS, a time-out of ours for the connection or for the first byte, and a
connection that was lost before the answer's head."""
_REJECTED: Final[frozenset[int | str]] = frozenset({529})
"""Anthropic's and Bedrock's "overloaded": the request was turned away, and not worked on."""
_FAILED: Final[frozenset[int | str]] = frozenset({408, 500, 502, 503, 504})
"""The provider may have worked on the request: 408 is also Bedrock's for a model that took too long,
and proxies say 502, 503 and 504 of a server that was lost in the middle."""

TABLE: Final[tuple[Row, ...]] = (
    # The provider's word decides over the status. Of a 429 the key is at fault.
    Row(frozenset({429}), "next key", told="true"),
    Row(_ANY, "again", told="true"),
    Row(_ANY, "give up", told="false"),
    Row(_ERRORS, "again", sent=frozenset({"no"})),
    # The server had closed the connection, and can't have read the request.
    Row(_LOST, "at once", sent=frozenset({"unread"})),
    # RFC 9110 9.2.2: what is not idempotent is repeated only by who can tell that it was never
    # applied. A close without an answer alone can't tell that, on an idle connection either (`Sent`).
    # An idempotency key would, where the provider's documents promise it; none of ours does.
    Row(_ERRORS | _FAILED, "give up", creates=True),
    # RFC 9112 9.3.1: a server may close an idle connection at any time. What creates nothing may
    # be repeated whoever has read it.
    Row(_LOST, "at once", sent=frozenset({"stale"})),
    Row(_ERRORS | _FAILED | _REJECTED, "again"),
    Row(frozenset({429}), "next key"),
)
"""The first row that fits counts. What fits none is given up: the same request would end the same
(4xx, an address that is refused), or its answer is no HTTP."""


def then(happened: int | str, sent: Sent = "no", creates: bool = False, told: str = "") -> Then:
    """What follows an attempt that was answered (``happened`` is the status) or was not (the code).
    A status below 400 is given up: there is nothing to retry."""
    if isinstance(happened, int) and happened < 400:
        return "give up"
    for row in TABLE:
        if row.fits(happened, sent, creates, told):
            return row.then
    return "give up"


def after(outcome: Answer | UpstreamError, creates: bool) -> Then:
    """The same, of what an attempt has ended in."""
    if isinstance(outcome, UpstreamError):
        return then(outcome.code, outcome.sent, creates)
    return then(outcome.status, creates=creates, told=_told(outcome))


def _told(answer: Answer) -> str:
    return (answer.get("x-should-retry") or "").strip().lower() if answer.status >= 400 else ""


ATTEMPTS_OF_ALL: Final = 3
"""The most attempts of one call of the user, those of the SDK and those of the gateway together."""
SDK_STOPS: Final = ("x-should-retry", "false")
"""openai-python, anthropic-python and their kin heed it: `_base_client.py`, `_should_retry`."""


def sdk_repeats(answer: Answer) -> bool:
    """Whether an SDK asks again after ``answer`` by itself: `_should_retry` again. That is more than
    what `TABLE` repeats."""
    status = answer.status
    return _told(answer) == "true" or status in (408, 409, 429) or status >= 500


def sdk_stops(made: int, sdk_retry_count: int) -> bool:
    """Whether the SDK is told to stop after ``made`` attempts of ours, all in vain.

    The count says how often the SDK has asked, and not how often the gateway has tried before. If we
    have tried once each time, the SDK may ask on until there were `ATTEMPTS_OF_ALL`. If we have tried
    more than once, it may not ask again: it would ask twice.
    """
    return made > 1 or made + sdk_retry_count >= ATTEMPTS_OF_ALL


_SECONDS: Final = re.compile(r"[0-9]{1,99}(\.[0-9]{1,99})?")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one call is tried. The first attempt counts in ``attempts``;
    ``deadline_s`` begins with it.

    If the provider names a wait, that holds. Else the wait before attempt n + 1 is random between 0 and
    ``first_wait_s`` * 2 ** (n - 1), at most ``longest_wait_s`` (full jitter:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    attempts: int = 3
    deadline_s: float = 10.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 4.0
    budget: RetryBudget | None = None
    family: Family = DEFAULT
    """The family in whose form the answers are."""

    @classmethod
    def of(cls, provider: Provider, budget: RetryBudget | None = None) -> RetryPolicy:
        return cls(
            attempts=provider.attempts,
            deadline_s=provider.deadline_s,
            budget=budget,
            family=provider.family,
        )

    def wait_s(self, made: int, random: Callable[[], float]) -> float:
        """Our own wait after ``made`` attempts; ``random`` gives 0 <= x < 1."""
        return random() * min(self.longest_wait_s, self.first_wait_s * 2.0 ** (made - 1))


class ClientSays(NamedTuple):
    """What the SDK says of its own retries."""

    retry_count: int = 0
    """How often it has retried before this request."""
    patience_s: float = math.inf
    """So long it waits for the answer, from the request sent."""

    @classmethod
    def of(cls, head: RequestHead) -> ClientSays:
        """A value that can't be read says nothing."""
        count = head.get("x-stainless-retry-count") or ""
        return cls(
            int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 0,
            min(_patience_s(head.get(name) or "") for name in _PATIENCE),
        )


_PATIENCE: Final = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Seconds. openai-python sends the first, openai-node the second, anthropic-python both."""


def _patience_s(value: str) -> float:
    return float(value) if _SECONDS.fullmatch(value) and float(value) else math.inf


def retry_after_s(answer: Answer, now: float) -> float | None:
    """How many seconds the provider asks us to wait: ``retry-after-ms``, else ``Retry-After`` in
    either form (RFC 9110 10.2.3; fractions are taken too). ``now`` is seconds since the epoch. None
    without a value that can be read; never negative."""
    milliseconds = (answer.get("retry-after-ms") or "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    value = (answer.get("retry-after") or "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        wait = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, wait) if math.isfinite(wait) else None
