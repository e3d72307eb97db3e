"""The retry loop: attempts until there is an answer to pass on. Once the first byte of an answer
has been passed on, nothing is retried.

If the last attempt was answered, the provider's own answer is passed on, and not an error of ours.
The SDK is told to stop when the SDK and the gateway together have tried often enough.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tenacity import AsyncRetrying, RetryCallState

from tollhouse.call import RequestHead
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.breaker import Breaker
from tollhouse.dispatch.retry import (
    ATTEMPTS_OF_ALL,
    SDK_STOPS,
    ClientSays,
    RetryPolicy,
    Then,
    after,
    sdk_repeats,
    sdk_stops,
)
from tollhouse.dispatch.verdict import PEEK_BYTES, PEEK_S, asked_wait_s, verdict_on_key
from tollhouse.outcome import Attempt


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks of the loop. ``clock`` gives seconds that never go back. ``wall_clock`` gives
    seconds since the epoch, for HTTP dates. ``random`` gives numbers from 0 up to 1."""

    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


REAL: Final = Timing()
_STALE: Final = frozenset({"unread", "stale"})
"""`Sent` of a request that met a connection which the server had closed."""


_BEFORE_S: Final = 1.0
"""So long before the end of its patience a client is answered; of a short patience a tenth of it."""


class Effort:
    """What one call has attempted at one provider, with all of its keys. `deliver` writes it down."""

    def __init__(
        self,
        policy: RetryPolicy,
        head: RequestHead,
        creates: bool,
        began: float,
        *,
        repeatable: Callable[[], bool] = lambda: True,
        before: Effort | None = None,
    ) -> None:
        """``creates`` is `Requested.creates`. ``began`` is the time by the clock of the `Timing`.
        ``repeatable`` says whether there still is a body to send: where not, no attempt follows.
        ``before`` is what was attempted at another provider."""
        self.policy = policy
        self.creates = creates
        self._repeatable = repeatable
        self.began = began
        self.waited_since: float = began if before is None else before.waited_since
        """When the client began to wait."""
        self.first = before is None
        """The next attempt is the first one of the call."""
        self.made = 0
        """How many attempts were made, with all keys."""
        self.repeated_at_once = False
        """A connection was stale. Others that were kept may be, too."""
        self.hopeless = False
        """No further attempt makes sense: the account is empty, or the retry budget is spent."""
        self._head = head

    @cached_property
    def says(self) -> ClientSays:
        """It is read when an attempt has failed, and not of every call."""
        return ClientSays.of(self._head)

    @property
    def left(self) -> int:
        """How many more attempts the policy allows. If the SDK itself is retrying, one in all."""
        allowed = 1 if self.says.retry_count > 0 else self.policy.attempts
        return allowed - self.made

    @property
    def until(self) -> float:
        """No attempt begins later, on the same clock: the policy ends, or the client will have gone."""
        return min(self.began + self.policy.deadline_s, self.client_until)

    @property
    def client_until(self) -> float:
        """When the client has to be answered, if it is to get the answer."""
        patience_s = self.says.patience_s
        return self.waited_since + patience_s - min(_BEFORE_S, patience_s / 10)

    def may_follow(self, what: Then) -> bool:
        """Whether the policy has an attempt left for ``what``."""
        if what == "give up" or not self._repeatable():
            return False
        if what == "at once" and not self.repeated_at_once:
            return self.left > 0 or self.may_follow_at_once
        return self.left > 0

    @property
    def may_follow_at_once(self) -> bool:
        """Whether one more attempt may be made that costs the provider next to no work: with another
        key, or because the last one met a connection that was closed. It may be made although the
        policy allows no retry. It counts all the same: no call is seen more than `ATTEMPTS_OF_ALL`
        times, whichever keys it was sent with."""
        most = max(self.policy.attempts, ATTEMPTS_OF_ALL)
        return self.made + self.says.retry_count < most

    @property
    def enough(self) -> bool:
        """The SDK is told to stop."""
        return self.hopeless or sdk_stops(self.made, self.says.retry_count)


