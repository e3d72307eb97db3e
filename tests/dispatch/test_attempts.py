"""The retry loop. The provider is played by the calls to ``send_once``; time by a clock that sleep moves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import Line, RawProvider, answer, says
from tests.support.calls import head
from tests.support.clock import Clock

from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.attempts import Effort, Timing, deliver
from tollhouse.dispatch.breaker import Breaker, State
from tollhouse.dispatch.retry import RetryPolicy
from tollhouse.dispatch.retry_budget import ProviderRetries
from tollhouse.outcome import Attempt

WALL = 1_445_412_480.0
"""Wed, 21 Oct 2015 07:28:00 GMT."""
USUAL = RetryPolicy()
UNREACHABLE = UpstreamError("upstream_unreachable", "Connection refused.", "no")
LOST = UpstreamError("upstream_unreachable", "It closed the connection.", "maybe")


def says_status(
    status: int, body: bytes = b"{}", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    return status, body, {name.replace("_", "-"): value for name, value in headers.items()}


class Given:
    """A call: the outcomes of its attempts in order (the last one stays), and everything that can be seen of it."""

    def __init__(self, *outcomes: Any, took_s: float = 0.0) -> None:
        self.outcomes = list(outcomes)
        self.took_s = took_s
        self.clock = Clock()
        self.breaker = Breaker("api.openai.com", self.clock)
        self.attempts: list[Attempt] = []
        self.answers: list[Answer] = []
        self.closed: list[Answer] = []

    async def send_once(self) -> Answer:
        self.clock.now += self.took_s
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            # No answer comes.
            await asyncio.get_running_loop().create_future()
        status, body, headers = outcome
        pieces = [body]

        async def read() -> bytes:
            return pieces.pop() if pieces else b""

        made = Answer(status, list(headers.items()), read, lambda: self.closed.append(made))
        self.answers.append(made)
        return made

    async def deliver(
        self,
        policy: RetryPolicy = USUAL,
        *,
        sdk_retry_count: int = 0,
        creates: bool = False,
        patience: str = "",
    ) -> Answer:
        says = [("x-stainless-retry-count", str(sdk_retry_count))]
        if patience:
            says.append(("x-stainless-read-timeout", patience))
        return await deliver(
            self.send_once,
            effort=Effort(policy, head("POST", "/v1/x", *says), creates, self.clock()),
            breaker=self.breaker,
            timing=Timing(
                self.clock, lambda: WALL + self.clock.now - 1000.0, self.clock.sleep, lambda: 1.0
            ),
            record=self.attempts.append,
        )

    @property
    def made(self) -> Sequence[str]:
        return [attempt.outcome for attempt in self.attempts]


async def test_an_answer_at_the_first_try() -> None:
    """One attempt, its time, no sleep."""
    given = Given(says_status(200), took_s=0.25)
    assert (await given.deliver()).status == 200
    assert given.attempts == [Attempt("200", 250.0, began=1000.0)]
    assert given.clock.slept == []


@pytest.mark.parametrize("first", [408, 429, 500, 502, 503, 504, 529])
async def test_a_status_that_is_retried(first: int) -> None:
    """The answer that is thrown away is read and let go, the next one is given unread."""
    given = Given(says_status(first), says_status(200, b"body"))
    got = await given.deliver()
    assert await got.read() == b"body"
    assert given.made == [str(first), "200"]
    assert given.clock.slept == [0.5]
    assert given.closed == [given.answers[0]]
    assert await given.answers[0].read() == b"{}"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
async def test_a_status_that_is_not(status: int) -> None:
    """It is passed on at once, as it is."""
    given = Given(says_status(status))
    got = await given.deliver()
    assert (got.status, got.headers, given.made) == (status, [], [str(status)])


@pytest.mark.parametrize("code", ["upstream_unreachable", "upstream_tls", "upstream_timeout"])
async def test_an_error_that_is_retried(code: str) -> None:
    """Errors before the head are tried again; those of unknown fate are marked."""
    given = Given(UpstreamError(code, "", "no"), UpstreamError(code, "", "maybe"), says_status(200))
    assert (await given.deliver()).status == 200
    assert given.attempts == [
        Attempt(code, 0.0, began=1000.0),
        Attempt(code, 0.0, unknown=True, began=1000.5),
        Attempt("200", 0.0, began=1001.5),
    ]
    assert given.clock.slept == [0.5, 1.0]


@pytest.mark.parametrize("code", ["upstream_address_refused", "upstream_bad_answer"])
async def test_an_error_that_is_not(code: str) -> None:
    """It would be the same the next time."""
    given = Given(UpstreamError(code, "", "no"))
    with pytest.raises(UpstreamError) as caught:
        await given.deliver()
    assert (caught.value.headers, given.made) == ((), [code])


async def test_our_tries_are_spent() -> None:
    """The provider's own last answer is passed on, and the SDK is told to stop."""
    given = Given(
        says_status(500), says_status(502), says_status(503, b"last", x_should_retry="true")
    )
    got = await given.deliver()
    assert (got.status, await got.read()) == (503, b"last")
    assert got.headers == [("x-should-retry", "false")]
    assert given.made == ["500", "502", "503"]


