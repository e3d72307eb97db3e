"""When an attempt is made again: what the provider says, what the policy says, and the budget that
keeps storms of retries down.

The loop is in `dispatch.attempts`. Clocks are passed in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from tollhouse.call import RequestHead
from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.window import Window
from tollhouse.families import DEFAULT
from tollhouse.families.base import Family
from tollhouse.providers import Provider

RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504, 529})
"""529 is Anthropic's and Bedrock's "overloaded"."""
RETRIED_ERRORS: Final = frozenset({"upstream_unreachable", "upstream_tls", "upstream_timeout"})
"""Other errors are not retried: a refused address and an answer that is no HTTP would be the same
again."""
TRIES_OF_ALL: Final = 3
"""When the SDK and the gateway together have made so many tries, the SDK is told to stop. So there
are never 3 x 3 tries."""
SDK_STOPS: Final = ("x-should-retry", "false")
"""openai-python, anthropic-python and their kin heed it: `_base_client.py`, `_should_retry`."""

_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")


class RetryBudget:
    """How many retries the calls to a provider may make together: a tenth of its calls of the last
    10 s, and at least 1 a second. A worker of several has its part of the latter, and at least one
    in 10 s.

    So a provider that fails every call gets at most 1.1 times the load, and not 3 times.
    """

    __slots__ = ("_least", "_share", "_window")

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        share: float = 0.1,
        a_second: float = 1.0,
        window_s: float = 10.0,
    ) -> None:
        self._window = Window(window_s, clock)
        self._share = share
        self._least = max(1.0, a_second * window_s)

    def call(self) -> None:
        """A call was begun."""
        self._window.add(first=1)

    def take(self) -> bool:
        """Whether one more retry may be made. If so, it is counted."""
        self._window.forget()
        if self._window.second + 1 > max(self._share * self._window.first, self._least):
            return False
        self._window.add(second=1)
        return True


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one call is tried. The first attempt counts in ``attempts``;
    ``deadline_s`` begins with it.

    If the provider names a wait, that holds. Else the wait before try n + 1 is random between 0 and
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

    def wait_s(self, tries: int, random: Callable[[], float]) -> float:
        """Our own wait after ``tries`` tries; ``random`` gives 0 <= x < 1."""
        return random() * min(self.longest_wait_s, self.first_wait_s * 2.0 ** (tries - 1))


def sdk_retry_count(head: RequestHead) -> int:
    """How often the SDK has retried before this request: ``x-stainless-retry-count``. 0 without a
    number that can be read."""
    value = head.get("x-stainless-retry-count") or ""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 4 else 0


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


def worth_retrying(answer: Answer) -> bool:
    """Whether this answer asks for another try. ``x-should-retry`` goes before the status. On an
    answer that is no error it is ignored."""
    if answer.status < 400:
        return False
    says = (answer.get("x-should-retry") or "").strip().lower()
    if says in ("true", "false"):
        return says == "true"
    return answer.status in RETRIED_STATUSES
