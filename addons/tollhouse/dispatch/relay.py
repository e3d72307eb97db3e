"""A cleared call's way out: attempts with one key after the other, until there is an answer to pass on."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Protocol

from tollhouse.call import Attempt, End, Outcome
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.redact import Redactor
from tollhouse.credential.secret import Secret
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.answering import Answering
from tollhouse.dispatch.attempts import REAL, Timing, deliver
from tollhouse.dispatch.breaker import Breaker, Breakers
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.retry import RetryBudget, RetryPolicy, retry_after_s, sdk_retry_count
from tollhouse.dispatch.upstream import Upstream
from tollhouse.dispatch.verdict import verdict_on_key
from tollhouse.providers import Provider

log = logging.getLogger(__name__)


class KeyKeeper(Protocol):
    """Who is told what a provider says of a key, and can say whether there is another one to go on with."""

    async def refused(self, lease: Lease) -> Lease | None: ...
    def cooling(self, lease: Lease, seconds: float | None) -> Lease | None: ...
    def exhausted(self, lease: Lease) -> Lease | None: ...


class Relay:
    """What all deliveries share."""

    def __init__(
        self,
        upstream: Upstream,
        breakers: Breakers,
        keys: KeyKeeper,
        *,
        abandoned_read_s: float,
        retries_a_second: float = 1.0,
        timing: Timing = REAL,
    ) -> None:
        """``retries_a_second`` are the least that a provider gets: this process's part of those of the gateway."""
        self.upstream = upstream
        self.breakers = breakers
        self.keys = keys
        self.abandoned_read_s = abandoned_read_s
        self.timing = timing
        self._retries_a_second = retries_a_second
        self.meter_faults: Counter[str] = Counter()
        """Answers whose meter failed, by provider: since the start."""
        self._policies: dict[str, RetryPolicy] = {}

    def policy(self, provider: Provider) -> RetryPolicy:
        policy = self._policies.get(provider.name)
        if policy is None:
            policy = self._policies[provider.name] = RetryPolicy.of(
                provider, RetryBudget(self.timing.clock, a_second=self._retries_a_second)
            )
            # A count of faults that begins with the first one looks like none to `increase()`.
            self.meter_faults[provider.name] += 0
        return policy

    def delivery(self, clearance: Clearance) -> Delivery:
        """Raises TypeError for anything but a `Clearance`: nothing leaves without one."""
        if not isinstance(clearance, Clearance):
            raise TypeError("dispatch takes a Clearance and nothing else")
        return Delivery(self, clearance)


