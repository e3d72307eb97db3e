"""What is tried of each family: its meters, what it reads of a request, of an error and of a path."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from tests.families.samples import SAMPLES, Exchange, Samples

from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.verdict import verdict_on_key
from tollhouse.families.asked import Asked, Limits, Request
from tollhouse.families.meters import AnswerHead, Boundary, Meter
from tollhouse.families.operation import Operation
from tollhouse.families.units import INPUT_PARTS, OUTPUT_PARTS, Charge, Units

TRIED: Final = [samples for samples in SAMPLES if samples.family.name != "tiny"]
"""The samples of all families but that which nobody speaks."""
LIMITS: Final = Limits(context=128_000, answer=4_096)
PIECES: Final = (1, 7, 4_096)
_SHORT: Final = 20_000
"""Bytes of an input that is also given in small pieces."""
MOST_KEPT: Final = 4 << 20
"""Bytes that a meter may keep."""
_SHARED: Final = (type, ModuleType, FunctionType, BuiltinFunctionType, CodeType, re.Pattern)


class Case(NamedTuple):
    """An exchange of the samples, and what it asks."""

    samples: Samples
    exchange: Exchange
    operation: Operation
    asked: Asked

    def meter(self) -> Meter:
        head = AnswerHead(200, self.exchange.headers)
        return self.samples.family.meter(self.asked, head)


def cases() -> dict[str, list[Case]]:
    """By family and kind of operation: ``openai.chat``."""
    found: dict[str, list[Case]] = defaultdict(list)
    for samples in TRIED:
        for one in samples.exchanges:
            operation = samples.family.operation(one.method, one.path, one.query, samples.host)
            assert operation is not None
            request = _request(samples, one, operation, one.request)
            asked = samples.family.read(request, samples.dialect)
            name = f"{samples.family.name}.{operation.kind.replace(' ', '_')}"
            found[name].append(Case(samples, one, operation, asked._replace(document=None)))
    return found


def _request(samples: Samples, one: Exchange, operation: Operation, body: bytes) -> Request:
    return Request(operation, one.path, one.sent, body, one.query, samples.host)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def sizes(data: bytes) -> tuple[int, ...]:
    """The sizes of the pieces in which ``data`` is given."""
    return (*(PIECES if len(data) <= _SHORT else PIECES[-1:]), max(len(data), 1))


def distinct(several: Iterable[Case]) -> list[Case]:
    """Cases whose meters differ."""
    found: dict[str, Case] = {}
    for case in several:
        found.setdefault(repr((case.asked, case.exchange.headers, case.samples.dialect)), case)
    return list(found.values())


def check_meter(case: Case, data: bytes) -> None:
    """However the bytes come: nothing is raised, what is not edited is not changed, no count is
    below 0, and the counts of a sound answer do not depend on the pieces."""
    bills = []
    for size in sizes(data):
        meter = case.meter()
        out = b"".join(_fed(meter, piece) for piece in pieces(data, size))
        _judge(meter)
        out += meter.flush()
        _judge(meter)
        assert meter.edits or out == data, "the bytes are not those that came"
        assert len(out) <= len(data), "there are more bytes than came"
        bills.append(meter.finish())
    if not _is_sound(data):
        return
    assert all(bill == bills[0] for bill in bills), f"the bill depends on the pieces: {bills}"


def _is_sound(data: bytes) -> bool:
    """Whether its lines of data, or all of it, are JSON. Of broken JSON nobody can tell what it
    counts."""
    lines = [line[5:] for line in data.splitlines() if line.startswith(b"data:")]
    try:
        for text in lines or [data]:
            json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _fed(meter: Meter, piece: bytes) -> bytes:
    out = meter.feed(piece)
    if (boundary := meter.boundary) is not None:
        try_boundary(boundary, out)
    return out


def try_boundary(boundary: Boundary, data: bytes) -> None:
    """What is cut off is a beginning, and there is something of it."""
    beginning = boundary.cut(data)
    assert data.startswith(beginning), "the cut is no beginning"
    assert beginning or not data, "the cut is empty"
    boundary.sent(data)
    assert isinstance(boundary.between, bool)


def _judge(meter: Meter) -> None:
    assert meter.output_seen >= 0
    assert isinstance(meter.done, bool), "done is no bool"
    assert isinstance(meter.error, str), "error is no str"
    assert all(isinstance(one, str) and one for one in meter.created), "an id is no str"
    for charge in meter.finish():
        judge_charge(charge)


def judge_charge(charge: Charge) -> None:
    """Counts are whole, at least 0, and no part is more than its whole."""
    assert isinstance(charge.model, str), "the model is no str"
    assert isinstance(charge.tier, str), "the tier is no str"
    assert charge.paid is None or (type(charge.paid) is int and charge.paid >= 0), "paid"
    judge_units(charge.units)


def judge_units(units: Units) -> None:
    counts = units._asdict()
    for name, count in counts.items():
        assert type(count) is int, f"{name} is no int: {count!r}"
        assert count >= 0, f"{name} is below 0: {count}"
    for whole, parts in (("input", INPUT_PARTS), ("output", OUTPUT_PARTS)):
        for part in parts:
            assert counts[part] <= counts[whole], f"{part} is more than {whole}: {units}"


_NAMED: Final = re.compile(
    rb'("(?:id|item_id|call_id|tool_call_id|model|name|container_id|responseId)" ?: ?")'
)
_NUMBERED: Final = re.compile(rb'("(?:index|output_index|contentBlockIndex|content_index)" ?: ?)')


def check_memory(case: Case, data: bytes, size: int) -> None:
    """A stream of ``size`` bytes, made of ``data``: again and again, with other names and numbers
    each time, or its end without an end. The meter keeps no more than `MOST_KEPT`."""
    if not data:
        return
    for stream in (_again(data, size), _renamed(data, size), _trickle(data), _endless(data, size)):
        meter = case.meter()
        for piece in stream:
            meter.feed(piece)
        kept = size_of(meter) - size_of(case.asked)
        assert kept <= MOST_KEPT, f"{kept} bytes are kept"
        meter.flush()


def _again(data: bytes, size: int) -> Iterator[bytes]:
    block = data * max(65_536 // len(data), 1)
    for _ in range(size // len(block) + 1):
        yield block


def _renamed(data: bytes, size: int) -> Iterator[bytes]:
    named = _NAMED.sub(rb"\g<1>%(n)d-", data.replace(b"%", b"%%"))
    named = _NUMBERED.sub(rb"\g<1>%(n)d", named)
    if named == data:
        return
    for number in range(size // len(data) + 1):
        yield named % {b"n": number}


def _trickle(data: bytes) -> Iterator[bytes]:
    """A text that comes in pieces of a few bytes."""
    yield data
    for number in range(140_000):
        yield b"%07d" % number


def _endless(data: bytes, size: int) -> Iterator[bytes]:
    """The input without its last bytes, and then nothing but a text."""
    yield data[: len(data) * 2 // 3]
    for _ in range(size // 65_536):
        yield b"a" * 65_536


def size_of(thing: Any) -> int:
    """Bytes of ``thing`` and of all that it keeps, without classes, functions and patterns."""
    seen: set[int] = set()
    waiting = [thing]
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _SHARED):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


def check_read(case: Case, data: bytes) -> None:
    """A request is read or refused. What is read has an estimate, and a lowered cap is the cap that
    is read again."""
    samples, family = case.samples, case.samples.family
    request = _request(samples, case.exchange, case.operation, data)
    try:
        asked = family.read(request, samples.dialect)
    except Refused as refused:
        assert refused.denial.why, "the refusal does not say why"
        return
    assert all(isinstance(one, str) and one for one in (*asked.objects, *asked.other_models))
    assert isinstance(asked.model, str)
    if case.operation.metered:
        for mode in ("typical", "worst"):
            estimate = family.estimate(asked, mode, LIMITS, samples.dialect)  # type: ignore[arg-type]
            _judge_counts(estimate.units)
            assert estimate.predicted >= 0
            for charge in estimate.beside:
                _judge_counts(charge.units)
    if not case.operation.reads_body:
        return
    family.sent_headers(case.exchange.sent, asked)
    if not asked.asks_for_usage:
        assert family.rewrite(data, asked) == data, "the body is changed"
    if asked.writes and asked.cap != 0:
        cap = max(asked.least_cap, 3)
        if asked.cap is not None and asked.cap < cap:
            return
        lowered = family.rewrite(data, asked._replace(lowered_to=cap))
        again = family.read(request._replace(body=lowered), samples.dialect)
        assert again.cap == cap, f"the cap is {again.cap} and not {cap}"
        assert again.model == asked.model, "the model is another"


def _judge_counts(units: Units) -> None:
    for name, count in units._asdict().items():
        assert type(count) is int, f"{name} is no int: {count!r}"
        assert count >= 0, f"{name} is below 0: {count}"


def check_error(samples: Samples, data: bytes) -> None:
    """An error's body is judged, whatever it holds."""
    for status in sorted({rule.status for rule in samples.family.verdicts}):
        asyncio.run(_verdict(samples, status, data))


async def _verdict(samples: Samples, status: int, data: bytes) -> None:
    waiting = [data]

    async def read() -> bytes:
        return waiting.pop() if waiting else b""

    answer = Answer(status, [], read, lambda: None)
    assert await verdict_on_key(samples.family, answer) in (None, "refused", "no_money", "request")


def check_path(samples: Samples, data: bytes) -> None:
    """Any path is known or closed, and ids in it are not empty."""
    path = data.decode("latin-1")
    for method in ("GET", "POST", "DELETE"):
        found = samples.family.match(method, path, host=samples.host)
        assert found is None or all(found.objects)