async def test_our_tries_are_spent_on_errors() -> None:
    """The last error is raised, with the header for the denial."""
    given = Given(UNREACHABLE, UNREACHABLE, LOST)
    with pytest.raises(UpstreamError) as caught:
        await given.deliver()
    assert caught.value is LOST
    assert caught.value.headers == (("x-should-retry", "false"),)
    assert caught.value.why.endswith(" The gateway has tried it 3 times already.")
    assert given.made == ["upstream_unreachable"] * 3


@pytest.mark.parametrize(("count", "stops"), [(1, False), (2, True), (3, True)])
async def test_the_sdk_is_retrying_already(count: int, stops: bool) -> None:
    """One attempt only; when its attempts and ours reach three it is told to stop: 3 x 3 never happens."""
    given = Given(says_status(503))
    got = await given.deliver(sdk_retry_count=count)
    assert given.made == ["503"]
    assert (("x-should-retry", "false") in got.headers) is stops


@pytest.mark.parametrize("waits", list(itertools.product(["0", "30"], repeat=3)))
async def test_never_more_than_three(waits: tuple[str, ...]) -> None:
    """An SDK with two retries of its own, against a provider that fails always and wants now a short wait and now one beyond
    the deadline: three attempts in all, whoever makes them."""
    answers = [says_status(503, retry_after=wait) for wait in (*waits, *waits)]
    total = 0
    for sdk_retry_count in range(3):
        given = Given(*answers[total:])
        got = await given.deliver(sdk_retry_count=sdk_retry_count)
        total += len(given.made)
        if got.get("x-should-retry") == "false":
            break
    assert total <= 3


STALE = UpstreamError("upstream_unreachable", "It closed the connection.", "stale")


@pytest.mark.parametrize(("attempts", "count"), [(3, 0), (1, 0), (1, 1)])
async def test_a_stale_connection(attempts: int, count: int) -> None:
    """The request is repeated at once, though it was the only attempt that there is; and it says nothing of the provider."""
    given = Given(STALE, says_status(200))
    got = await given.deliver(RetryPolicy(attempts=attempts), sdk_retry_count=count)
    assert (got.status, given.clock.slept) == (200, [0.0])
    assert given.attempts[0].unknown, "a server that died over it looks the same"
    assert given.breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("attempts", "count", "made"), [(3, 0, 3), (1, 0, 2), (1, 1, 2), (1, 2, 1)]
)
async def test_connections_that_stay_stale(attempts: int, count: int, made: int) -> None:
    """At once only once; behind that it is a lost connection as any other, and three attempts are all."""
    given = Given(STALE)
    with pytest.raises(UpstreamError):
        await given.deliver(RetryPolicy(attempts=attempts), sdk_retry_count=count)
    assert len(given.made) == made
    assert given.clock.slept == [0.0, 1.0][: made - 1]


async def test_a_stale_connection_while_retries_are_paused() -> None:
    """It is no more load for the provider, and takes nothing from the budget."""
    budget = ProviderRetries(Clock(), a_second=0.1).of("acme")
    policy = RetryPolicy(budget=budget)
    for _ in range(3):
        assert (await Given(STALE, says_status(200)).deliver(policy)).status == 200
    assert budget.take()
    assert not budget.take()
    assert (await Given(STALE, says_status(200)).deliver(policy)).status == 200


@pytest.mark.parametrize("outcome", [LOST, STALE, says_status(503)])
async def test_a_request_that_creates(outcome: Any) -> None:
    """It is not repeated when it may have been worked on, whoever says so; the SDK is told not to do it either where we say it."""
    given = Given(outcome)
    if isinstance(outcome, UpstreamError):
        with pytest.raises(UpstreamError) as caught:
            await given.deliver(creates=True)
        assert caught.value.headers == (("x-should-retry", "false"),)
        assert "may have been worked on" in caught.value.why
    else:
        assert (await given.deliver(creates=True)).headers == []
    assert len(given.made) == 1