async def deliver(
    send_once: Callable[[], Awaitable[Answer]],
    *,
    effort: Effort,
    breaker: Breaker,
    timing: Timing,
    record: Callable[[Attempt], None],
    elsewhere: Callable[[Answer], Awaitable[bool]] | None = None,
    may_repeat: Callable[[], Awaitable[bool]] | None = None,
    judged_later: bool = False,
) -> Answer:
    """Calls ``send_once`` until its answer is one to pass on. Gives that answer, its body unread.

    ``effort`` goes through all attempts of a call at one provider. ``record`` gets every
    attempt as it ends, cancelled ones too. ``elsewhere`` says of an answer whether there is another
    key to go on with; such an answer is given at once. An attempt of unknown fate may be charged by
    the provider: ``may_repeat`` says whether another attempt may follow it. With ``judged_later``
    the caller tells the breaker of an answer of status 2xx, once its body has shown what it is.

    Raises Refused("breaker_open") before an attempt. Raises the last attempt's UpstreamError.
    Raises CredentialUnavailable at once.
    """
    attempts = _Attempts(
        send_once, effort, breaker, timing, record, elsewhere, may_repeat, judged_later
    )
    if effort.policy.budget is not None and not effort.made:
        effort.policy.budget.call()
    first: Answer | UpstreamError
    try:
        first = await attempts.attempt()
    except UpstreamError as error:
        first = error
    else:
        if first.status < 400:
            return first
    # tenacity costs 60 us even for an attempt that succeeds, half of what the attempt itself costs.
    # So it is used only when the first one has failed.
    return await attempts.go_on(first)


class _OutOfPatience(UpstreamError):
    """The client's own patience is at its end. It says nothing of the provider."""


