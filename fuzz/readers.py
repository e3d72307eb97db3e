"""The table of readers: by its name, the inputs that it is given and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from hypothesis import strategies as st
from tests.families.samples import Samples
from tests.families.samples.forms import form, wav

from fuzz import families, framings
from fuzz.families import Case
from fuzz.mutations import mutated
from tollhouse.families.formats.aws_event_stream import FrameSplitter, frame

SHORT_STREAM: Final = 6 << 20
"""Bytes of the stream over which a meter's memory is judged in CI."""
LONG_STREAM: Final = 16 << 20


@dataclass(frozen=True)
class Reader:
    """``check`` raises if something does not hold for its input."""

    inputs: st.SearchStrategy[bytes]
    check: Callable[[bytes], None]


def _each(check: Callable[[Case, bytes], None], cases: Sequence[Case], data: bytes) -> None:
    for case in cases:
        check(case, data)


def _reframed(answers: Iterable[bytes]) -> st.SearchStrategy[bytes]:
    """Frames of AWS whose payloads are changed, under checksums that are right."""
    streams = [FrameSplitter().feed(answer) for answer in answers]
    found = [one for stream in streams for one in stream]
    one = st.builds(
        lambda head, payload: frame(tuple(head.headers.items()), payload),
        st.sampled_from(found),
        mutated([each.payload for each in found]),
    )
    return st.lists(one, max_size=5).map(b"".join)


def _answers(cases: Sequence[Case]) -> st.SearchStrategy[bytes]:
    seeds = [case.exchange.answer for case in cases]
    framed = [
        case.exchange.answer
        for case in cases
        if ("content-type", "application/vnd.amazon.eventstream") in case.exchange.headers
    ]
    return mutated(seeds) | _reframed(framed) if framed else mutated(seeds)


def _of_family(name: str, cases: list[Case], stream: int) -> dict[str, Reader]:
    several = families.distinct(cases)
    memory = partial(families.check_memory, size=stream)
    requests = mutated([case.exchange.request for case in cases])
    found = {
        f"meter.{name}": Reader(_answers(cases), partial(_each, families.check_meter, several)),
        f"memory.{name}": Reader(_answers(cases), partial(_each, memory, several)),
    }
    if any(case.operation.reads_body or case.operation.metered for case in cases):
        check = partial(_each, families.check_read, several)
        found[f"read.{name}"] = Reader(requests, check)
    return found


def _of_errors(samples: Samples) -> dict[str, Reader]:
    name = samples.family.name
    bodies = [body for _, body, _ in samples.verdicts] or [b'{"error":{"code":"x"}}']
    paths = [path.encode() for _, path in samples.open]
    return {
        f"error.{name}": Reader(mutated(bodies), partial(families.check_error, samples)),
        f"path.{name}": Reader(mutated(paths), partial(families.check_path, samples)),
    }


def _of_framings(answers: list[bytes], requests: list[bytes]) -> dict[str, Reader]:
    forms = [
        form(("model", b"whisper-1"), ("file", wav(0.01), "a.wav")),
        form(("image[]", b"\x89PNG", "a.png"), ("prompt", b"a toll"), ("n", b"2")),
    ]
    usages = [b'{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{}}']
    usages += [b'{"promptTokenCount":9,"candidatesTokenCount":4,"seconds":1.5}']
    arrays = [answer for answer in answers if answer.startswith(b"[")]
    return {
        "sse": Reader(mutated(answers), framings.sse),
        "ndjson": Reader(mutated(answers), framings.ndjson),
        "json_array": Reader(mutated([*arrays, b'[{"a":1},{"b":[2]}]']), framings.json_array),
        "aws_event_stream": Reader(
            mutated(framings.frames()) | _reframed(framings.frames()), framings.aws_event_stream
        ),
        "jsonscan": Reader(mutated([*answers, *requests]), framings.jsonscan),
        "topmost": Reader(mutated(answers), framings.topmost),
        "document": Reader(mutated(requests), framings.document),
        "multipart": Reader(mutated(forms), framings.multipart),
        "codings": Reader(mutated(framings.coded()), framings.codings),
        "generic.read": Reader(mutated(requests), framings.generic_read),
        "generic.usage": Reader(mutated(usages), framings.generic_usage),
        "generic.meter": Reader(mutated(answers), framings.generic_meter),
        "prices": Reader(mutated(framings.price_files()), framings.price_data),
    }


def readers(stream: int = SHORT_STREAM) -> dict[str, Reader]:
    """``stream`` is how many bytes the memory of a meter is judged over."""
    by_kind = families.cases()
    every = [case.exchange for cases in by_kind.values() for case in cases]
    answers = list(dict.fromkeys(one.answer for one in every))
    requests = list(dict.fromkeys(one.request for one in every if one.request))
    found = _of_framings(answers, requests)
    for name, cases in sorted(by_kind.items()):
        found.update(_of_family(name, cases, stream))
    by_family: dict[str, Samples] = {}
    for samples in families.TRIED:
        by_family.setdefault(samples.family.name, samples)
    for samples in by_family.values():
        found.update(_of_errors(samples))
    return found
