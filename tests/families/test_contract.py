"""What every family promises the road, tried with the samples of each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.families.samples import SAMPLES, Exchange, Samples
from tests.support.values import replace

from tollhouse.denial import REASONS, Denial, Refused
from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.verdict import verdict_on_key
from tollhouse.families.asked import Asked, Limits, Request
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.operation import Operation

LIMITS = Limits(context=128_000, answer=4_096)
EXCHANGES = [(samples, exchange) for samples in SAMPLES for exchange in samples.exchanges]
METERED = [samples for samples in SAMPLES if samples.family.metered]
each_family = pytest.mark.parametrize("samples", SAMPLES, ids=lambda samples: _folder(samples))
each_metered = pytest.mark.parametrize("samples", METERED, ids=lambda samples: _folder(samples))
each_exchange = pytest.mark.parametrize(
    ("samples", "exchange"), EXCHANGES, ids=[f"{s.family.name}: {e.name}" for s, e in EXCHANGES]
)


def _folder(samples: Samples) -> str:
    return samples.open[0][1] + " " + samples.family.name


def _read(samples: Samples, exchange: Exchange) -> Asked:
    family = samples.family
    operation = _operation(samples, exchange)
    request = Request(
        operation, exchange.path, exchange.sent, exchange.request, exchange.query, samples.host
    )
    return family.read(request, samples.dialect)


def _operation(samples: Samples, exchange: Exchange) -> Operation:
    operation = samples.family.operation(
        exchange.method, exchange.path, exchange.query, samples.host
    )
    assert operation is not None
    return operation


def _meter(samples: Samples, exchange: Exchange) -> Meter:
    return samples.family.meter(_read(samples, exchange), AnswerHead(200, exchange.headers))


def _reached(samples: Samples, method: str, target: str) -> Operation | None:
    path, _, query = target.partition("?")
    return samples.family.operation(method, path, query, samples.host)


@each_family
def test_each_route_is_reached_and_nothing_else(samples: Samples) -> None:
    """What no route names is closed, and so is what only looks like one."""
    family = samples.family
    reached = [_reached(samples, method, path) for method, path in samples.open]
    assert None not in reached
    found = [
        family.match("GET", *_divided(path), samples.host, socket=True) for path in samples.sockets
    ]
    sockets = {one.operation for one in found if one is not None}
    assert {route.operation for route in family.routes} == {*reached, *sockets}
    # Neither is open as the other.
    assert all(one.socket for one in sockets)
    assert not any(one.socket for one in reached if one is not None)
    # What an operator opens beside the family's own is of this kind (`families.opened`).
    assert "unknown" not in {route.operation.kind for route in family.routes}
    for method, path in samples.open:
        path = path.partition("?")[0]
        for other in (f"{path}/x/y", f"/x{path}", path.upper() + "X", ""):
            assert family.operation(method, other, host=samples.host) is None
        assert family.operation("TRACE", path, host=samples.host) is None


def _divided(target: str) -> tuple[str, str]:
    path, _, query = target.partition("?")
    return path, query


@each_family
@pytest.mark.parametrize("code", REASONS)
def test_a_refusal_is_the_families_own_error(samples: Samples, code: str) -> None:
    """As a body it is JSON, as an event it can be told from what was sent before; both carry code and call."""
    denial = Denial(code, 'because of "ü"')
    for shown in (
        samples.family.error_body(denial, "call_7"),
        samples.event_json(samples.family.error_event(denial, "call_7")),
    ):
        error = json.loads(shown[shown.index(b"{") : shown.rindex(b"}") + 1])
        message = max(_strings(error), key=len)
        assert message.startswith(denial.message)
        assert message.endswith(f"[tollhouse: {code}, call call_7]")


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    return [value] if isinstance(value, str) else []


@each_family
async def test_what_an_error_says_of_the_key(samples: Samples) -> None:
    """By the family's table, and of what no row names nothing is concluded."""
    for status, body, verdict in (*samples.verdicts, (418, b"", None), (500, b"<html>", None)):
        pieces = [body]

        async def read(pieces: list[bytes] = pieces) -> bytes:
            return pieces.pop() if pieces else b""

        answer = Answer(status, [], read, lambda: None)
        assert await verdict_on_key(samples.family, answer) == verdict, (status, body)


@each_metered
def test_a_body_that_can_be_read_in_two_ways_is_refused(samples: Samples) -> None:
    """With 400, and a sentence that says why."""
    for body in samples.malformed:
        with pytest.raises(Refused) as refused:
            _read(samples, Exchange("", samples.exchanges[0].path, body, b"", ()))
        assert refused.value.denial.code == "bad_request"
        assert refused.value.denial.why