async def test_a_request_that_creates_and_was_not_read() -> None:
    """It met a connection that the server had closed before it came: it is repeated at once, and is not of unknown fate."""
    unread = UpstreamError("upstream_unreachable", "It closed the connection.", "unread")
    given = Given(unread, says_status(200))
    assert (await given.deliver(RetryPolicy(attempts=1), creates=True)).status == 200
    assert (given.clock.slept, given.attempts[0].unknown) == ([0.0], False)
    assert given.breaker.state is State.CLOSED


@pytest.mark.parametrize("outcome", [UNREACHABLE, says_status(429), says_status(529)])
async def test_a_request_that_creates_and_was_turned_away(outcome: Any) -> None:
    """What was surely not worked on is repeated."""
    given = Given(outcome, says_status(200))
    assert (await given.deliver(creates=True)).status == 200


async def test_a_client_that_is_less_patient_than_the_wait() -> None:
    """It has its answer at once, while it still waits for one."""
    given = Given(says_status(429, b"slow down", retry_after="4"))
    got = await given.deliver(patience="4.4")
    assert (given.made, given.clock.slept, got.status) == (["429"], [], 429)
    assert (await given.deliver(patience="4.5")).status == 429
    assert given.clock.slept == [4.0]


async def test_a_later_try_that_lasts_longer_than_the_client_waits() -> None:
    """It is given up before the client goes, and the SDK is told to stop: it would try it all again."""
    given = Given(says_status(503, retry_after_ms="1"), None)
    with pytest.raises(UpstreamError) as caught:
        await given.deliver(patience="0.05")
    assert (caught.value.code, caught.value.sent) == ("upstream_timeout", "maybe")
    assert caught.value.headers == (("x-should-retry", "false"),)
    assert given.attempts[-1].unknown
    assert given.made == ["503", "upstream_timeout"]


@pytest.mark.parametrize(
    ("headers", "slept"),
    [
        ({"retry_after": "2"}, 2.0),
        ({"retry_after_ms": "40"}, 0.04),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:03 GMT"}, 3.0),
        ({"retry_after": "0"}, 0.5),
        ({"retry_after": "soon"}, 0.5),
    ],
)
async def test_the_provider_says_how_long(headers: dict[str, str], slept: float) -> None:
    """Its wait is kept instead of ours."""
    given = Given(says_status(429, **headers), says_status(200))
    await given.deliver()
    assert given.clock.slept == [slept]


@pytest.mark.parametrize("wait", ["10", "120", "Wed, 21 Oct 2015 07:28:10 GMT"])
async def test_a_wait_beyond_the_deadline(wait: str) -> None:
    """It ends the retries at once; the SDK may wait itself, and is not told otherwise."""
    given = Given(says_status(429, b"slow down", retry_after=wait))
    got = await given.deliver()
    assert (given.made, given.clock.slept) == (["429"], [])
    assert got.headers == [("retry-after", wait)]
    assert await got.read() == b"slow down"


async def test_the_deadline_counts_the_attempts() -> None:
    """An attempt that took 9.8 s leaves no room for a wait of half a second."""
    given = Given(says_status(503), took_s=9.8)
    assert (await given.deliver()).status == 503
    assert given.made == ["503"]


async def test_the_provider_says_whether() -> None:
    """x-should-retry decides over the status."""
    given = Given(says_status(503, x_should_retry="false"))
    assert (await given.deliver()).headers == [("x-should-retry", "false")]
    assert given.made == ["503"]
    given = Given(says_status(409, x_should_retry="true"), says_status(200))
    assert (await given.deliver()).status == 200


async def test_an_account_without_money() -> None:
    """A 429 that does not clear is passed on with its body, and the SDK is told to stop."""
    body = json.dumps({"error": {"code": "insufficient_quota"}}).encode()
    given = Given(says_status(429, body))
    got = await given.deliver()
    assert (given.made, await got.read()) == (["429"], body)
    assert got.get("x-should-retry") == "false"


