"""A cleared call's way out and its answer's way back, with the provider played by the answers it gives.

It is long because a delivery can end in so many ways, each with a test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.dispatch.clock import Clock
from tests.support.wire import FakeWire, a_head, an_exchange

from tollhouse.call import Call, Usage
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.secret import Secret
from tollhouse.demo.standin_answers import chat_frames, chat_json, chat_usage
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.attempts import REAL, Timing
from tollhouse.dispatch.breaker import Breakers
from tollhouse.dispatch.relay import Delivery, Relay
from tollhouse.listen.exchange import ClientGone, Exchange, Stopped
from tollhouse.providers.openai import OPENAI

REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
JSON = chat_json(REQUEST)
USAGE = Usage(input=chat_usage(REQUEST)["prompt_tokens"], output=chat_usage(REQUEST)["completion_tokens"])
PLAIN_STREAM = list(chat_frames({**REQUEST, "stream": True}))
COUNTED_STREAM = list(chat_frames({**REQUEST, "stream": True, "stream_options": {"include_usage": True}}))
SSE = [("content-type", "text/event-stream; charset=utf-8")]
OF_JSON = [("content-type", "application/json")]


def lease(name: str, version: str = "1") -> Lease:
    secret = Secret(f"sk-{name}")
    return Lease(secret, version, secret.fingerprint, "infrastructure/openai")


OLD, NEW = lease("old"), lease("new", "2")


def an_answer(
    status: int, headers: Sequence[tuple[str, str]], pieces: Sequence[bytes | Exception], closed: list[int]
) -> Answer:
    """An answer that gives its pieces one by one, then ends; an exception among them is raised."""
    left = [*pieces, b""]

    async def read() -> bytes:
        piece = left.pop(0) if left else b""
        if isinstance(piece, Exception):
            raise piece
        if piece == b"wait for ever":
            await asyncio.get_running_loop().create_future()
        return piece

    return Answer(status, list(headers), read, lambda: closed.append(status))


class Provider:
    """What each attempt gets, in order, and what was seen of it."""

    def __init__(self, *outcomes: tuple[int, Sequence[tuple[str, str]], Sequence[bytes | Exception]] | Exception):
        self._outcomes = list(outcomes)
        self.secrets: list[Secret] = []
        self.mints: Secret | None = None
        """Put on beside the lease's own."""
        self.closed: list[int] = []

    async def send(
        self, *arguments: Any, budget_s: float, on_leaving: Callable[[], None], minted: Callable[[Secret], None]
    ) -> Answer:
        if self.mints is not None:
            minted(self.mints)
        on_leaving()
        self.secrets.append(arguments[-1].secret)
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return an_answer(*outcome, self.closed)


class Keys:
    """``others`` are given one after the other to calls that can't go on with the key they have."""

    def __init__(self, other: Lease | None, others: Sequence[Lease] = ()) -> None:
        self.other = other
        self.others = others
        self.refusals: list[Lease] = []
        self.told: dict[str, tuple[str, float | None]] = {}

    async def refused(self, lease: Lease) -> Lease | None:
        self.refusals.append(lease)
        return self.other

    def cooling(self, lease: Lease, seconds: float | None) -> Lease | None:
        self.told[lease.fingerprint] = ("cooling", seconds)
        return self._next()

    def exhausted(self, lease: Lease) -> Lease | None:
        self.told[lease.fingerprint] = ("exhausted", None)
        return self._next()

    def _next(self) -> Lease | None:
        return next((lease for lease in self.others if lease.fingerprint not in self.told), None)


class Trip:
    """One delivery, and the moment at which it was concluded."""

    def __init__(
        self,
        provider: Provider,
        *,
        keys: Keys | None = None,
        read_on_s: float = 60,
        attempts: int = 3,
        timing: Timing = REAL,
        **call: Any,
    ) -> None:
        self.provider = provider
        self.keys = keys or Keys(None)
        self.call = Call.begin(a_head(headers=call.pop("headers", ())))
        self.call.provider = replace(OPENAI, attempts=attempts)
        self.call.host, self.call.path = "api.openai.com", "/v1/chat/completions"
        self.call.endpoint = OPENAI.endpoint("POST", "/v1/chat/completions")
        for name, value in call.items():
            setattr(self.call, name, value)
        self.exchange: Exchange
        self.wire: FakeWire
        self.exchange, self.wire = an_exchange(self.call.head)
        self.breakers = Breakers(lambda: 0.0)
        relay = Relay(provider, self.breakers, self.keys, abandoned_read_s=read_on_s, timing=timing)  # type: ignore[arg-type]
        self.delivery: Delivery = relay.delivery(Clearance(self.call, OLD, b"{}"), self.exchange)
        self.before: bytes | None = None
        """What the client had at the first conclusion; None if there was none."""
        self.head_before = False
        self.usage_before: Usage | None = None

    async def conclude(self) -> None:
        if self.before is None:
            self.before, self.head_before = self.wire.body, bool(self.wire.status)
            assert not self.wire.ends
            assert self.call.complete
            self.usage_before = self.call.usage

    async def run(self) -> Trip:
        async with self.exchange.interruptible():
            await self.delivery.run(self.conclude)
        await self.delivery.close()
        return self

    def begin(self) -> asyncio.Future[Trip]:
        return asyncio.ensure_future(self.run())


def with_length(body: bytes) -> list[tuple[str, str]]:
    return [*OF_JSON, ("content-length", str(len(body)))]


# Settled before the client has all of its answer.


@pytest.mark.parametrize("cuts", [(), (10,), (10, 20)], ids=["one piece", "two", "three"])
async def test_a_body_of_known_length(cuts: tuple[int, ...]) -> None:
    """Concluded before the last piece goes out, with its usage known; the length is passed on."""
    pieces = [JSON[a:b] for a, b in zip((0, *cuts), (*cuts, len(JSON)), strict=True)]
    trip = await Trip(Provider((200, with_length(JSON), pieces))).run()
    assert trip.before == b"".join(pieces[:-1])
    assert trip.head_before is bool(cuts)
    assert trip.usage_before == USAGE
    assert (trip.wire.status, trip.wire.body, trip.wire.ends, trip.wire.cut) == (200, JSON, 1, False)
    assert trip.wire.headers["content-length"] == str(len(JSON))


async def test_a_body_of_unknown_length() -> None:
    """Concluded before its end is said."""
    trip = await Trip(Provider((200, OF_JSON, [JSON[:50], JSON[50:]]))).run()
    assert (trip.before, trip.usage_before) == (JSON, USAGE)
    assert (trip.wire.body, trip.wire.ends, trip.wire.cut) == (JSON, 1, False)
    assert "content-length" not in trip.wire.headers


@pytest.mark.parametrize("injected", [False, True], ids=["asked for by the client", "injected"])
async def test_a_stream(injected: bool) -> None:
    """Concluded before `[DONE]` goes out; what was only asked for by us is taken out again."""
    trip = await Trip(Provider((200, SSE, COUNTED_STREAM)), usage_injected=injected).run()
    wanted = PLAIN_STREAM if injected else COUNTED_STREAM
    assert wanted[-1] == b"data: [DONE]\n\n"
    assert trip.before == b"".join(wanted[:-1])
    assert trip.usage_before == USAGE
    assert trip.wire.pieces == wanted, "each frame by itself"
    assert (trip.wire.ends, trip.wire.cut) == (1, False)


async def test_a_stream_without_done() -> None:
    """Concluded before its end."""
    trip = await Trip(Provider((200, SSE, COUNTED_STREAM[:-1]))).run()
    assert (trip.before, trip.usage_before) == (b"".join(COUNTED_STREAM[:-1]), USAGE)
    assert trip.wire.ends == 1


async def test_the_end_of_a_stream_that_was_held_back() -> None:
    """A frame that never ended is passed on all the same, behind the settling."""
    trip = await Trip(Provider((200, SSE, [b'data: {"choices":[]'])), usage_injected=True).run()
    assert trip.before == b""
    assert trip.wire.body == b'data: {"choices":[]'


async def test_a_stream_of_known_length() -> None:
    """The length goes on as it is if no byte is changed, and is left out if some are."""
    body = b"".join(COUNTED_STREAM)
    headers = [*SSE, ("content-length", str(len(body)))]
    trip = await Trip(Provider((200, headers, [body]))).run()
    assert (trip.wire.headers["content-length"], trip.wire.body) == (str(len(body)), body)
    trip = await Trip(Provider((200, headers, [body])), usage_injected=True).run()
    assert "content-length" not in trip.wire.headers
    assert trip.wire.body == b"".join(PLAIN_STREAM)


@pytest.mark.parametrize(("status", "headers"), [(204, []), (200, [("content-length", "0")])])
async def test_no_body(status: int, headers: list[tuple[str, str]]) -> None:
    """Concluded before the head."""
    trip = await Trip(Provider((status, headers, []))).run()
    assert (trip.before, trip.head_before, trip.wire.status, trip.wire.ends) == (b"", False, status, 1)


async def test_an_error_is_passed_on() -> None:
    """Byte for byte, unread."""
    body = b'{"error":{"message":"no","type":"t","param":null,"code":"c"},"usage":{"prompt_tokens":5}}'
    trip = await Trip(Provider((400, with_length(body), [body]))).run()
    assert (trip.wire.status, trip.wire.body) == (400, body)
    assert (trip.call.status, trip.call.upstream_status, trip.call.usage) == (400, 400, None)


# What a workload that leaves has had.


async def test_a_silence_is_counted() -> None:
    """The time without text, but for its first second, up to the text that ends it or to the client's leaving."""
    first = asyncio.Event()
    clock = Clock()
    pieces = [COUNTED_STREAM[0], COUNTED_STREAM[1], b"wait for ever"]
    trip = Trip(Provider((200, SSE, pieces)), read_on_s=0, timing=Timing(clock))
    feed = trip.delivery._edited

    def edited(chunk: bytes, *, last: bool) -> bytes:
        trip.delivery._silence += 11.0
        first.set()
        return feed(chunk, last=last)

    trip.delivery._edited = edited  # type: ignore[method-assign]
    running = trip.begin()
    await first.wait()
    await asyncio.sleep(0)
    trip.exchange.lose("gone")
    with pytest.raises(ClientGone):
        await running
    assert trip.call.output_seen > 0
    # Two pieces, of which the second has text.
    assert trip.call.silent_s == 21.0
    trip.delivery._silence += 11.0
    await trip.delivery.read_on()
    assert trip.call.silent_s == 31.0


# Headers.


async def test_headers() -> None:
    """What belongs to the provider's own state or connection stays; the call id is ours."""
    headers = [
        ("content-type", "application/json"),
        ("x-request-id", "req_1"),
        ("openai-processing-ms", "12"),
        ("alt-svc", 'h3=":443"'),
        ("set-cookie", "__cf_bm=1"),
        ("set-cookie2", "a=b"),
        ("trailer", "x"),
        ("x-tollhouse-reason", "budget_exceeded"),
        ("x-tollhouse-call-id", "call_theirs"),
    ]
    trip = await Trip(Provider((200, headers, [JSON]))).run()
    assert trip.wire.headers == {
        "content-type": "application/json",
        "x-request-id": "req_1",
        "openai-processing-ms": "12",
        "x-tollhouse-call-id": trip.call.id,
    }


async def test_a_content_type_in_any_case() -> None:
    """Media types have none, RFC 9110 8.3.1."""
    answer = (200, [("content-type", "Text/Event-Stream")], COUNTED_STREAM)
    trip = await Trip(Provider(answer), usage_injected=True).run()
    assert (trip.wire.body, trip.call.usage) == (b"".join(PLAIN_STREAM), USAGE)


@pytest.mark.parametrize(
    ("body", "tier"),
    [({"usage": {"prompt_tokens": 1}, "service_tier": "default"}, "default"), ({"usage": {"prompt_tokens": 1}}, "")],
)
async def test_the_tier_that_was_served(body: dict[str, Any], tier: str) -> None:
    """Counted without one is standard, whatever was asked for."""
    data = json.dumps({"model": "gpt-4o-2024-08-06", **body}).encode()
    trip = await Trip(Provider((200, with_length(data), [data])), service_tier="flex", model="gpt-4o").run()
    assert (trip.call.service_tier, trip.call.model_served) == (tier, "gpt-4o-2024-08-06")


# A key that is refused.

UNAUTHORIZED = (401, OF_JSON, [b'{"error":{}}'])


async def test_a_key_that_was_rotated() -> None:
    """The store has another one: once more, and the client never knows."""
    provider = Provider(UNAUTHORIZED, (200, with_length(JSON), [JSON]))
    trip = await Trip(provider, keys=Keys(NEW)).run()
    assert (trip.wire.status, trip.wire.body) == (200, JSON)
    assert [secret.fingerprint for secret in provider.secrets] == [OLD.fingerprint, NEW.fingerprint]
    assert trip.call.key_version == f"{NEW.fingerprint}@2"
    assert [attempt.outcome for attempt in trip.call.attempts] == ["401", "200"]
    assert provider.closed[0] == 401, "the first answer's connection was let go"
    assert trip.keys.refusals == [OLD]


@pytest.mark.parametrize("other", [None, NEW], ids=["no other key", "the other is refused too"])
async def test_a_key_that_stays_refused(other: Lease | None) -> None:
    """502 of ours: a 401 would tell the workload that its own token is wrong."""
    trip = Trip(Provider(UNAUTHORIZED, UNAUTHORIZED), keys=Keys(other))
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert refused.value.denial.code == "credential_refused"
    assert (other or OLD).fingerprint in refused.value.denial.why
    assert (trip.wire.status, trip.call.upstream_status, trip.before) == (0, 401, None)
    tried = [OLD] if other is None else [OLD, other]
    assert [secret.fingerprint for secret in trip.provider.secrets] == [lease.fingerprint for lease in tried]
    assert trip.keys.refusals == tried, "each is counted, and left alone by the others"


# A key that has had enough, with others beside it in the secret.

TOO_MANY = (429, [*OF_JSON, ("retry-after", "7")], [b'{"error":{"code":"rate_limit_exceeded"}}'])
NO_MONEY = b'{"error":{"code":"insufficient_quota"}}'
HARD_LIMIT = b'{"error":{"type":"invalid_request_error","code":"billing_hard_limit_reached"}}'
ANSWER = (200, with_length(JSON), [JSON])


async def test_a_key_over_its_rate_limit() -> None:
    """The next key is tried at once, an SDK that retries itself or not; the cool-down is what the provider said."""
    for retries in ("0", "1"):
        keys = Keys(None, others=[OLD, NEW])
        provider = Provider(TOO_MANY, ANSWER)
        trip = await Trip(provider, keys=keys, headers=[("x-stainless-retry-count", retries)]).run()
        assert (trip.wire.status, trip.wire.body) == (200, JSON)
        assert [secret.fingerprint for secret in provider.secrets] == [OLD.fingerprint, NEW.fingerprint]
        assert keys.told == {OLD.fingerprint: ("cooling", 7.0)}
        assert [attempt.outcome for attempt in trip.call.attempts] == ["429", "200"]
        assert trip.call.key_version == f"{NEW.fingerprint}@2"
        assert provider.closed[0] == 429, "the first answer's connection was let go"


@pytest.mark.parametrize(
    ("status", "body"), [(429, NO_MONEY), (402, b"no JSON at all"), (400, HARD_LIMIT)], ids=["429", "402", "400"]
)
async def test_an_account_that_is_empty(status: int, body: bytes) -> None:
    """Said in any of the three ways it marks the key and leads to the next."""
    keys = Keys(None, others=[NEW])
    trip = await Trip(Provider((status, OF_JSON, [body]), ANSWER), keys=keys).run()
    assert (trip.wire.status, keys.told) == (200, {OLD.fingerprint: ("exhausted", None)})


@pytest.mark.parametrize(
    ("status", "body"), [(429, NO_MONEY), (402, b"{}"), (400, HARD_LIMIT), (400, b'{"error":{"code":"bad"}}')]
)
async def test_no_key_to_go_on_with(status: int, body: bytes) -> None:
    """The provider's answer is the client's, whole."""
    trip = await Trip(Provider((status, OF_JSON, [body[:9], body[9:]]))).run()
    assert (trip.wire.status, trip.wire.body) == (status, body)
    assert len(trip.call.attempts) == 1


async def test_a_key_refused_after_one_over_its_limit() -> None:
    """The one that was refused last is told of, not the one that its secret gave first."""
    third = lease("third")
    keys = Keys(NEW, others=[third])
    trip = Trip(Provider(UNAUTHORIZED, TOO_MANY, UNAUTHORIZED), keys=keys)
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert third.fingerprint in refused.value.denial.why
    assert (keys.refusals, list(keys.told)) == ([OLD, third], [NEW.fingerprint])


async def test_each_key_is_tried_once() -> None:
    """However the keys are given: a call does not go round and round. The last answer is the client's."""

    class Round(Keys):
        def _next(self) -> Lease | None:
            return NEW if list(self.told) == [OLD.fingerprint] else OLD

    limited = (429, [*OF_JSON, ("x-should-retry", "false")], [b'{"error":{"code":"rate_limit_exceeded"}}'])
    provider = Provider(limited, limited)
    trip = await Trip(provider, keys=Round(None)).run()
    assert (trip.wire.status, len(provider.secrets)) == (429, 2)


async def test_the_next_key_is_not_tried_while_its_breaker_is_open() -> None:
    """Its provider has been failing for it: the first key's answer is given, not a refusal of ours."""
    trip = Trip(Provider((402, OF_JSON, [b"{}"])), keys=Keys(None, others=[NEW]))
    breaker = trip.breakers.of("api.openai.com", NEW.secret.digest)
    for _ in range(10):
        breaker.enter()
        breaker.failure()
    await trip.run()
    assert trip.wire.status == 402


async def test_every_key_that_was_put_on_the_call_is_redacted() -> None:
    """The answer to the second key may repeat the first one."""
    first, second = lease("first-0123456789"), lease("second-0123456789")
    body = f'{{"a":"{first.secret.reveal()}","b":"{second.secret.reveal()}"}}'.encode()
    trip = Trip(Provider(UNAUTHORIZED, (200, with_length(body), [body])), keys=Keys(second))
    trip.delivery = trip.delivery._relay.delivery(Clearance(trip.call, first, b"{}"), trip.exchange)
    await trip.run()
    assert trip.wire.body == b'{"a":"[redacted by tollho","b":"[redacted by tollhou"}'


async def test_what_was_minted_is_redacted() -> None:
    """An access token that the answer repeats is taken out, though the lease does not hold it."""
    token = Secret("ya29.minted-0123456789")
    body = f'{{"a":"{token.reveal()}"}}'.encode()
    provider = Provider((200, with_length(body), [body]))
    provider.mints = token
    trip = Trip(provider)
    account = Lease(Secret('{"private_key":"..."}', ()), "1", "0a0a0a0a", "infrastructure/vertex", "google")
    trip.delivery = trip.delivery._relay.delivery(Clearance(trip.call, account, b"{}"), trip.exchange)
    await trip.run()
    assert trip.wire.body == b'{"a":"[redacted by tollhouse"}'


async def test_a_key_that_cannot_be_put_on() -> None:
    """No access token, or a secret of another kind: 503, nothing is charged or tried again, and the reason stays here."""
    trip = Trip(Provider(CredentialUnavailable("HUSH says Google.")))
    with pytest.raises(Refused) as refused:
        await trip.run()
    denial = refused.value.denial
    assert (denial.code, denial.why, denial.headers) == ("credential_unavailable", "", (("retry-after", "5"),))
    assert [attempt.outcome for attempt in trip.call.attempts] == ["credential_unavailable"]
    assert (trip.call.attempts_unknown, trip.call.upstream_status, trip.wire.status) == (0, 0, 0)


@pytest.mark.parametrize(
    ("family", "status", "headers", "body"),
    [
        ("google", 400, OF_JSON, b'{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}'),
        ("bedrock", 403, [("x-amzn-errortype", "ExpiredTokenException:http://x/")], b'{"message":"expired"}'),
        ("cohere", 498, OF_JSON, b'{"message":"invalid token"}'),
    ],
)
async def test_a_refusal_in_the_family_s_own_words(family: str, status: int, headers: Any, body: bytes) -> None:
    """It leads to another key as a 401 does; and to 502 when there is none."""
    refusal = (status, headers, [body])
    trip = Trip(Provider(refusal, ANSWER), keys=Keys(NEW))
    trip.call.provider = replace(OPENAI, family=family)
    await trip.run()
    assert (trip.wire.status, trip.keys.refusals) == (200, [OLD])
    trip = Trip(Provider(refusal))
    trip.call.provider = replace(OPENAI, family=family)
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert refused.value.denial.code == "credential_refused"


# No answer, and answers that break off.


async def test_the_last_of_our_attempts() -> None:
    """Its error is the refusal, and the SDK is told to stop: 3 times 3 never happens."""
    lost = [UpstreamError("upstream_unreachable", "It closed the connection.", "maybe") for _ in range(3)]
    clock = Clock()
    trip = Trip(Provider(*lost), timing=Timing(clock, sleep=clock.sleep))
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert refused.value.denial.code == "upstream_unreachable"
    assert ("x-should-retry", "false") in refused.value.denial.headers
    assert (trip.call.attempts_unknown, trip.call.in_flight, trip.call.upstream_status) == (3, False, 0)
    assert (trip.call.breaker, trip.before) == ("closed", None)


async def test_an_sdk_that_retries_itself() -> None:
    """One attempt only."""
    error = UpstreamError("upstream_timeout", "No answer in time.", "maybe")
    trip = Trip(Provider(error), headers=[("x-stainless-retry-count", "1")])
    with pytest.raises(Refused):
        await trip.run()
    assert len(trip.call.attempts) == 1


async def test_an_open_breaker() -> None:
    """No attempt is made, and the line can say why."""
    trip = Trip(Provider())
    breaker = trip.breakers.of("api.openai.com", OLD.secret.digest)
    for _ in range(10):
        breaker.enter()
        breaker.failure()
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert refused.value.denial.code == "breaker_open"
    assert (trip.call.breaker, trip.call.attempts, trip.call.in_flight) == ("open", [], False)


CUT = AnswerCut("upstream_bad_answer", "It broke off its answer.")


async def test_a_stream_that_is_cut() -> None:
    """The refusal for the line; what was seen of it is on the call; nothing concluded yet."""
    trip = Trip(Provider((200, SSE, [*COUNTED_STREAM[:4], CUT])), usage_injected=True)
    with pytest.raises(Refused) as refused:
        await trip.run()
    assert refused.value.denial.code == "upstream_bad_answer"
    assert (trip.call.ended, trip.call.complete, trip.call.usage, trip.before) == ("cut", False, None, None)
    assert trip.call.output_seen == 3
    assert trip.call.model_served == "gpt-4o-2024-08-06"
    assert trip.wire.body == b"".join(PLAIN_STREAM[:4])


async def test_a_stream_that_is_cut_behind_its_count() -> None:
    """The count is believed."""
    trip = Trip(Provider((200, SSE, [*COUNTED_STREAM[:-1], CUT])))
    with pytest.raises(Refused):
        await trip.run()
    assert trip.call.usage == USAGE


async def test_a_body_that_is_cut_before_its_first_byte() -> None:
    """A body of known length goes out with its head, so the client can still be told in so many words."""
    trip = Trip(Provider((200, with_length(JSON), [CUT])))
    with pytest.raises(Refused):
        await trip.run()
    assert (trip.call.ended, trip.exchange.answered) == ("cut", False)


# Interrupted.


async def interrupted(trip: Trip, *, after: int) -> asyncio.Future[Trip]:
    """The delivery, once the client has ``after`` pieces."""
    task = trip.begin()
    for _ in range(1_000):
        if len(trip.wire.pieces) >= after:
            break
        await asyncio.sleep(0)
    assert len(trip.wire.pieces) == after
    return task


async def test_a_stop_in_a_stream() -> None:
    """What was seen is on the call once the delivery is closed."""
    trip = Trip(Provider((200, SSE, [*COUNTED_STREAM[:4], b"wait for ever"])), usage_injected=True)
    task = await interrupted(trip, after=4)
    trip.exchange.stop("stopping")
    with pytest.raises(Stopped):
        await task
    await trip.delivery.close()
    assert (trip.call.output_seen, trip.call.usage, trip.call.complete) == (3, None, False)
    assert trip.provider.closed == [200]


@pytest.mark.parametrize("left", [True, False], ids=["under way", "connecting"])
async def test_a_stop_in_an_attempt(left: bool) -> None:
    """It stays in flight if the request had left: the provider may be at work."""

    class Silent(Provider):
        async def send(self, *arguments: Any, budget_s: float, on_leaving: Callable[[], None], **_: Any) -> Answer:
            if left:
                on_leaving()
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    trip = Trip(Silent())
    task = trip.begin()
    await asyncio.sleep(0)
    trip.exchange.stop("stopping")
    with pytest.raises(Stopped):
        await task
    assert (trip.call.in_flight, trip.call.upstream_status) == (left, 0)
    assert [attempt.outcome for attempt in trip.call.attempts] == ["cancelled"]


async def test_a_stop_between_attempts() -> None:
    """Nothing is in flight then, and what came before is on the call."""
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    trip = Trip(Provider((500, OF_JSON, [b"{}"])), timing=Timing(sleep=sleep))
    task = trip.begin()
    await asleep.wait()
    trip.exchange.stop("stopping")
    with pytest.raises(Stopped):
        await task
    assert (trip.call.in_flight, [attempt.outcome for attempt in trip.call.attempts]) == (False, ["500"])
    assert set(trip.provider.closed) == {500}


async def gone(trip: Trip, *, after: int) -> Trip:
    task = await interrupted(trip, after=after)
    trip.exchange.lose("reset")
    with pytest.raises(ClientGone):
        await task
    return trip


class Later:
    """Pieces of an answer that come when the client has gone."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)

    def behind(self, first: Sequence[bytes], headers: Sequence[tuple[str, str]] = SSE) -> Provider:
        later = self
        left: list[bytes] = list(first)
        going = asyncio.Event()
        self.go = going.set

        class Slow(Provider):
            async def send(self, *arguments: Any, budget_s: float, on_leaving: Callable[[], None], **_: Any) -> Answer:
                on_leaving()

                async def read() -> bytes:
                    if left:
                        return left.pop(0)
                    await going.wait()
                    if not later.pieces:
                        return b""
                    piece = later.pieces.pop(0)
                    if isinstance(piece, Exception):
                        raise piece
                    if piece == b"wait for ever":
                        await asyncio.get_running_loop().create_future()
                    return piece

                return Answer(200, list(headers), read, lambda: self.closed.append(200))

        return Slow()


async def test_reading_on_to_the_count() -> None:
    """To `[DONE]`, without waiting for the end behind it."""
    later = Later(*COUNTED_STREAM[4:], b"wait for ever")
    trip = await gone(Trip(later.behind(COUNTED_STREAM[:4])), after=4)
    later.go()
    await trip.delivery.read_on()
    await trip.delivery.close()
    assert (trip.call.usage, trip.call.complete) == (USAGE, True)
    assert len(trip.wire.pieces) == 4


async def test_reading_a_body_on_to_its_end() -> None:
    """Its count is at its end."""
    later = Later(JSON[50:])
    trip = await gone(Trip(later.behind([JSON[:50]], OF_JSON)), after=1)
    later.go()
    await trip.delivery.read_on()
    await trip.delivery.close()
    assert (trip.call.usage, trip.call.complete) == (USAGE, True)


@pytest.mark.parametrize("piece", [b"wait for ever", CUT, RuntimeError("injected")], ids=["silent", "cut", "a fault"])
async def test_reading_on_in_vain(piece: bytes | Exception) -> None:
    """It raises nothing, and what was seen is on the call."""
    later = Later(COUNTED_STREAM[4], piece)
    trip = await gone(Trip(later.behind(COUNTED_STREAM[:4]), read_on_s=0.05), after=4)
    later.go()
    await trip.delivery.read_on()
    await trip.delivery.close()
    assert (trip.call.usage, trip.call.complete) == (None, False)
    assert trip.call.output_seen >= 4, "the frame that came when the client had gone counts"
    assert trip.provider.closed == [200]


async def test_nothing_is_read_on_for_nothing() -> None:
    """No answer yet, one that costs nothing, or a call that is settled: it returns at once."""
    trip = Trip(Provider())
    await trip.delivery.read_on()
    later = Later(b"wait for ever")
    models = OPENAI.endpoint("GET", "/v1/models")
    trip = await gone(Trip(later.behind([b"{"], OF_JSON), endpoint=models), after=1)
    later.go()
    await trip.delivery.read_on()
    trip = await gone(Trip(Later().behind(COUNTED_STREAM)), after=len(COUNTED_STREAM))
    assert trip.before is not None
    await trip.delivery.read_on()
