"""A family of the tests' own, as small as one can be: the second row of the contract, so that nothing of the first hides in it.

It is spoken by nobody. A request is ``{"m": "parrot-1", "most": 20, "live": true, "say": "hello"}`` to ``POST /talk``. A live
answer is lines of JSON: ``{"t": "hel"}``, ``{"t": "lo"}`` and at the end ``{"in": 5, "out": 2, "by": "parrot-1.2"}``; any other
is one object with all of that. An error is ``{"oops": "code"}``.

It keeps nests: ``POST /nests`` makes one, whose id is in the answer (``{"nest": "nest-1"}``), a request to ``/talk`` names one
by its ``nest``. A race (``POST /races``) is a job, ``POST /feathers`` makes a credential, ``GET /keepers`` is of the account.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tollhouse.denial import Denial, Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.base import Family, Rule
from tollhouse.families.formats.errors import EVERYWHERE, text_of
from tollhouse.families.meters import AnswerHead
from tollhouse.families.operation import Operation, Route, model_list
from tollhouse.families.units import Charge, Estimate, Units

TALK: Final = Operation("talk", "metered", reads_body=True)
NEW_NEST: Final = Operation("nest", "free", reads_body=True, objects="makes")
NESTS: Final = Operation("nests", "free", objects="lists")
ONE_NEST: Final = Operation("nest", "free")
NO_NEST: Final = Operation("nest", "free", objects="deletes")
RACE: Final = Operation("race", "job", objects="makes")
FEATHERS: Final = Operation("feathers", "mints")
KEEPERS: Final = Operation("keepers", "account")


def read(request: Request, dialect: Dialect) -> Asked:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Refused("bad_request", "A key stands twice in the body.")
        return found

    try:
        document = json.loads(request.body, object_pairs_hook=once)
    except ValueError:
        raise Refused("bad_request", "The body is no JSON.") from None
    if request.operation.kind == "nest" and isinstance(document, dict):
        return Asked(writes=False, reasons=False, kind="nest", document=document)
    if not isinstance(document, dict) or not isinstance(document.get("m"), str):
        raise Refused("bad_request", 'The body has no "m".')
    live = document.get("live") is True
    nest = document.get("nest")
    return Asked(
        document["m"],
        stream=live,
        cap=document.get("most"),
        reasons=False,
        objects=() if nest is None else (str(nest),),
        document=document,
    )


def rewrite(body: bytes, asked: Asked) -> bytes:
    if asked.lowered_to is None:
        return body
    return json.dumps({**asked.document, "most": asked.lowered_to}).encode()


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    words = len(str(asked.document.get("say", "")))
    each = limits.answer if asked.cap is None else asked.cap
    return Estimate(Units(input=words, output=each * asked.choices, requests=1))


class _LineEnds:
    between = True

    def sent(self, data: bytes) -> None:
        self.between = data.endswith(b"\n")

    def cut(self, data: bytes) -> bytes:
        line, end, _ = data.partition(b"\n")
        return line + end


class Lines:
    """`base.Meter` of both kinds of answer: one that is not live is a single line."""

    edits = False

    def __init__(self, live: bool) -> None:
        self.done = False
        self.error = ""
        self.output_seen = 0
        self.boundary = _LineEnds() if live else None
        self.created: tuple[str, ...] = ()
        self._live = live
        self._line = b""
        self._charges: tuple[Charge, ...] = ()

    def feed(self, data: bytes) -> bytes:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._read(line)
        return data

    def flush(self) -> bytes:
        self._read(self._line)
        self._line = b""
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._charges

    def _read(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        self.error = str(said.get("oops", self.error))
        if isinstance(said.get("nest"), str):
            self.created = (said["nest"],)
        if self._live:
            self.output_seen += -(-len(said.get("t", "")) // 4)
        if isinstance(said.get("in"), int) and isinstance(said.get("out"), int):
            units = Units(input=said["in"], output=said["out"], requests=1)
            self._charges = (Charge(said.get("by", ""), units),)
            self.done = self._live


def meter(asked: Asked, head: AnswerHead) -> Lines:
    return Lines(asked.stream)


def error_body(denial: Denial, call_id: str) -> bytes:
    return json.dumps({"oops": denial.code, "say": text_of(denial, call_id)}).encode()


def error_event(denial: Denial, call_id: str) -> bytes:
    return error_body(denial, call_id) + b"\n"


TINY: Final = Family(
    "tiny",
    routes=(
        Route("POST", re.compile("/talk"), TALK),
        *model_list("/parrots"),
        Route("POST", re.compile("/nests"), NEW_NEST),
        Route("GET", re.compile("/nests"), NESTS),
        Route("GET", re.compile("/nests/(?P<object>[a-z0-9-]+)"), ONE_NEST),
        Route("DELETE", re.compile("/nests/(?P<object>[a-z0-9-]+)"), NO_NEST),
        Route("POST", re.compile("/races"), RACE),
        Route("POST", re.compile("/feathers"), FEATHERS),
        Route("GET", re.compile("/keepers/[a-z]+"), KEEPERS),
    ),
    error_body=error_body,
    error_event=error_event,
    verdicts=(
        Rule("no_money", 403, "of the tests", lambda error: error.get("oops") == "broke"),
        *EVERYWHERE,
    ),
    read=read,
    rewrite=rewrite,
    sent_headers=lambda headers, asked: headers,
    estimate=estimate,
    meter=meter,
)
