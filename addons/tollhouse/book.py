"""The canonical record: one JSON line a call. Never a body, a query string, a key or a token."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tollhouse.accounts.token import without_tokens
from tollhouse.call import Call
from tollhouse.ledger.limits import format_usd
from tollhouse.timestamps import rfc3339

log = logging.getLogger(__name__)

FIELDS = (
    "ts call_id trace_id tenant project identity provider host method path model model_served stream clamped status decision "
    "reason gate attempts attempts_unknown breaker key_version ttft_ms duration_ms overhead_ms tokens cost_usd held_usd "
    "charged_by client_ip listener"
)
"""Of a line, in order. One more, ``unsafe_fail_open``, is in the lines of the calls that it let through, and only there."""


def record_of(call: Call, now: float) -> dict[str, object]:
    """The line's fields. ``now`` is `time.monotonic()`; durations are milliseconds. What a client chooses itself may carry
    its token.

    ``decision`` is allow, deny (a gate refused) or fail (it was allowed, and then something of ours or upstream failed).
    """
    denial = call.denial
    duration_s = now - call.started
    return {
        "ts": rfc3339(call.timestamp, "milliseconds"),
        "call_id": call.id,
        "trace_id": without_tokens(call.trace_id),
        "tenant": call.project.tenant if call.project else call.identity.tenant if call.identity else "",
        "project": call.project.id if call.project else "",
        "identity": call.identity.token_id if call.identity else "",
        "provider": call.provider.name if call.provider else "",
        "host": without_tokens(call.host),
        "method": call.head.method,
        "path": without_tokens(call.path),
        "model": without_tokens(call.model),
        "model_served": without_tokens(call.model_served),
        "stream": call.stream,
        "clamped": call.clamped,
        "status": call.status,
        "decision": "allow" if denial is None else "fail" if call.cleared else "deny",
        "reason": denial.code if denial else call.ended,
        "gate": call.gate,
        "attempts": [{"outcome": a.outcome, "ms": round(a.duration_ms, 1)} for a in call.attempts],
        "attempts_unknown": call.attempts_unknown,
        "breaker": call.breaker,
        "key_version": call.key_version,
        "ttft_ms": round((call.first_byte - call.started) * 1000, 1) if call.first_byte is not None else None,
        "duration_ms": round(duration_s * 1000, 1),
        "overhead_ms": round(max(0.0, duration_s - call.waited_s) * 1000, 1),
        "tokens": call.usage.as_dict() if call.usage else {},
        "cost_usd": format_usd(call.charged.nano_usd),
        "held_usd": format_usd(call.estimate.nano_usd),
        "charged_by": call.charged_by,
        "client_ip": call.head.client_ip,
        "listener": call.head.listener,
        **({"unsafe_fail_open": True} if call.unsafe_fail_open else {}),
    }


def swept_record(fields: Mapping[str, str]) -> dict[str, object]:
    """The line of a call whose gateway died, as the gateway that swept its hold writes it: ``fields`` is what the hold
    carried and was charged; what nobody knows any more is empty. A call that was only slow has its own line as well."""
    empty: dict[str, object] = {
        **dict.fromkeys(FIELDS.split(), ""),
        **dict.fromkeys(("status", "attempts_unknown"), 0),
        **dict.fromkeys(("ttft_ms", "duration_ms", "overhead_ms", "clamped")),
        "attempts": [],
        "tokens": {},
        "decision": "allow",
        "reason": "swept",
    }
    known = {key: without_tokens(value) for key, value in fields.items() if key in empty}
    let_through = {"unsafe_fail_open": True} if fields.get("unsafe_fail_open") == "true" else {}
    return {**empty, **known, "stream": fields.get("stream") == "true", **let_through}


class Book:
    """Writes lines to a file or, for ``-``, to stdout. Each line is one write to a descriptor opened for appending, so lines
    of several processes do not mix."""

    def __init__(self, destination: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._path = destination
        self._torn = False
        """The last line was written in part."""
        self._fd = self._open()
        self.counts: Counter[tuple[object, object, object]] = Counter()
        """Lines by provider ("" for none), status and reason: since the start."""

    def _open(self) -> int:
        if self._path is None:
            if sys.__stdout__ is None:
                # Closed before we began: descriptor 1 may be anything by now.
                raise OSError(errno.EBADF, "stdout is closed")
            return os.dup(sys.__stdout__.fileno())
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def record(self, call: Call) -> dict[str, object]:
        return record_of(call, self._clock())

    def write(self, record: dict[str, object]) -> None:
        """Never raises: a full disk is logged and does not end calls."""
        self.counts[record.get("provider", ""), record.get("status", 0), record.get("reason", "")] += 1
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        rest = b"\n" + line if self._torn else line
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._torn = False
        except OSError as e:
            self._torn = self._torn or len(rest) < len(line)
            log.error("the line of call %s could not be written (%s)", record.get("call_id"), e.strerror)

    def swept(self, fields: Mapping[str, str]) -> None:
        """Write the line of a hold that was swept. Never raises."""
        self.write(swept_record(fields))

    def reopen(self) -> None:
        """After the file was moved away (SIGHUP, logrotate). If that fails, the old one is written on."""
        try:
            new = self._open()
        except OSError as e:
            log.error("%s could not be opened again (%s): lines go on into the old file", self._path, e.strerror)
            return
        old, self._fd, self._torn = self._fd, new, False
        os.close(old)

    def close(self) -> None:
        """A line that comes later is lost, and said."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
