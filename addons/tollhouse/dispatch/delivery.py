"""A cleared call's way out: attempts with one key after the other, until there is an answer to pass on."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from tollhouse.call import StreamedBody
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.redact import Redactor
from tollhouse.credential.secret import Secret
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.answering import Answering
from tollhouse.dispatch.attempts import Effort, deliver
from tollhouse.dispatch.breaker import Breaker
from tollhouse.dispatch.ending import end_of, of_session
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.socket_handshake import PROTOCOL, SocketHandshake
from tollhouse.dispatch.upstreamed import Upstreamed
from tollhouse.dispatch.verdict import PEEK_BYTES, PEEK_S, asked_wait_s, verdict_on_key
from tollhouse.frames import Room
from tollhouse.outcome import Attempt, End, Outcome

if TYPE_CHECKING:
    from tollhouse.dispatch.relay import Relay

log = logging.getLogger(__name__)

_AWAY: Final = frozenset(
    {"breaker_open", "upstream_unreachable", "upstream_tls", "upstream_timeout"}
)
"""Refusals of a call that another provider might serve."""


class Delivery:
    """One call's way out and back: `answer`, then the pieces of what it gives, then `outcome` and `close`."""

    def __init__(self, relay: Relay, clearance: Clearance, before: Delivery | None = None) -> None:
        self._before = before
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
        self.upstreamed: Upstreamed | None = None
        """What `connect` gave, of a handshake that was accepted."""
        self._silence = 0.0
        """Seconds that the head of the answer was waited for."""
        self._used = [clearance.lease.secret]
        """The keys that were put on this call, and what was minted from them."""
        self._token: Secret | None = None
        """The access token minted for the last attempt."""
        self._redactor = Redactor(self._used)
        self._status = 0
        self._key_version = _version(clearance.lease)
        self._attempts_made: list[Attempt] = [] if before is None else before._attempts_made
        """All attempts of the call. A fallback's delivery adds its attempts to the list of the first provider's."""
        self._in_flight = False
        """The request of an attempt has left, or begun to, and its answer's head has not come."""
        self._breaker = self._breaker_of(clearance.lease)
        self._breaker_state = ""
        self._waited_s = 0.0
        self._failed = ""
        """The code of the refusal that `answer` has raised."""
        body = self._outgoing.body
        self._upload = None if body is None or isinstance(body, bytes) else body
        self._effort: Effort = Effort(
            relay.policy(self._provider, self._requested.admitted.project.tenant),
            self._requested.admitted.arrival.head,
            self._requested.creates,
            self._now(),
            repeatable=partial(_repeatable, self._upload),
            before=None if before is None else before._effort,
        )

    def _now(self) -> float:
        """The time for retries is not used up by the sending of a large body."""
        sending_s = 0.0 if self._upload is None else self._upload.sending_s
        return self._clock() - sending_s

    @property
    def attempts(self) -> int:
        """How many attempts were made by now."""
        return len(self._attempts_made)

    @property
    def unknown(self) -> int:
        """How many of them were of unknown fate."""
        return sum(one.unknown and one.outcome != "cancelled" for one in self._attempts_made)

    @property
    def may_fall_back(self) -> bool:
        """`answer` is over, and another provider might serve the call: this one is away, its breaker
        is open, it limits the rate, or it fails. And the client still waits."""
        if self.answering is not None:
            serves = self.answering.status != 429 and self.answering.status < 500
        else:
            serves = self._failed not in _AWAY
        return not serves and self._now() < self._effort.client_until

    async def answer(self) -> Answering:
        """Sends, and gives the answer to pass on. Raises `Refused` (``upstream_*``, ``breaker_open``, ``credential_*``) when
        there is none."""
        return self._answering_of(await self._sent())

    async def connect(self, longest: int, room: Room) -> Upstreamed | Answering:
        """The same for a WebSocket: the provider's side of it, or the answer by which the provider refuses it.
        ``longest`` are the most bytes of a message, and ``room`` counts them."""
        answer = await self._sent()
        if answer.connection is None:
            return self._answering_of(answer)
        self._status = answer.status
        self.upstreamed = Upstreamed(
            answer.connection, answer.get(PROTOCOL) or "", self._redactor, longest, room
        )
        return self.upstreamed

    async def _sent(self) -> Answer:
        waited = self._clock()
        try:
            answer = await self._attempts()
            if await self._dropped_as_refused(answer):
                answer = await self._with_another_key()
        except UpstreamError as error:
            self._failed = error.code
            raise Refused(error.code, error.why, error.headers) from None
        except Refused as refusal:
            self._failed = refusal.denial.code
            raise
        except CredentialUnavailable as error:
            # `why` is for the log, not for the workload.
            log.error(
                "call %s: its key can't be put on (%s)", self._requested.admitted.id, error.why
            )
            raise Refused("credential_unavailable", headers=(("retry-after", "5"),)) from None
        finally:
            self._waited_s += self._clock() - waited
        return answer

    def _answering_of(self, answer: Answer) -> Answering:
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
            end_of(answering, self._attempts_made, self._status, left, in_flight=self._in_flight),
            status=self._status,
            in_flight=self._in_flight,
            attempts=tuple(self._attempts_made),
            attempts_unknown=self.unknown,
            breaker=self._breaker_state,
            key_version=self._key_version,
            waited_s=self.waited_s,
        )
        if self.upstreamed is not None:
            return of_session(outcome, left, self.upstreamed, self._clock())
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
            waited_s=self.waited_s + answering.waited_s,
        )

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for an answer."""
        return self._waited_s + (self._before.waited_s if self._before is not None else 0.0)

    async def keep(self) -> None:
        """Reads the beginning of an error's body into memory. Its connection is free then while the
        fallback is asked, and the error can still be passed on."""
        if self._last is not None:
            await self._last.peek(PEEK_BYTES, PEEK_S)

    @property
    def sdk_stops(self) -> bool:
        """The SDK is told not to send the call again."""
        return self._effort.made > 0 and self._effort.enough

    def take_wait_of(self, fallback: Delivery) -> None:
        """The fallback did not serve the call either. The time that was spent waiting for it counts
        as this delivery's."""
        self._waited_s = fallback.waited_s

    async def _attempts(self) -> Answer:
        """With one key, and the next while the provider says that this one has had enough. No key is
        come back to, and all of them together make as many attempts as `Effort` allows."""
        answer = await self._attempts_with_one_key()
        while (other := await self._next_key(answer)) is not None:
            await answer.close()
            self._use(other)
            answer = await self._attempts_with_one_key()
        return answer

    async def _next_key(self, answer: Answer) -> Lease | None:
        """Tells the keeper of the keys what this answer says of our key, so that other calls leave that key alone. Gives the key
        to go on with, or None if this answer is the one to pass on."""
        if answer.status < 400 or not self._outgoing.lease.ours or not _repeatable(self._upload):
            return None
        keys, lease = self._relay.keys, self._outgoing.lease
        verdict = await verdict_on_key(self._provider.family, answer)
        if verdict == "no_money":
            other = keys.exhausted(lease)
        elif answer.status == 429 and verdict != "request":
            now = self._relay.timing.wall_clock()
            other = keys.cooling(lease, await asked_wait_s(self._provider.family, answer, now))
            if self._effort.says.retry_count > 0:
                # One attempt only: the SDK is retrying, and its next request gets another key.
                return None
        else:
            return None
        if other is None or other.secret in self._used or not self._effort.may_follow_at_once:
            return None
        return other if self._breaker_of(other).wait_s() == 0 else None

    def _breaker_of(self, lease: Lease) -> Breaker:
        return self._relay.breaker(self._requested, self._outgoing.host, lease)

    async def _dropped_as_refused(self, answer: Answer) -> bool:
        """Whether the provider does not take our key, rather than the request. Such an answer is let go."""
        if not self._outgoing.lease.ours:
            return False
        if await verdict_on_key(self._provider.family, answer) != "refused":
            return False
        self._status = answer.status
        await answer.close()
        return True

    async def _has_next_key(self, answer: Answer) -> bool:
        return await self._next_key(answer) is not None

    def _use(self, lease: Lease) -> None:
        """Puts another key on the attempts that follow. Nothing of an answer has been passed on yet."""
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
        timing = self._relay.timing
        if self._upload is not None:
            timing = replace(timing, clock=self._now)
        try:
            return await deliver(
                self._send_once,
                effort=self._effort,
                breaker=self._breaker,
                timing=timing,
                record=self._record,
                elsewhere=self._has_next_key,
                may_repeat=self._hold.covers_repeat,
                judged_later=self._requested.admitted.operation.metered,
            )
        finally:
            self._breaker_state = self._breaker.shown.value

    async def _with_another_key(self) -> Answer:
        """The key was refused: at once with another one that the store has by now (a rotation loses no call), and with the next
        one where that is refused as well, while `Effort` allows an attempt. Before that once more with the same, if what was
        refused is an access token minted from it. Raises `Refused`: the workload can't mend our key, and a 401 would tell it
        that its own credential is wrong."""
        if (
            self._may_be_sent_again()
            and self._token is not None
            and self._relay.upstream.token_refused(self._outgoing.lease, self._token)
        ):
            answer = await self._attempts()
            if not await self._dropped_as_refused(answer):
                return answer
        refused: list[Secret] = []
        while (other := await self._in_place_of_refused(refused)) is not None:
            self._use(other)
            answer = await self._attempts()
            if not await self._dropped_as_refused(answer):
                return answer
        raise Refused(
            "credential_refused",
            f"It is the key {self._outgoing.lease.fingerprint} of {self._outgoing.host}.",
        )

    async def _in_place_of_refused(self, refused: list[Secret]) -> Lease | None:
        """The key for the next attempt. ``refused`` are those that this call has found refused, to which it adds the present one.
        The store is told in any case: the key is counted, left alone by other calls, and read again for them."""
        lease = self._outgoing.lease
        refused.append(lease.secret)
        other = await self._relay.keys.refused(lease)
        if other is None or other.secret in refused or not self._may_be_sent_again():
            return None
        return other

    def _may_be_sent_again(self) -> bool:
        return _repeatable(self._upload) and self._effort.may_follow_at_once

    async def _send_once(self) -> Answer:
        clock = self._clock if self._upload is None else self._now
        began = clock()
        self._last = await self._relay.upstream.send(
            self._outgoing,
            budget_s=self._provider.deadline_s,
            on_leaving=self._on_leaving,
            minted=self._minted,
            upgrade=SocketHandshake(self._requested.headers)
            if self._requested.admitted.operation.socket
            else None,
            fresh=self._effort.repeated_at_once,
            creates=self._effort.creates,
        )
        self._in_flight = False
        self._silence = clock() - began
        return self._last

    def _on_leaving(self) -> None:
        self._in_flight = True

    def _record(self, attempt: Attempt) -> None:
        # Before `on_leaving` nothing is written, whatever ended the attempt.
        if attempt.unknown and not self._in_flight:
            attempt = attempt._replace(unknown=False)
        if self._before is not None:
            attempt = attempt._replace(provider=self._provider.name)
        self._attempts_made.append(attempt)
        if attempt.outcome != "cancelled":
            self._in_flight = False

    async def read_on(self) -> None:
        """Reads on when the client has left, for a bounded time: the usage stands at the answer's end. Raises nothing."""
        if self.answering is not None:
            await self.answering.read_on(self._relay.abandoned_read_s)

    async def close(self) -> None:
        """Lets go of the answer, however it ended. Lets go of an answer that was not passed on as well. May be called twice."""
        if self._before is not None:
            await self._before.close()
        if self.upstreamed is not None:
            self.upstreamed.close()
        elif self.answering is not None:
            await self.answering.close()
        elif self._last is not None:
            await self._last.close()


# No method: a `Delivery` that were part of a cycle would live on, with all that its call has read, until the collector runs.
def _repeatable(upload: StreamedBody | None) -> bool:
    """Whether the body can be sent once more from its beginning."""
    return upload is None or upload.repeatable


def _version(lease: Lease) -> str:
    match lease.kind:
        case "none":
            return ""
        case "login":
            return "login"
    return f"{lease.fingerprint}@{lease.version}"
