"""The canonical record: one JSON line a call. Never a body, a query string, a key or a token, and no text of more than 512
bytes.

Past 400 lines because the fields of a line are made beside the lines that have only some of them.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tollhouse.accounts.token import without_tokens
from tollhouse.call import NOTHING, Amount, ChargedBy, Known, Pending, Stage, known
from tollhouse.call_counts import CallCounts
from tollhouse.clipped import clipped
from tollhouse.compact_json import compact_json
from tollhouse.concluding import Concluding
from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.units import Charge
from tollhouse.ledger.limits import format_usd
from tollhouse.outcome import End, Outcome
from tollhouse.timestamps import rfc3339

log = logging.getLogger(__name__)

FIELDS = (
    "ts call_id trace_id session tenant project identity provider host method path model model_served stream clamped status "
    "decision reason gate attempts attempts_unknown breaker key_version ttft_ms duration_ms overhead_ms tokens cost_usd held_usd "
    "charged_by client_ip listener"
)
"""Of a line, in order. Eleven more are in the lines of the calls that have them, and only there: ``subject`` (whom the
platform names, where the identity is no gate token), ``why`` (of a refusal: `WHY_IS_OURS`), ``held_for`` (the tokens for which
money was held), ``tier`` (the service tier that was served, if it is not the standard one), ``units`` (what was counted beside
tokens), ``charges`` (the items of the bill, where it has more than one), ``price`` (the tables by which money was charged),
``fallback_from`` (the provider whose fallback, ``provider``, has answered), ``unsafe_fail_open``, ``notional_usd`` (of a call
with its workload's own login) and ``bytes`` (of a tunnel that was passed on). exports/schemas/call.json has all of them with
their types."""

WHY_IS_OURS: Final = frozenset(
    {
        *("budget_exceeded", "rate_limited", "concurrency_limited", "model_unpriced"),
        *("model_not_allowed", "credential_refused", "credential_unavailable", "breaker_open"),
        *("upstream_unreachable", "upstream_timeout", "upstream_tls", "upstream_bad_answer"),
        *("upstream_address_refused", "timeout", "body_too_large", "headers_too_large"),
        *("too_many_connections", "upload_spool_full", "tls_refused", "internal", "draining"),
    }
)
"""The refusals whose ``why`` is told in words and numbers of the gateway and of its configuration. That of another may repeat
what its client has sent, a query or a credential in the wrong place among it, and is in no line."""


class Concluded(NamedTuple):
    """A call at its end, for its line. ``stage`` is the last one that it reached.

    ``denial`` is ours, of ``gate``. ``ended`` says how a call ended that nobody refused, if not by its answer's end:
    ``client_gone`` or ``stopped``. ``outcome`` is None for a call that did not pass every gate.
    """

    stage: Stage
    status: int = 0
    """What the client was answered; 0 for nothing."""
    denial: Denial | None = None
    gate: str = ""
    ended: str = ""
    outcome: Outcome | None = None
    charged: Amount = NOTHING
    charged_by: ChargedBy = "none"
    waited_s: float = 0.0
    """Seconds spent waiting for the provider or the client: not ``overhead_ms``."""
    host: str = ""
    """Of a tunnel that was refused, as its client named it."""
    fallback_from: str = ""
    """The provider that was asked first; ``stage`` has its fallback, which has answered."""
    tunnelled: tuple[int, int] | None = None
    """Of a tunnel that was passed on: bytes from its client, and to it."""


_NO_OUTCOME: Final = Outcome(End.NEVER_LEFT)
_NOTHING_ASKED: Final = Asked()


def record_of(call: Concluded, now: float) -> dict[str, object]:
    """The line's fields. ``now`` is `time.monotonic()`; durations are milliseconds. What a client chooses itself may carry
    its token.

    ``decision`` is allow, deny (a gate refused) or fail (it was allowed, and then something of ours or of the provider's
    failed).
    """
    found = known(call.stage)
    arrival, provider, identity, project, hold = (
        found.arrival,
        found.provider,
        found.identity,
        found.project,
        found.hold,
    )
    denial, outcome = call.denial, call.outcome or _NO_OUTCOME
    asked = found.requested.asked if found.requested is not None else _NOTHING_ASKED
    duration_s = now - arrival.started
    failed = denial is not None or bool(outcome.error)
    counted = outcome.charges
    record: dict[str, object] = {
        "ts": rfc3339(arrival.timestamp, "milliseconds"),
        "call_id": arrival.id,
        "trace_id": without_tokens(arrival.trace_id),
        "session": without_tokens(arrival.session),
        "tenant": project.tenant if project else identity.tenant if identity else "",
        "project": project.id if project else "",
        "identity": identity.token_id if identity else "",
        **({"subject": without_tokens(identity.subject)} if identity and identity.subject else {}),
        "provider": provider.name if provider else "",
        "host": without_tokens(found.host or call.host),
        "method": arrival.head.method,
        "path": without_tokens(found.path),
        "model": without_tokens(asked.model),
        "model_served": without_tokens(
            next((charge.model for charge in counted if charge.model), "")
        ),
        "stream": asked.stream,
        "clamped": hold.clamped if hold is not None else None,
        "status": call.status,
        "decision": "allow" if not failed else "fail" if call.outcome is not None else "deny",
        "reason": denial.code if denial else "upstream_error" if outcome.error else call.ended,
        "gate": call.gate,
        **_why(denial),
        "attempts": [
            {
                "outcome": clipped(a.outcome),
                "ms": round(a.duration_ms, 1),
                **({"provider": a.provider} if a.provider else {}),
            }
            for a in outcome.attempts
        ],
        "attempts_unknown": outcome.attempts_unknown,
        "breaker": outcome.breaker,
        "key_version": outcome.key_version,
        "ttft_ms": round((outcome.first_byte - arrival.started) * 1000, 1)
        if outcome.first_byte is not None
        else None,
        "duration_ms": round(duration_s * 1000, 1),
        "overhead_ms": round(max(0.0, duration_s - call.waited_s) * 1000, 1),
        "tokens": _sum_of([charge.units.token_counts() for charge in counted]),
        "cost_usd": format_usd(call.charged.nano_usd),
        "held_usd": format_usd(hold.amount.nano_usd if hold is not None else 0),
        "charged_by": call.charged_by,
        "client_ip": arrival.head.client_ip,
        "listener": arrival.head.listener,
        **_where_there(found, counted, call.charged),
        **_held_for(found),
        **({"fallback_from": call.fallback_from} if call.fallback_from else {}),
        **_tunnelled(call.tunnelled),
    }
    for name, value in record.items():
        # Clients and providers choose some of them. Most are short, and are looked at no further.
        if type(value) is str and len(value) > _SHORT:
            record[name] = clipped(value)
    return record


def _where_there(of: Known, counted: tuple[Charge, ...], charged: Amount) -> dict[str, object]:
    """The fields that only some lines have."""
    found = _counted(counted)
    if charged.price:
        found["price"] = charged.price
    if of.admitted is not None and of.admitted.login:
        found["notional_usd"] = format_usd(charged.notional)
    unheld = of.hold is not None and of.hold.unheld
    if unheld or (of.admitted is not None and of.admitted.remembered):
        found["unsafe_fail_open"] = True
    return found


def _held_for(of: Known) -> dict[str, object]:
    """The tokens for which money was held."""
    if of.hold is None or of.requested is None or not of.hold.amount.nano_usd:
        return {}
    units = of.requested.estimate.units
    return {"held_for": {"input": units.input, "output": units.output}}


def _why(denial: Denial | None) -> dict[str, object]:
    if denial is None or not denial.why or denial.code not in WHY_IS_OURS:
        return {}
    return {"why": without_tokens(denial.why)}


def _tunnelled(passed: tuple[int, int] | None) -> dict[str, object]:
    return {} if passed is None else {"bytes": dict(zip(("sent", "received"), passed, strict=True))}


def _counted(counted: tuple[Charge, ...]) -> dict[str, object]:
    """What was counted beside tokens, and the items of a bill that has several."""
    found: dict[str, object] = {}
    if beside := _sum_of([charge.units.other_counts() for charge in counted]):
        found["units"] = beside
    if len(counted) > 1 or (counted and counted[0].calls > 1):
        found["charges"] = [
            {
                "model": clipped(without_tokens(charge.model)),
                **charge.units.token_counts(),
                **charge.units.other_counts(),
                **_terms(charge),
            }
            for charge in counted
        ]
    elif counted and counted[0].tier not in _STANDARD:
        found["tier"] = counted[0].tier
    return found


_STANDARD: Final = frozenset({"", "default", "standard", "auto"})
"""Names of the tier that most calls are served at."""


def _terms(charge: Charge) -> dict[str, object]:
    """By what an item of the bill was priced, beside its model and its counts, as far as it is not the usual."""
    return {
        **({"tier": charge.tier} if charge.tier not in _STANDARD else {}),
        **({"of_requests": charge.calls} if charge.calls > 1 else {}),
        **({"paid_usd": format_usd(charge.paid)} if charge.paid is not None else {}),
    }


_SHORT: Final = 128
"""Characters that are never more than 512 bytes."""


def _sum_of[N: (int, float)](counts: Sequence[Mapping[str, N]]) -> dict[str, N]:
    if len(counts) == 1:
        return dict(counts[0])
    total: dict[str, N] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total


def swept_record(fields: Mapping[str, str]) -> dict[str, object]:
    """The line of a call whose gateway died, as the gateway that swept its hold writes it: ``fields`` is what the hold
    carried and was charged; what nobody knows any more is empty. A call that was only slow has its own line as well."""
    empty = {**empty_record(), "decision": "allow", "reason": "swept"}
    carried = {key: clipped(without_tokens(value)) for key, value in fields.items() if key in empty}
    let_through = {"unsafe_fail_open": True} if fields.get("unsafe_fail_open") == "true" else {}
    return {**empty, **carried, "stream": fields.get("stream") == "true", **let_through}


def late_record(
    pending: Pending, charges: tuple[Charge, ...], charged: Amount, charged_by: ChargedBy
) -> dict[str, object]:
    """The line of a call whose usage came later: what it cost in the end. Its own line came before."""
    carried = {key: clipped(without_tokens(value)) for key, value in pending.carried.items()}
    served = next((charge.model for charge in charges if charge.model), "")
    return {
        **empty_record(),
        **carried,
        "call_id": pending.call_id,
        "tenant": pending.tenant,
        "project": pending.project,
        "host": pending.host,
        "model_served": clipped(without_tokens(served)),
        "stream": False,
        "decision": "allow",
        "reason": "later",
        "tokens": _sum_of([charge.units.token_counts() for charge in charges]),
        "cost_usd": format_usd(charged.nano_usd),
        "held_usd": format_usd(pending.held.nano_usd),
        "charged_by": charged_by,
        **_counted(charges),
        **({"price": charged.price} if charged.price else {}),
    }


def broken_record(call: Concluded) -> dict[str, object]:
    """The line of a call whose own line can't be made, for a fault of ours: whose it is and what it cost."""
    found = known(call.stage)
    return {
        **empty_record(),
        "ts": rfc3339(found.arrival.timestamp, "milliseconds"),
        "call_id": found.arrival.id,
        "tenant": found.project.tenant if found.project else "",
        "project": found.project.id if found.project else "",
        "identity": found.identity.token_id if found.identity else "",
        "status": call.status,
        "decision": "fail",
        "reason": "internal",
        "stream": False,
        "cost_usd": format_usd(call.charged.nano_usd),
        "charged_by": call.charged_by,
    }


def empty_record() -> dict[str, object]:
    """What nobody knows is empty."""
    return {
        **dict.fromkeys(FIELDS.split(), ""),
        **dict.fromkeys(("status", "attempts_unknown"), 0),
        **dict.fromkeys(("ttft_ms", "duration_ms", "overhead_ms", "clamped")),
        "attempts": [],
        "tokens": {},
    }


class Entry(NamedTuple):
    """A line that is written when its call is settled."""

    record: Mapping[str, object]
    line: bytes
    place: int
    """Where it is kept meanwhile."""
    call: Concluded


def _line(record: Mapping[str, object]) -> bytes:
    return compact_json(record) + b"\n"


class Book:
    """Writes lines to a file or, for ``-``, to stdout. Each line is one write to a descriptor opened for appending, so lines
    of several processes do not mix."""

    def __init__(
        self,
        destination: Path | None,
        clock: Callable[[], float] = time.monotonic,
        concluding: Concluding | None = None,
        sums: CallCounts | None = None,
    ) -> None:
        self.on_uncharged: Callable[[Mapping[str, object], bool], None] = lambda record, settled: (
            None
        )
        """Gets the record of each call that was refused, or of which no settle tells Redis; and whether a settle tells of it. It
        raises nothing."""
        self.on_line: Callable[[Mapping[str, object], Concluded | None], None] | None = None
        """Gets each record, once its call is settled, and the call where there is one. It keeps nothing of the call, and raises
        nothing."""
        self.clock = clock
        self._concluding = concluding or Concluding()
        self._path = destination
        self._torn = False
        """The last line was written in part."""
        self._fd = self._open()
        self.sums = sums or CallCounts()

    def _open(self) -> int:
        if self._path is None:
            if sys.__stdout__ is None:
                # Closed before we began: descriptor 1 may be anything by now.
                raise OSError(errno.EBADF, "stdout is closed")
            return os.dup(sys.__stdout__.fileno())
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def record(self, call: Concluded) -> dict[str, object]:
        """Raises nothing: a call is settled and written whatever is wrong with its line."""
        try:
            return record_of(call, self.clock())
        except Exception:
            log.exception("call %s: its line could not be made whole", known(call.stage).arrival.id)
            return broken_record(call)

    def begin(self, record: dict[str, object], call: Concluded) -> Entry:
        """The line is made, and the call will be settled now. If this process is killed before `end`, another one writes it."""
        line = _line(record)
        return Entry(record, line, self._concluding.begin(line), call)

    def end(self, entry: Entry, *, settled: bool = True) -> None:
        """Writes what was begun. Never raises."""
        self._write(entry.record, entry.line, settled, entry.call)
        self._concluding.end(entry.place)

    def write(self, record: dict[str, object], *, settled: bool = True) -> None:
        """Never raises: a full disk is logged and does not end calls. ``settled``: a settle tells Redis of the call."""
        self._write(record, _line(record), settled, None)

    def _write(
        self, record: Mapping[str, object], line: bytes, settled: bool, call: Concluded | None
    ) -> None:
        if not settled or record.get("decision") == "deny":
            self.on_uncharged(record, settled)
        try:
            self.sums.add(record)
        except Exception:
            log.exception("call %s could not be counted for the metrics", record.get("call_id"))
        if self.on_line is not None:
            self.on_line(record, call)
        rest = b"\n" + line if self._torn else line
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._torn = False
        except OSError as e:
            self._torn = self._torn or len(rest) < len(line)
            log.error(
                "the line of call %s could not be written (%s)", record.get("call_id"), e.strerror
            )

    def swept(self, fields: Mapping[str, str]) -> None:
        """Write the line of a hold that was swept. Never raises."""
        self.write(swept_record(fields))

    def reopen(self) -> None:
        """After the file was moved away (SIGHUP, logrotate). If that fails, the old one is written on."""
        try:
            new = self._open()
        except OSError as e:
            log.error(
                "%s could not be opened again (%s): lines go on into the old file",
                self._path,
                e.strerror,
            )
            return
        old, self._fd, self._torn = self._fd, new, False
        os.close(old)

    def close(self) -> None:
        """A line that comes later is lost, and said."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