@each_exchange
def test_a_body_that_is_not_to_change_does_not(samples: Samples, exchange: Exchange) -> None:
    """Byte for byte. One that is lowered has the lower cap, and asks for the same model."""
    family, asked = samples.family, _read(samples, exchange)
    if not _operation(samples, exchange).reads_body:
        return
    if not asked.asks_for_usage:
        assert family.rewrite(exchange.request, asked) == exchange.request
    if asked.writes:
        lowered = family.rewrite(exchange.request, replace(asked, lowered_to=3))
        again = _read(samples, replace(exchange, request=lowered))
        assert (again.cap, again.model, again.stream) == (3, asked.model, asked.stream)


@each_exchange
@pytest.mark.parametrize("mode", ["typical", "worst"])
def test_the_estimate_is_not_below_the_bill(
    samples: Samples, exchange: Exchange, mode: Any
) -> None:
    """Of the samples, whose requests are short."""
    if not exchange.charges:
        return
    held = samples.family.estimate(_read(samples, exchange), mode, LIMITS, samples.dialect)
    first, *beside = exchange.charges
    assert held.units.output + held.predicted >= first.units.output
    assert mode == "typical" or held.units.input >= first.units.input
    bounds = {item.model: item.units for item in held.beside}
    for charge in beside:
        bound = bounds[charge.model]
        assert all(most >= count for most, count in zip(bound, charge.units, strict=True))


@each_exchange
@pytest.mark.parametrize("size", [1, 2, 7, 1_000_000])
def test_an_answer_is_charged_as_its_provider_counts(
    samples: Samples, exchange: Exchange, size: int
) -> None:
    """However it is cut, and the client gets the bytes that it would have got without us."""
    meter = _meter(samples, exchange)
    stream = exchange.answer
    out = (
        b"".join(meter.feed(stream[at : at + size]) for at in range(0, len(stream), size))
        + meter.flush()
    )
    assert meter.finish() == exchange.charges
    assert out == (exchange.answer if exchange.passed is None else exchange.passed)
    assert meter.error == exchange.error
    assert meter.created == exchange.created
    assert _read(samples, exchange).objects == exchange.objects
    assert meter.edits or out == exchange.answer


@each_exchange
def test_an_answer_that_is_cut_shows_what_was_seen(samples: Samples, exchange: Exchange) -> None:
    """At every byte: nothing is raised, text that came is counted, and no count is higher than the whole one's."""
    for at in range(len(exchange.answer)):
        meter = _meter(samples, exchange)
        meter.feed(exchange.answer[:at])
        meter.flush()
        # A charge may be a lower bound on the way: no count of it is above the last one.
        charges = meter.finish()
        assert len(charges) <= len(exchange.charges)
        for charge, whole in zip(charges, exchange.charges, strict=False):
            assert all(few <= last for few, last in zip(charge.units, whole.units, strict=True))
        if exchange.text is not None and at >= exchange.text:
            assert meter.output_seen > 0


@each_exchange
def test_our_event_can_be_put_behind_any_event(samples: Samples, exchange: Exchange) -> None:
    """Where a stream has a boundary, its client reads ours there as the family's own error."""
    meter = _meter(samples, exchange)
    sent = meter.feed(exchange.answer)
    if meter.boundary is None or exchange.answer.startswith(b"["):
        return  # Before the first element of an array and behind its end nothing can stand.
    assert meter.boundary.between
    meter.boundary.sent(sent)
    assert meter.boundary.between
    asked = _read(samples, exchange)
    family = samples.family.at(exchange.path)
    event = family.last_event(Denial("budget_exceeded"), "call_7", asked)
    meter.boundary.sent(event[:-1])
    assert not meter.boundary.between
    meter.boundary.sent(event[-1:])
    assert meter.boundary.cut(event + b"more") == event
    reader = _meter(samples, exchange)
    reader.feed(event)
    assert reader.error


@each_metered
@given(
    parts=st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"data: ", b"\n\n", b"{", b'"', b"}\n", b"[" * 200])
    )
)
def test_garbage_passes_unharmed(samples: Samples, parts: list[bytes]) -> None:
    """Whatever a provider sends, the meter raises nothing, and what it does not edit it does not change."""
    for exchange in samples.exchanges:
        meter = _meter(samples, exchange)
        out = b"".join(meter.feed(part) for part in parts) + meter.flush()
        assert meter.edits or out == b"".join(parts)
        assert meter.output_seen >= 0
        meter.finish()