async def test_the_retry_budget_is_spent() -> None:
    """No further attempt is made, and the SDK is told to stop."""
    clock = Clock()
    budget = ProviderRetries(clock, a_second=0.1).of("acme")
    policy = RetryPolicy(budget=budget)
    given = Given(says_status(503))
    got = await given.deliver(policy)
    assert (given.made, got.get("x-should-retry")) == (["503", "503"], "false")
    given = Given(LOST)
    with pytest.raises(UpstreamError) as caught:
        await given.deliver(policy)
    assert (given.made, caught.value.headers) == (
        ["upstream_unreachable"],
        (("x-should-retry", "false"),),
    )
    assert "The gateway has tried it once, and retries are paused" in caught.value.why


async def test_an_open_breaker() -> None:
    """Nothing is sent, the refusal says when to come back."""
    given = Given(says_status(503))
    for _ in range(10):
        given.breaker.failure()
    with pytest.raises(Refused) as caught:
        await given.deliver()
    assert caught.value.denial.code == "breaker_open"
    assert given.attempts == []


async def test_a_breaker_that_opens_on_the_way() -> None:
    """The provider's own answer is passed on: there is no waiting for a breaker."""
    given = Given(says_status(503))
    for _ in range(8):
        given.breaker.failure()
    got = await given.deliver()
    assert (got.status, given.made) == (503, ["503", "503"])
    assert given.breaker.state is State.OPEN


@pytest.mark.parametrize(
    ("outcome", "opens"),
    [
        (says_status(500), True),
        (says_status(529), True),
        (UpstreamError("upstream_unreachable", "", "no"), True),
        (UpstreamError("upstream_tls", "", "no"), True),
        (UpstreamError("upstream_timeout", "", "maybe"), True),
        (UpstreamError("upstream_bad_answer", "", "maybe"), True),
        (UpstreamError("upstream_address_refused", "", "no"), False),
        (says_status(429), False),
        (says_status(408), False),
        (says_status(401), False),
        (says_status(400), False),
        (says_status(200), False),
        (asyncio.CancelledError(), False),
    ],
)
async def test_what_counts_for_the_breaker(outcome: Any, opens: bool) -> None:
    """Connection and TLS errors, timeouts and 5xx do; what the provider answers otherwise, and our own, does not."""
    given = Given(outcome)
    for _ in range(10):
        with contextlib.suppress(UpstreamError, asyncio.CancelledError):
            await given.deliver(RetryPolicy(attempts=1))
    assert (given.breaker.state is State.OPEN) is opens


async def test_a_probe_that_is_cancelled_frees_its_place() -> None:
    """A client that leaves while its call is the probe does not keep the breaker half open."""
    given = Given(asyncio.CancelledError(), says_status(200))
    for _ in range(10):
        given.breaker.failure()
    given.clock.now += 10
    with pytest.raises(asyncio.CancelledError):
        await given.deliver()
    assert given.attempts == [Attempt("cancelled", 0.0, unknown=True, began=1010.0)]
    assert (await given.deliver()).status == 200
    assert given.breaker.state is State.CLOSED


async def test_cancelled_while_waiting() -> None:
    """The client leaves between two attempts: the answer that was to be thrown away is closed."""
    given = Given(says_status(503))

    async def leave(seconds: float) -> None:
        raise asyncio.CancelledError

    given.clock.sleep = leave  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await given.deliver()
    assert given.answers[0] in given.closed


async def test_an_error_of_ours_is_not_retried() -> None:
    """What nobody foresaw ends the call, and is in the record."""
    given = Given(ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        await given.deliver()
    assert given.made == ["internal"]


async def test_over_a_real_connection(raw: RawProvider, reach: Reach) -> None:
    """Every attempt is one request on the wire; an answer thrown away leaves its connection to the next attempt."""

    async def leave(line: Line) -> None:
        line.hang_up()

    raw.behaviours = [says(answer(500, b"x" * 5000)), leave, says(answer(200, b"done"))]
    given = Given()
    async with reach(raw.port) as to:
        got = await deliver(
            to.send,
            effort=Effort(RetryPolicy(), head(), False, given.clock()),
            breaker=given.breaker,
            timing=Timing(given.clock, sleep=given.clock.sleep, random=lambda: 0.0),
            record=given.attempts.append,
        )
        assert await got.read() == b"done"
    assert given.clock.slept == [0.0, 0.0]
    assert given.made == ["500", "upstream_unreachable", "200"]
    assert [attempt.unknown for attempt in given.attempts] == [False, True, False]
    assert [request.connection for request in raw.received] == [1, 1, 2]