class _Attempts:
    """One call's attempts with one key."""

    def __init__(
        self,
        send_once: Callable[[], Awaitable[Answer]],
        effort: Effort,
        breaker: Breaker,
        timing: Timing,
        record: Callable[[Attempt], None],
        elsewhere: Callable[[Answer], Awaitable[bool]] | None,
        may_repeat: Callable[[], Awaitable[bool]] | None,
        judged_later: bool,
    ) -> None:
        self._send_once = send_once
        self._effort = effort
        self._breaker = breaker
        self._timing = timing
        self._clock = timing.clock
        self._record = record
        self._elsewhere = elsewhere
        self._may_repeat = may_repeat
        self._judged_later = judged_later
        self._answer: Answer | None = None
        self._then: Then = "give up"
        """What follows the last attempt."""
        self._told_s: float | None = None
        """The wait that the provider asked for."""

    async def attempt(self) -> Answer:
        """One attempt: asks the breaker, sends, tells the breaker and records."""
        self._breaker.enter()
        self._effort.made += 1
        began = self._clock()
        outcome, unknown = "internal", True
        judge = self._breaker.neither
        first, self._effort.first = self._effort.first, False
        try:
            if first:
                answer = self._answer = await self._send_once()
            else:
                answer = self._answer = await self._send_again()
            outcome, unknown = str(answer.status), False
            if answer.status >= 500:
                judge = self._breaker.failure
            elif self._judged_later and 200 <= answer.status < 300:
                judge = _later
            elif answer.status not in (408, 429):
                judge = self._breaker.success
        except UpstreamError as error:
            outcome, unknown = error.code, error.may_be_known
            nothing_said = error.code == "upstream_address_refused" or error.sent in _STALE
            if not nothing_said and not isinstance(error, _OutOfPatience):
                judge = self._breaker.failure
            raise
        except CredentialUnavailable:
            outcome, unknown = "credential_unavailable", False
            raise
        except Refused as refusal:
            # Nothing left: the request can't be signed.
            outcome, unknown = refusal.denial.code, False
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            judge()
            self._record(Attempt(outcome, (self._clock() - began) * 1000, unknown, began=began))
        return answer

    async def _send_again(self) -> Answer:
        """A later attempt is given up before the client goes: told nothing, its SDK would begin anew."""
        left_s = self._effort.client_until - self._clock()
        if left_s == math.inf:
            return await self._send_once()
        try:
            async with asyncio.timeout(left_s):
                return await self._send_once()
        except TimeoutError:
            raise _OutOfPatience(
                "upstream_timeout", "It gave no answer while the client still waits.", "maybe"
            ) from None

    async def go_on(self, first: Answer | UpstreamError) -> Answer:
        """The retries after the first attempt. ``first`` is how that ended."""
        outcomes = [first]

        async def next_outcome() -> Answer:
            outcome = outcomes.pop() if outcomes else await self.attempt()
            if isinstance(outcome, UpstreamError):
                raise outcome
            return outcome

        retrying = AsyncRetrying(
            sleep=self._timing.sleep,
            retry=self._again,
            wait=self._wait,
            stop=self._stop,
            before_sleep=self._discard,
            retry_error_callback=_last_outcome,
        )
        effort = self._effort
        try:
            if after(first, effort.creates) == "give up":
                # As tenacity would end it.
                answer: Answer = await next_outcome()
            else:
                answer = await retrying(next_outcome)
        except UpstreamError as error:
            # To an SDK each of them is a status of 502 or 504, after which it asks again.
            if effort.creates and error.may_be_known:
                error.headers = (SDK_STOPS,)
                error.why += (
                    " It may have been worked on, and it makes or changes something: see whether "
                    "it has before you send it again."
                )
            elif effort.enough:
                error.headers = (SDK_STOPS,)
                error.why = f"{error.why} {self._tried()}".strip()
            raise
        except BaseException:
            if self._answer is not None:
                await self._answer.close()
            raise
        if effort.enough and sdk_repeats(answer):
            answer.headers[:] = [pair for pair in answer.headers if pair[0] != SDK_STOPS[0]] + [
                SDK_STOPS
            ]
        return answer

    async def _again(self, state: RetryCallState) -> bool:
        """Whether another attempt should be made, as far as the outcome says."""
        outcome, effort = _outcome(state), self._effort
        if not isinstance(outcome, (Answer, UpstreamError)):
            return False
        self._then = what = after(outcome, effort.creates)
        if isinstance(outcome, UpstreamError):
            if not outcome.may_be_known or not effort.may_follow(what) or self._may_repeat is None:
                return what != "give up"
            return await self._may_repeat()
        if what == "next key" and self._elsewhere is not None and await self._elsewhere(outcome):
            return False
        if what == "give up":
            return False
        family = effort.policy.family
        effort.hopeless = await verdict_on_key(family, outcome) == "no_money"
        self._told_s = await asked_wait_s(family, outcome, self._timing.wall_clock())
        return not effort.hopeless

    def _wait(self, state: RetryCallState) -> float:
        effort = self._effort
        if self._then == "at once" and not effort.repeated_at_once:
            return 0.0
        own_s = effort.policy.wait_s(effort.made, self._timing.random)
        told_s, self._told_s = self._told_s, None
        return told_s or own_s

    def _stop(self, state: RetryCallState) -> bool:
        """Whether the gateway makes no further attempt. The retry budget is asked last, because asking
        takes from it."""
        effort, wait = self._effort, state.upcoming_sleep
        if not effort.may_follow(self._then):
            return True
        if self._clock() + wait >= effort.until or self._breaker.wait_s() > wait:
            return True
        if self._then == "at once" and not effort.repeated_at_once:
            # Most likely the provider has not read the first one: it is no more load.
            return False
        budget = effort.policy.budget
        effort.hopeless = budget is not None and not budget.take()
        return effort.hopeless

    async def _discard(self, state: RetryCallState) -> None:
        """Reads a short rest of an answer that nobody gets, so that its connection can be used
        again."""
        outcome = _outcome(state)
        if self._then == "at once":
            self._effort.repeated_at_once = True
        if isinstance(outcome, Answer):
            try:
                await outcome.peek(PEEK_BYTES, PEEK_S)
            finally:
                await outcome.close()

    def _tried(self) -> str:
        """A sentence for the denial. It counts the SDK's attempts as well: each of them came through
        here."""
        effort = self._effort
        count = effort.made + effort.says.retry_count
        times = "once" if count == 1 else f"{count} times"
        why = (
            ", and retries are paused, because too many calls to this provider fail"
            if effort.hopeless
            else " already"
        )
        return f"The gateway has tried it {times}{why}."


def _later() -> None:
    """The caller tells the breaker."""


def _outcome(state: RetryCallState) -> object:
    future = state.outcome
    assert future is not None
    return future.exception() or future.result()


def _last_outcome(state: RetryCallState) -> Answer:
    """Gives the answer, or raises the error, that the last attempt ended in."""
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer
