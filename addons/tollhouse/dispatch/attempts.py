"""The retry loop: attempts until there is an answer to pass on. Once the first byte of an answer
has been passed on, nothing is retried.

If the last attempt was answered, the provider's own answer is passed on, and not an error of ours.
The SDK is told to stop when the SDK and the gateway together have tried often enough.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tenacity import AsyncRetrying, RetryCallState

from tollhouse.call import Attempt
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.breaker import Breaker
from tollhouse.dispatch.retry import (
    RETRIED_ERRORS,
    SDK_STOPS,
    TRIES_OF_ALL,
    RetryPolicy,
    retry_after_s,
    worth_retrying,
)
from tollhouse.dispatch.verdict import PEEK_BYTES, PEEK_S, verdict_on_key


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks of the loop. ``clock`` gives seconds that never go back. ``wall_clock`` gives
    seconds since the epoch, for HTTP dates. ``random`` gives numbers from 0 up to 1."""

    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


REAL: Final = Timing()


async def deliver(
    send_once: Callable[[], Awaitable[Answer]],
    *,
    policy: RetryPolicy,
    breaker: Breaker,
    sdk_retry_count: int,
    timing: Timing,
    record: Callable[[Attempt], None],
    elsewhere: Callable[[Answer], Awaitable[bool]] | None = None,
    may_repeat: Callable[[], Awaitable[bool]] | None = None,
    judged_later: bool = False,
) -> Answer:
    """Calls ``send_once`` until its answer is one to pass on. Gives that answer, its body unread.

    ``sdk_retry_count`` is the request's ``x-stainless-retry-count``. Above 0 the SDK itself is
    retrying, and one attempt is made. ``record`` gets every attempt as it ends, cancelled ones too.
    ``elsewhere`` says of an answer that the caller has a better way than another try here (another
    key); such an answer is given at once. An attempt of unknown fate may be charged by the
    provider: ``may_repeat`` says whether another attempt may follow it. With ``judged_later`` the
    caller tells the breaker of an answer of status 2xx, once its body has shown what it is.

    Raises Refused("breaker_open") before an attempt. Raises the last attempt's UpstreamError.
    Raises CredentialUnavailable at once.
    """
    delivery = _Delivery(
        send_once,
        policy,
        breaker,
        sdk_retry_count,
        timing,
        record,
        elsewhere,
        may_repeat,
        judged_later,
    )
    if policy.budget is not None:
        policy.budget.call()
    try:
        answer = await delivery.attempt()
    except UpstreamError as error:
        if error.code not in RETRIED_ERRORS:
            raise
        first: Answer | UpstreamError = error
    else:
        if not worth_retrying(answer) or (elsewhere is not None and await elsewhere(answer)):
            return answer
        first = answer
    # tenacity costs 60 us even for one try that succeeds, half of what the attempt itself costs. So
    # it is used only when the first try may be made again.
    return await delivery.go_on(first)


