"""A cleared call's way out and its answer's way back: attempts, headers, the meter, the rest when the client has gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from tollhouse.call import Attempt
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.redact import Redactor
from tollhouse.credential.secret import Secret
from tollhouse.denial import Denial, Refused, error_event
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.attempts import REAL, Timing, deliver
from tollhouse.dispatch.breaker import Breakers
from tollhouse.dispatch.ending import Ending
from tollhouse.dispatch.retry import RetryBudget, RetryPolicy, retry_after_s, sdk_retry_count
from tollhouse.dispatch.upstream import Upstream
from tollhouse.dispatch.verdict import verdict_on_key
from tollhouse.families.openai.meter import JsonMeter, StreamMeter
from tollhouse.listen.exchange import Exchange
from tollhouse.providers import Provider

log = logging.getLogger(__name__)

# Of the connection with the provider, or of its state with somebody else. `alt-svc` would lead the client past us.
_NOT_PASSED_ON: Final = frozenset({"alt-svc", "set-cookie", "set-cookie2", "trailer", "content-length"})
_QUIET_S: Final = 1.0
"""Of each silence: what network and queue take, and no reasoning."""

Conclude = Callable[[], Awaitable[None]]


class Keys(Protocol):
    """Who is told what a provider says of a key, and can say whether there is another one to go on with."""

    async def refused(self, lease: Lease) -> Lease | None: ...
    def cooling(self, lease: Lease, seconds: float | None) -> Lease | None: ...
    def exhausted(self, lease: Lease) -> Lease | None: ...


class Relay:
    """What all deliveries share."""

    def __init__(
        self, upstream: Upstream, breakers: Breakers, keys: Keys, *, abandoned_read_s: float, timing: Timing = REAL
    ) -> None:
        self.upstream = upstream
        self.breakers = breakers
        self.keys = keys
        self.abandoned_read_s = abandoned_read_s
        self.timing = timing
        self._policies: dict[str, RetryPolicy] = {}

    def policy(self, provider: Provider) -> RetryPolicy:
        policy = self._policies.get(provider.name)
        if policy is None:
            policy = self._policies[provider.name] = RetryPolicy.of(provider, RetryBudget(self.timing.clock))
        return policy

    def delivery(self, clearance: Clearance, exchange: Exchange) -> Delivery:
        """Raises TypeError for anything but a `Clearance`: nothing leaves without one."""
        if not isinstance(clearance, Clearance):
            raise TypeError("dispatch takes a Clearance and nothing else")
        return Delivery(self, clearance, exchange)


class Delivery:
    """One call's way out and back."""

    def __init__(self, relay: Relay, clearance: Clearance, exchange: Exchange) -> None:
        self._relay = relay
        self._clock = relay.timing.clock
        self._call = clearance.call
        self._lease = clearance.lease
        self._body = clearance.body
        self._exchange = exchange
        self._answer: Answer | None = None
        self._ending = Ending()
        self._silence = 0.0
        """Seconds that the provider has been waited for since it left, or since the last text."""
        self._used = [self._lease.secret]
        """The keys that were put on this call, and what was minted from them."""
        self._token: Secret | None = None
        """The access token minted for the last attempt."""
        self._redactor = Redactor(self._used)
        """Stands before the meter: what that reads goes into the line."""
        self._meter: JsonMeter | StreamMeter | None = None
        self._body_finished = False

    async def run(self, conclude: Conclude) -> None:
        """Send, and pass the answer on as it arrives. ``conclude`` is awaited before its last bytes are.

        Raises `Refused` (``upstream_*``, ``breaker_open``) when there is no answer or it was cut, and what the exchange
        raises.
        """
        call = self._call
        waited = self._clock()
        try:
            self._answer = await self._attempts()
            if await self._is_refused(self._answer):
                self._answer = await self._with_another_key(self._answer)
        except UpstreamError as error:
            raise Refused(error.code, error.why, error.headers) from None
        except CredentialUnavailable as error:
            # `why` is for the log, not for the workload.
            log.error("call %s: its key can't be put on (%s)", call.id, error.why)
            raise Refused("credential_unavailable", headers=(("retry-after", "5"),)) from None
        finally:
            call.waited_s += self._clock() - waited
        call.status = call.upstream_status = self._answer.status
        await self._pass_on(self._answer, conclude)

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
        if answer.status < 400:
            return None
        assert self._call.provider is not None
        keys, lease = self._relay.keys, self._lease
        verdict = await verdict_on_key(self._call.provider.family, answer)
        if verdict == "no_money":
            other = keys.exhausted(lease)
        elif answer.status == 429 and verdict != "request":
            other = keys.cooling(lease, retry_after_s(answer, self._relay.timing.wall_clock()))
        else:
            return None
        if other is None or other.secret in self._used:
            return None
        return other if self._relay.breakers.of(self._call.host, other.secret.digest).wait_s() == 0 else None

    async def _is_refused(self, answer: Answer) -> bool:
        """Whether the provider does not take our key, rather than the request."""
        assert self._call.provider is not None
        return await verdict_on_key(self._call.provider.family, answer) == "refused"

    async def _has_next_key(self, answer: Answer) -> bool:
        return await self._next_key(answer) is not None

    def _use(self, lease: Lease) -> None:
        """Go on with another key. Nothing of an answer to this one has been passed on."""
        self._lease, self._token = lease, None
        self._put_on(lease.secret)
        self._call.key_version = f"{lease.fingerprint}@{lease.version}"
        self._call.upstream_status = 0

    def _minted(self, token: Secret) -> None:
        self._token = token
        self._put_on(token)

    def _put_on(self, secret: Secret) -> None:
        """From now on an answer may repeat this one."""
        if secret not in self._used:
            self._used.append(secret)
            self._redactor = Redactor(self._used)

    async def _attempts_with_one_key(self) -> Answer:
        call = self._call
        assert call.provider is not None
        breaker = self._relay.breakers.of(call.host, self._lease.secret.digest)
        try:
            return await deliver(
                self._send_once,
                policy=self._relay.policy(call.provider),
                breaker=breaker,
                sdk_retry_count=sdk_retry_count(call.head),
                timing=self._relay.timing,
                record=self._record,
                elsewhere=self._has_next_key,
            )
        finally:
            call.breaker = breaker.state.value

    async def _with_another_key(self, answer: Answer) -> Answer:
        """The key was refused: once more with another one, if the store has it by now (a rotation loses no call). Before
        that once more with the same, if what was refused is an access token minted from it. Raises `Refused`: the workload
        can't mend our key, and a 401 would tell it that its own credential is wrong."""
        call = self._call
        call.upstream_status = answer.status
        await answer.close()
        self._answer = None
        if self._token is not None and self._relay.upstream.token_refused(self._lease, self._token):
            answer = await self._attempts()
            if not await self._is_refused(answer):
                return answer
            await answer.close()
        refused = self._lease
        lease = await self._relay.keys.refused(refused)
        if lease is not None:
            self._use(lease)
            answer = await self._attempts()
            if not await self._is_refused(answer):
                return answer
            call.upstream_status = answer.status
            await answer.close()
            # Told for the others' sake: this key, too, is counted and left alone.
            await self._relay.keys.refused(self._lease)
        raise Refused("credential_refused", f"It is the key {self._lease.fingerprint} of {call.host}.")

    async def _send_once(self) -> Answer:
        call = self._call
        assert call.provider is not None
        began = self._clock()
        answer = await self._relay.upstream.send(
            call.provider,
            call.host,
            call.head.method,
            f"{call.path}?{call.query}" if call.query else call.path,
            call.headers,
            self._body,
            self._lease,
            budget_s=call.provider.deadline_s,
            on_leaving=self._on_leaving,
            minted=self._minted,
        )
        call.in_flight = False
        self._silence = self._clock() - began
        return answer

    def _on_leaving(self) -> None:
        self._call.in_flight = True

    def _record(self, attempt: Attempt) -> None:
        call = self._call
        call.attempts.append(attempt)
        if attempt.outcome != "cancelled":
            call.in_flight = False
            call.attempts_unknown += attempt.unknown

    async def _pass_on(self, answer: Answer, conclude: Conclude) -> None:
        call, exchange = self._call, self._exchange
        headers = [(k, v) for k, v in answer.headers if k not in _NOT_PASSED_ON and not k.startswith("x-tollhouse-")]
        headers = self._redactor.headers(headers)
        headers.append(("x-tollhouse-call-id", call.id))
        if call.clamped is not None:
            headers.append(("x-tollhouse-clamped", str(call.clamped)))
        left = self._start_meter(answer)
        if left is not None:
            headers.append(("content-length", str(left)))
        if call.head.method == "HEAD" or answer.status in (204, 304) or left == 0:
            call.complete = True
            await conclude()
            exchange.start(answer.status, headers, end=True)
            return
        if left is None:
            # What streams begins with its head; a body of known length goes out with it, in one write.
            exchange.start(answer.status, headers)
        meter = self._meter
        while chunk := await self._read(answer):
            if left is not None:
                left -= len(chunk)
            out = self._edited(chunk, last=left is not None and left <= 0)
            if (left is not None and left <= 0) or (isinstance(meter, StreamMeter) and meter.done):
                # The client has its answer with this chunk and may call again at once: settled first.
                if left is not None:
                    self._finish_body()
                self._read_meter()
                call.complete, call.ended = True, ""
                await conclude()
            if not exchange.answered:
                exchange.start(answer.status, headers, out, end=left is not None and left <= 0)
                if exchange.finished:
                    return
                await exchange.send(b"")
            elif out:
                out = self._ending.cut(out)
                await exchange.send(out)
                self._ending.sent(out)
            if call.covers is not None and not call.complete and meter is not None:
                denial = await self._ending.due(call.covers, meter.output_seen)
                if denial is not None:
                    raise Refused(denial.code, denial.why, denial.headers)
        tail = self._finish_body()
        call.complete, call.ended = True, ""
        await conclude()
        if tail:
            await exchange.send(tail)
        exchange.end()

    async def _read(self, answer: Answer) -> bytes:
        """The next piece of the answer, b"" at its end. Raises `Refused` if the provider cuts it."""
        call = self._call
        waited = self._clock()
        try:
            chunk = await answer.read()
        except AnswerCut as cut:
            call.ended = "cut"
            self._finish_body()
            raise Refused(cut.code, cut.why) from None
        finally:
            now = self._clock()
            call.waited_s += now - waited
            self._silence += now - waited
        if call.first_byte is None and chunk:
            call.first_byte = now
        return chunk

    def _start_meter(self, answer: Answer) -> int | None:
        """Chooses the meter; gives the content length to pass on, None if there is none or the body will be edited."""
        call = self._call
        length = answer.get("content-length")
        left = int(length) if length is not None and length.isascii() and length.isdigit() else None
        if not 200 <= answer.status < 300 or call.endpoint is None or not call.endpoint.billable:
            return left
        if (answer.get("content-type") or "").lower().startswith("text/event-stream"):
            self._meter = StreamMeter(call.usage_injected)
            return None if call.usage_injected else left
        self._meter = JsonMeter()
        return left

    def _edited(self, chunk: bytes, *, last: bool) -> bytes:
        """What of ``chunk`` goes to the client now: without our key, without what only the meter asked for."""
        clean = self._redactor.feed(chunk)
        if last:
            clean += self._redactor.finish()
        if self._meter is None or not clean:
            return clean
        out = self._meter.feed(clean)
        if self._meter.output_seen > self._call.output_seen:
            self._call.output_seen = self._meter.output_seen
            self._end_silence()
        return out

    def _end_silence(self) -> None:
        self._call.silent_s += max(self._silence - _QUIET_S, 0.0)
        self._silence = 0.0

    def _finish_body(self) -> bytes:
        """What was still held back of the answer; b"" from the second time on."""
        tail = b""
        if not self._body_finished:
            self._body_finished = True
            tail = self._redactor.finish()
            if self._meter is not None:
                tail = (self._meter.feed(tail) if tail else b"") + self._meter.finish()
        self._read_meter()
        return tail

    def _read_meter(self) -> None:
        call, meter = self._call, self._meter
        if meter is not None:
            call.usage = meter.usage
            call.model_served = meter.model
            if meter.tier or meter.usage is not None:
                # A counted answer that names no tier was served as standard; of any other, the one asked for is believed.
                call.service_tier = meter.tier
            call.output_seen = meter.output_seen

    async def end_with(self, denial: Denial, conclude: Conclude) -> None:
        """End a stream that has begun with an error event of ours, if the client can read one where it stands; else
        nothing is sent and the answer has to be cut."""
        call = self._call
        self._finish_body()
        self._end_silence()
        call.denial, call.gate = denial, "budget"
        await conclude()
        if self._ending.between_events and isinstance(self._meter, StreamMeter) and call.provider is not None:
            await self._exchange.send(error_event(denial, call.provider.family, call.id))
            self._exchange.end()

    async def read_on(self) -> None:
        """The client has gone: read the answer to its end for a bounded time, for the true count. Raises nothing."""
        answer, call = self._answer, self._call
        if answer is None or call.complete or self._meter is None:
            return
        self._end_silence()
        try:
            async with asyncio.timeout(self._relay.abandoned_read_s):
                while chunk := await answer.read():
                    self._edited(chunk, last=False)
                    if isinstance(self._meter, StreamMeter) and self._meter.done:
                        break
            call.complete = True
        except (TimeoutError, AnswerCut):
            pass
        except Exception:
            log.exception("call %s: its answer could not be read on", call.id)

    async def close(self) -> None:
        """Let go of the answer, however it ended; what was seen of it is on the call then."""
        try:
            self._finish_body()
        finally:
            if self._answer is not None:
                await self._answer.close()