class Delivery:
    """One call's way out and back: `answer`, then the pieces of what it gives, then `outcome` and `close`."""

    def __init__(self, relay: Relay, clearance: Clearance) -> None:
        self._relay = relay
        self._clock = relay.timing.clock
        self._requested = clearance.covered.requested
        self._hold = clearance.covered.hold
        self._outgoing = Outgoing.of(clearance)
        self._provider = self._outgoing.provider
        self._last: Answer | None = None
        """What the last attempt gave, refused or not."""
        self.answering: Answering | None = None
        """What `answer` gave."""
        self._silence = 0.0
        """Seconds that the head of the answer was waited for."""
        self._used = [clearance.lease.secret]
        """The keys that were put on this call, and what was minted from them."""
        self._token: Secret | None = None
        """The access token minted for the last attempt."""
        self._redactor = Redactor(self._used)
        self._status = 0
        self._key_version = _version(clearance.lease)
        self._attempts_made: list[Attempt] = []
        self._unknown = 0
        self._in_flight = False
        """The request of an attempt has left, or begun to, and its answer's head has not come."""
        self._breaker = self._breaker_of(clearance.lease)
        self._breaker_state = ""
        self._waited_s = 0.0

    async def answer(self) -> Answering:
        """Sends, and gives the answer to pass on. Raises `Refused` (``upstream_*``, ``breaker_open``, ``credential_*``) when
        there is none."""
        waited = self._clock()
        try:
            answer = await self._attempts()
            if await self._is_refused(answer):
                answer = await self._with_another_key(answer)
        except UpstreamError as error:
            raise Refused(error.code, error.why, error.headers) from None
        except CredentialUnavailable as error:
            # `why` is for the log, not for the workload.
            log.error(
                "call %s: its key can't be put on (%s)", self._requested.admitted.id, error.why
            )
            raise Refused("credential_unavailable", headers=(("retry-after", "5"),)) from None
        finally:
            self._waited_s += self._clock() - waited
        self._status = answer.status
        self.answering = Answering(
            answer,
            self._requested,
            self._hold,
            self._redactor,
            self._breaker,
            self._silence,
            self._clock,
            self._relay.meter_faults,
        )
        return self.answering

    def outcome(self, left: End | None = None) -> Outcome:
        """How the call ended. ``left`` says who ended it, if it was neither the provider nor its answer's end. Nothing is read
        behind this of an answer that is not complete: what has come of it counts."""
        answering = self.answering
        if answering is not None and not answering.complete:
            answering.give_up()
        outcome = Outcome(
            self._end(left),
            status=self._status,
            in_flight=self._in_flight,
            attempts=tuple(self._attempts_made),
            attempts_unknown=self._unknown,
            breaker=self._breaker_state,
            key_version=self._key_version,
            waited_s=self._waited_s,
        )
        if answering is None:
            return outcome
        return outcome._replace(
            metered=answering.metered,
            meter_failed=answering.meter_failed,
            streamed=answering.streamed,
            charges=answering.charges,
            created=answering.created,
            later=answering.later,
            seen=answering.seen,
            output_seen=answering.output_seen,
            silent_s=answering.silent_s,
            error=answering.error,
            first_byte=answering.first_byte,
            waited_s=self._waited_s + answering.waited_s,
        )

    def _end(self, left: End | None) -> End:
        answering = self.answering
        if answering is None:
            if self._in_flight:
                return left or End.UNKNOWN
            if self._status:
                return End.ERROR
            gone = any(attempt.answered or attempt.unknown for attempt in self._attempts_made)
            return End.UNKNOWN if gone else End.NEVER_LEFT
        if not 200 <= answering.status < 300:
            return End.ERROR
        if answering.error and not answering.wrote:
            return End.ERROR
        if answering.error and answering.streamed:
            return End.FAILED
        if answering.complete:
            return End.STREAMED if answering.streamed else End.WHOLE
        return End.CUT if answering.cut else left or End.CUT

    async def _attempts(self) -> Answer:
        """With one key, and the next while the provider says that this one has had enough: each key once."""
        answer = await self._attempts_with_one_key()
        while (other := await self._next_key(answer)) is not None:
            await answer.close()
            self._use(other)
            answer = await self._attempts_with_one_key()
        return answer

    async def _next_key(self, answer: Answer) -> Lease | None:
        """The key to go on with instead of passing this answer on. It tells the others that ours is to be left alone."""
        if answer.status < 400 or not self._outgoing.lease.ours:
            return None
        keys, lease = self._relay.keys, self._outgoing.lease
        verdict = await verdict_on_key(self._provider.family, answer)
        if verdict == "no_money":
            other = keys.exhausted(lease)
        elif answer.status == 429 and verdict != "request":
            other = keys.cooling(lease, retry_after_s(answer, self._relay.timing.wall_clock()))
        else:
            return None
        if other is None or other.secret in self._used:
            return None
        return other if self._breaker_of(other).wait_s() == 0 else None

    def _breaker_of(self, lease: Lease) -> Breaker:
        return self._relay.breakers.of(self._outgoing.host, lease.secret.digest)

    async def _is_refused(self, answer: Answer) -> bool:
        """Whether the provider does not take our key, rather than the request."""
        if not self._outgoing.lease.ours:
            return False
        return await verdict_on_key(self._provider.family, answer) == "refused"

    async def _has_next_key(self, answer: Answer) -> bool:
        return await self._next_key(answer) is not None

    def _use(self, lease: Lease) -> None:
        """Go on with another key. Nothing of an answer to this one has been passed on."""
        self._outgoing, self._token = self._outgoing._replace(lease=lease), None
        self._breaker = self._breaker_of(lease)
        self._put_on(lease.secret)
        self._key_version = _version(lease)
        self._status = 0

    def _minted(self, token: Secret) -> None:
        self._token = token
        self._put_on(token)

    def _put_on(self, secret: Secret) -> None:
        """From now on an answer may repeat this one."""
        if secret not in self._used:
            self._used.append(secret)
            self._redactor = Redactor(self._used)

    async def _attempts_with_one_key(self) -> Answer:
        try:
            return await deliver(
                self._send_once,
                policy=self._relay.policy(self._provider),
                breaker=self._breaker,
                sdk_retry_count=sdk_retry_count(self._requested.admitted.arrival.head),
                timing=self._relay.timing,
                record=self._record,
                elsewhere=self._has_next_key,
                may_repeat=self._hold.covers_repeat,
                judged_later=self._requested.admitted.operation.metered,
            )
        finally:
            self._breaker_state = self._breaker.state.value

    async def _with_another_key(self, answer: Answer) -> Answer:
        """The key was refused: once more with another one, if the store has it by now (a rotation loses no call). Before
        that once more with the same, if what was refused is an access token minted from it. Raises `Refused`: the workload
        can't mend our key, and a 401 would tell it that its own credential is wrong."""
        self._status = answer.status
        await answer.close()
        if self._token is not None and self._relay.upstream.token_refused(
            self._outgoing.lease, self._token
        ):
            answer = await self._attempts()
            if not await self._is_refused(answer):
                return answer
            await answer.close()
        refused = self._outgoing.lease
        lease = await self._relay.keys.refused(refused)
        if lease is not None:
            self._use(lease)
            answer = await self._attempts()
            if not await self._is_refused(answer):
                return answer
            self._status = answer.status
            await answer.close()
            # Told for the others' sake: this key, too, is counted and left alone.
            await self._relay.keys.refused(self._outgoing.lease)
        raise Refused(
            "credential_refused",
            f"It is the key {self._outgoing.lease.fingerprint} of {self._outgoing.host}.",
        )

    async def _send_once(self) -> Answer:
        began = self._clock()
        self._last = await self._relay.upstream.send(
            self._outgoing,
            budget_s=self._provider.deadline_s,
            on_leaving=self._on_leaving,
            minted=self._minted,
        )
        self._in_flight = False
        self._silence = self._clock() - began
        return self._last

    def _on_leaving(self) -> None:
        self._in_flight = True

    def _record(self, attempt: Attempt) -> None:
        # Before `on_leaving` nothing is written, whatever ended the attempt.
        if attempt.unknown and not self._in_flight:
            attempt = attempt._replace(unknown=False)
        self._attempts_made.append(attempt)
        if attempt.outcome != "cancelled":
            self._in_flight = False
            self._unknown += attempt.unknown

    async def read_on(self) -> None:
        """The client has gone: read the answer to its end for a bounded time, for the true count. Raises nothing."""
        if self.answering is not None:
            await self.answering.read_on(self._relay.abandoned_read_s)

    async def close(self) -> None:
        """Let go of the answer, however it ended, and of one that nobody was given. May be called twice."""
        if self.answering is not None:
            await self.answering.close()
        elif self._last is not None:
            await self._last.close()


def _version(lease: Lease) -> str:
    match lease.kind:
        case "none":
            return ""
        case "login":
            return "login"
    return f"{lease.fingerprint}@{lease.version}"