class _Delivery:
    """One call's attempts."""

    def __init__(
        self,
        send_once: Callable[[], Awaitable[Answer]],
        policy: RetryPolicy,
        breaker: Breaker,
        sdk_retry_count: int,
        timing: Timing,
        record: Callable[[Attempt], None],
        elsewhere: Callable[[Answer], Awaitable[bool]] | None,
        may_repeat: Callable[[], Awaitable[bool]] | None,
        judged_later: bool,
    ) -> None:
        self._send_once = send_once
        self._policy = policy
        self._breaker = breaker
        self._sdk_retry_count = sdk_retry_count
        self._timing = timing
        self._clock = timing.clock
        self._record = record
        self._elsewhere = elsewhere
        self._may_repeat = may_repeat
        self._judged_later = judged_later
        self._started = timing.clock()
        self._tries = 0
        self._allowed = 1 if sdk_retry_count > 0 else policy.attempts
        self._answer: Answer | None = None
        self._hopeless = False
        """No further try makes sense: the account is empty, or the retry budget is spent."""

    async def attempt(self) -> Answer:
        """One attempt: asks the breaker, sends, tells the breaker and records."""
        self._breaker.enter()
        self._tries += 1
        began = self._clock()
        outcome, unknown = "internal", True
        judge = self._breaker.neither
        try:
            answer = self._answer = await self._send_once()
            outcome, unknown = str(answer.status), False
            if answer.status >= 500:
                judge = self._breaker.failure
            elif self._judged_later and 200 <= answer.status < 300:
                judge = _later
            elif answer.status not in (408, 429):
                judge = self._breaker.success
        except UpstreamError as error:
            outcome, unknown = error.code, error.sent == "maybe"
            if error.code != "upstream_address_refused":
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
            self._record(Attempt(outcome, (self._clock() - began) * 1000, unknown))
        return answer

    async def go_on(self, first: Answer | UpstreamError) -> Answer:
        """The retries after the first try. ``first`` is how that ended."""
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
        try:
            answer: Answer = await retrying(next_outcome)
        except UpstreamError as error:
            if error.code in RETRIED_ERRORS and self._enough():
                error.headers = (SDK_STOPS,)
                error.why = f"{error.why} {self._tried()}".strip()
            raise
        except BaseException:
            if self._answer is not None:
                await self._answer.close()
            raise
        if worth_retrying(answer) and self._enough():
            answer.headers[:] = [pair for pair in answer.headers if pair[0] != SDK_STOPS[0]] + [
                SDK_STOPS
            ]
        return answer

    async def _again(self, state: RetryCallState) -> bool:
        """Whether the outcome asks for another try, of ours or of the SDK."""
        outcome = _outcome(state)
        if not isinstance(outcome, Answer):
            if not isinstance(outcome, UpstreamError) or outcome.code not in RETRIED_ERRORS:
                return False
            asked = (
                outcome.sent == "maybe"
                and self._may_repeat is not None
                and self._tries < self._allowed
            )
            return not asked or await self._repeatable()
        if not worth_retrying(outcome):
            return False
        if self._tries > 1 and self._elsewhere is not None and await self._elsewhere(outcome):
            return False
        if await verdict_on_key(self._policy.family, outcome) == "no_money":
            self._hopeless = True
        return not self._hopeless

    async def _repeatable(self) -> bool:
        assert self._may_repeat is not None
        return await self._may_repeat()

    def _wait(self, state: RetryCallState) -> float:
        outcome = _outcome(state)
        told = (
            retry_after_s(outcome, self._timing.wall_clock())
            if isinstance(outcome, Answer)
            else None
        )
        return told or self._policy.wait_s(self._tries, self._timing.random)

    def _stop(self, state: RetryCallState) -> bool:
        """Whether the gateway makes no further try. The last condition takes from the retry budget,
        so it stands last."""
        if self._tries >= self._allowed:
            return True
        wait = state.upcoming_sleep
        if (
            self._clock() - self._started + wait >= self._policy.deadline_s
            or self._breaker.wait_s() > wait
        ):
            return True
        budget = self._policy.budget
        self._hopeless = budget is not None and not budget.take()
        return self._hopeless

    async def _discard(self, state: RetryCallState) -> None:
        """Reads a short rest of an answer that nobody gets, so that its connection can be used
        again."""
        outcome = _outcome(state)
        if isinstance(outcome, Answer):
            try:
                await outcome.peek(PEEK_BYTES, PEEK_S)
            finally:
                await outcome.close()

    def _enough(self) -> bool:
        return self._hopeless or self._tries + self._sdk_retry_count >= TRIES_OF_ALL

    def _tried(self) -> str:
        """A sentence for the denial. It counts the SDK's tries as well: each of them came through
        here."""
        tries = self._tries + self._sdk_retry_count
        times = "once" if tries == 1 else f"{tries} times"
        why = (
            ", and retries are paused, because too many calls to this provider fail"
            if self._hopeless
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
    """Gives the answer, or raises the error, that the last try ended in."""
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer
