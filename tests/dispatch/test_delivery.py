"""A cleared call's way out, with the provider played by the answers it gives: keys, attempts, and what is known of a call that
never had an answer.

It is long because a call can go out in so many ways, each with a test.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.dispatch.families import FAMILIES
from tests.dispatch.played import (
    JSON,
    NEW,
    NO_HEAD,
    OF_JSON,
    OLD,
    WAIT,
    Given,
    Keys,
    Provider,
    Trip,
    asked_for,
    opened,
    with_length,
)
from tests.support.calls import lease
from tests.support.clock import Clock

from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.secret import Secret
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.attempts import Timing
from tollhouse.dispatch.breaker import Breakers
from tollhouse.outcome import End

UNAUTHORIZED: Given = (401, OF_JSON, [b'{"error":{}}'])
TOO_MANY: Given = (
    429,
    [*OF_JSON, ("retry-after", "7")],
    [b'{"error":{"code":"rate_limit_exceeded"}}'],
)
NO_MONEY = b'{"error":{"code":"insufficient_quota"}}'
HARD_LIMIT = b'{"error":{"type":"invalid_request_error","code":"billing_hard_limit_reached"}}'
ANSWER: Given = (200, with_length(JSON), [JSON])


async def refusal(trip: Trip) -> Refused:
    with pytest.raises(Refused) as refused:
        await trip.run()
    await trip.delivery.close()
    return refused.value


# A key that is refused.


async def test_a_key_that_was_rotated() -> None:
    """The store has another one: once more, and the client never knows."""
    provider = Provider(UNAUTHORIZED, ANSWER)
    trip = await Trip(provider, keys=Keys(NEW)).run()
    assert (trip.status, trip.body) == (200, JSON)
    assert [secret.fingerprint for secret in provider.secrets] == [OLD.fingerprint, NEW.fingerprint]
    assert trip.outcome().key_version == f"{NEW.fingerprint}@2"
    assert trip.made == ["401", "200"]
    assert provider.closed[0] == 401, "the first answer's connection was let go"
    assert trip.keys.refusals == [OLD]


@pytest.mark.parametrize("other", [None, NEW], ids=["no other key", "the other is refused too"])
async def test_a_key_that_stays_refused(other: Lease | None) -> None:
    """502 of ours: a 401 would tell the workload that its own token is wrong."""
    trip = Trip(Provider(UNAUTHORIZED, UNAUTHORIZED), keys=Keys(other))
    denial = (await refusal(trip)).denial
    assert denial.code == "credential_refused"
    assert (other or OLD).fingerprint in denial.why
    outcome = trip.outcome()
    assert (trip.delivery.answering, outcome.status, outcome.end) == (None, 401, End.ERROR)
    tried = [OLD] if other is None else [OLD, other]
    assert [secret.fingerprint for secret in trip.provider.secrets] == [
        lease.fingerprint for lease in tried
    ]
    assert trip.keys.refusals == tried, "each is counted, and left alone by the others"


# A key that has had enough, with others beside it in the secret.


async def test_a_key_over_its_rate_limit() -> None:
    """The next key is tried at once; the cool-down is what the provider said."""
    keys = Keys(None, others=[OLD, NEW])
    provider = Provider(TOO_MANY, ANSWER)
    trip = await Trip(provider, asked_for(), keys=keys).run()
    assert (trip.status, trip.body) == (200, JSON)
    assert [secret.fingerprint for secret in provider.secrets] == [OLD.fingerprint, NEW.fingerprint]
    assert keys.told == {OLD.fingerprint: ("cooling", 7.0)}
    assert trip.made == ["429", "200"]
    assert trip.outcome().key_version == f"{NEW.fingerprint}@2"
    assert provider.closed[0] == 429, "the first answer's connection was let go"


async def test_a_key_over_its_rate_limit_while_the_sdk_retries() -> None:
    """One attempt only. The key is left alone, so that the next one of the SDK has another."""
    keys = Keys(None, others=[OLD, NEW])
    provider = Provider(TOO_MANY)
    trip = await Trip(
        provider, asked_for(headers=[("x-stainless-retry-count", "1")]), keys=keys
    ).run()
    assert (trip.status, trip.made) == (429, ["429"])
    assert keys.told == {OLD.fingerprint: ("cooling", 7.0)}


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, NO_MONEY), (402, b"no JSON at all"), (400, HARD_LIMIT)],
    ids=["429", "402", "400"],
)
async def test_an_account_that_is_empty(status: int, body: bytes) -> None:
    """Said in any of the three ways it marks the key and leads to the next."""
    keys = Keys(None, others=[NEW])
    trip = await Trip(Provider((status, OF_JSON, [body]), ANSWER), keys=keys).run()
    assert (trip.status, keys.told) == (200, {OLD.fingerprint: ("exhausted", None)})


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, NO_MONEY), (402, b"{}"), (400, HARD_LIMIT), (400, b'{"error":{"code":"bad"}}')],
)
async def test_no_key_to_go_on_with(status: int, body: bytes) -> None:
    """The provider's answer is the client's, whole."""
    trip = await Trip(Provider((status, OF_JSON, [body[:9], body[9:]]))).run()
    assert (trip.status, trip.body) == (status, body)
    assert len(trip.attempts) == 1


async def test_a_key_refused_after_one_over_its_limit() -> None:
    """The one that was refused last is told of, not the one that its secret gave first."""
    third = lease("sk-third")
    keys = Keys(NEW, others=[third])
    trip = Trip(Provider(UNAUTHORIZED, TOO_MANY, UNAUTHORIZED), keys=keys)
    assert third.fingerprint in (await refusal(trip)).denial.why
    assert (keys.refusals, list(keys.told)) == ([OLD, third], [NEW.fingerprint])


async def test_each_key_is_tried_once() -> None:
    """However the keys are given: a call does not go round and round. The last answer is the client's."""

    class Round(Keys):
        def next(self) -> Lease | None:
            return NEW if list(self.told) == [OLD.fingerprint] else OLD

    limited: Given = (
        429,
        [*OF_JSON, ("x-should-retry", "false")],
        [b'{"error":{"code":"rate_limit_exceeded"}}'],
    )
    provider = Provider(limited, limited)
    trip = await Trip(provider, keys=Round(None)).run()
    assert (trip.status, len(provider.secrets)) == (429, 2)


async def test_the_next_key_is_not_tried_while_its_breaker_is_open() -> None:
    """Its provider has been failing for it: the first key's answer is given, not a refusal of ours."""
    provider = Provider((402, OF_JSON, [b"{}"]))
    breakers = opened(Breakers(lambda: 0.0), NEW)
    trip = await Trip(provider, keys=Keys(None, others=[NEW]), breakers=breakers).run()
    assert trip.status == 402


async def test_every_key_that_was_put_on_the_call_is_redacted() -> None:
    """The answer to the second key may repeat the first one."""
    first, second = lease("sk-first-0123456789"), lease("sk-second-0123456789")
    body = f'{{"a":"{first.secret.reveal()}","b":"{second.secret.reveal()}"}}'.encode()
    provider = Provider(UNAUTHORIZED, (200, with_length(body), [body]))
    trip = await Trip(provider, keys=Keys(second), lease=first).run()
    assert trip.body == b'{"a":"[redacted by tollho","b":"[redacted by tollhou"}'


async def test_what_was_minted_is_redacted() -> None:
    """An access token that the answer repeats is taken out, though the lease does not hold it."""
    token = Secret("ya29.minted-0123456789")
    body = f'{{"a":"{token.reveal()}"}}'.encode()
    provider = Provider((200, with_length(body), [body]))
    provider.mints = token
    account = lease(
        secret=Secret('{"private_key":"..."}', ()), path="infrastructure/vertex", kind="google"
    )
    trip = await Trip(provider, lease=account).run()
    assert trip.body == b'{"a":"[redacted by tollhouse"}'


async def test_a_key_that_cannot_be_put_on() -> None:
    """No access token, or a secret of another kind: 503, nothing is charged or tried again, and the reason stays here."""
    trip = Trip(Provider(CredentialUnavailable("HUSH says Google.")))
    denial = (await refusal(trip)).denial
    assert (denial.code, denial.why, denial.headers) == (
        "credential_unavailable",
        "",
        (("retry-after", "5"),),
    )
    assert trip.made == ["credential_unavailable"]
    outcome = trip.outcome()
    assert (outcome.attempts_unknown, outcome.status, outcome.end) == (0, 0, End.NEVER_LEFT)


@pytest.mark.parametrize(
    ("family", "status", "headers", "body"),
    [
        (
            "google",
            400,
            OF_JSON,
            b'{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}',
        ),
        (
            "bedrock",
            403,
            [("x-amzn-errortype", "ExpiredTokenException:http://x/")],
            b'{"message":"expired"}',
        ),
        ("cohere", 498, OF_JSON, b'{"message":"invalid token"}'),
    ],
)
async def test_a_refusal_in_the_family_s_own_words(
    family: str, status: int, headers: Any, body: bytes
) -> None:
    """It leads to another key as a 401 does; and to 502 when there is none."""
    refused: Given = (status, headers, [body])
    of = asked_for(family=FAMILIES[family])
    trip = await Trip(Provider(refused, ANSWER), of, keys=Keys(NEW)).run()
    assert (trip.status, trip.keys.refusals) == (200, [OLD])
    assert (await refusal(Trip(Provider(refused), of))).denial.code == "credential_refused"


# No answer.


async def test_the_last_of_our_attempts() -> None:
    """Its error is the refusal, and the SDK is told to stop: 3 times 3 never happens."""
    lost = [
        UpstreamError("upstream_unreachable", "It closed the connection.", "maybe")
        for _ in range(3)
    ]
    clock = Clock()
    trip = Trip(Provider(*lost), timing=Timing(clock, sleep=clock.sleep))
    denial = (await refusal(trip)).denial
    assert denial.code == "upstream_unreachable"
    assert ("x-should-retry", "false") in denial.headers
    outcome = trip.outcome()
    assert (outcome.attempts_unknown, outcome.in_flight, outcome.status) == (3, False, 0)
    assert (outcome.breaker, outcome.end) == ("closed", End.UNKNOWN)


async def test_an_sdk_that_retries_itself() -> None:
    """One attempt only."""
    error = UpstreamError("upstream_timeout", "No answer in time.", "maybe")
    trip = Trip(Provider(error), asked_for(headers=[("x-stainless-retry-count", "1")]))
    await refusal(trip)
    assert len(trip.attempts) == 1


async def test_an_open_breaker() -> None:
    """No attempt is made, and the line can say why."""
    trip = Trip(Provider(), breakers=opened(Breakers(lambda: 0.0), OLD))
    assert (await refusal(trip)).denial.code == "breaker_open"
    outcome = trip.outcome()
    assert (outcome.breaker, outcome.attempts, outcome.in_flight) == ("open", (), False)
    assert outcome.end is End.NEVER_LEFT


async def test_what_can_not_be_sent() -> None:
    """A fault before the first byte leaves nothing unknown, whatever the attempt ended in."""

    class Unsendable(Provider):
        async def send(self, *_: Any, **__: Any) -> Answer:
            raise ValueError("the path cannot be sent byte for byte")

    trip = Trip(Unsendable())
    with pytest.raises(ValueError, match="byte for byte"):
        await trip.run()
    outcome = trip.outcome()
    assert (trip.made, outcome.attempts_unknown, outcome.end) == (["internal"], 0, End.NEVER_LEFT)


# Interrupted.


@pytest.mark.parametrize("left", [True, False], ids=["under way", "connecting"])
async def test_a_stop_in_an_attempt(left: bool) -> None:
    """It stays in flight if the request had left: the provider may be at work."""

    class Connecting(Provider):
        async def send(self, *_: Any, **__: Any) -> Answer:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    trip = await Trip(Provider(NO_HEAD) if left else Connecting()).left_after(0)
    outcome = trip.outcome(End.STOPPED)
    assert (outcome.in_flight, outcome.status, outcome.attempts_unknown) == (left, 0, 0)
    assert outcome.end is (End.STOPPED if left else End.NEVER_LEFT)
    assert trip.made == ["cancelled"]


async def test_a_stop_in_an_attempt_after_one_that_was_refused() -> None:
    """The first answer's status does not hide that the second attempt is in flight."""

    class Minting(Provider):
        def token_refused(self, lease: Lease, token: Secret) -> bool:
            return True

    provider = Minting(UNAUTHORIZED, NO_HEAD)
    provider.mints = Secret("ya29.minted-0123456789")
    trip = await Trip(provider).left_after(0)
    outcome = trip.outcome(End.LEFT)
    assert (outcome.end, outcome.in_flight, trip.made) == (End.LEFT, True, ["401", "cancelled"])


async def test_a_stop_between_attempts() -> None:
    """Nothing is in flight then, and what came before is known."""

    async def sleep(seconds: float) -> None:
        await asyncio.Event().wait()

    trip = await Trip(Provider((500, OF_JSON, [b"{}"])), timing=Timing(sleep=sleep)).left_after(0)
    outcome = trip.outcome(End.STOPPED)
    assert (outcome.in_flight, outcome.end, trip.made) == (False, End.UNKNOWN, ["500"])
    assert set(trip.provider.closed) == {500}


@pytest.mark.parametrize("status", [400, 401, 429])
async def test_a_stop_while_an_error_is_read_ahead(status: int) -> None:
    """Its connection is let go, though nobody was given the answer."""
    trip = await Trip(Provider((status, OF_JSON, [b'{"error":', WAIT]))).left_after(0)
    await trip.delivery.close()
    assert set(trip.provider.closed) == {status}
    assert (trip.outcome(End.LEFT).end, trip.outcome().in_flight) == (End.UNKNOWN, False)


async def test_closed_twice() -> None:
    """It is no error, before an answer and after one."""
    trip = Trip(Provider(ANSWER))
    await trip.delivery.close()
    await trip.run()
    await trip.delivery.close()
    await trip.delivery.close()
    assert set(trip.provider.closed) == {200}
