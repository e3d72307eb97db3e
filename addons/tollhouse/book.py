"""The canonical record: one JSON line a call. Never a body, a query string, a key or a token."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tollhouse.admit.token import without_tokens
from tollhouse.call import Call

log = logging.getLogger(__name__)

NANO = 10**9


def usd(nano_usd: int) -> str:
    """Nano-dollars as a decimal string in dollars, without trailing zeros: 1500000000 -> "1.5"."""
    sign, nano_usd = ("-", -nano_usd) if nano_usd < 0 else ("", nano_usd)
    whole, fraction = divmod(nano_usd, NANO)
    digits = f"{fraction:09d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def record_of(call: Call, now: float) -> dict[str, object]:
    """The line's fields. ``now`` is `time.monotonic()`; durations are milliseconds. What a client chooses itself may carry
    its token.

    ``decision`` is allow, deny (a gate refused) or fail (it was allowed, and then something of ours or upstream failed).
    """
    denial = call.denial
    duration_s = now - call.started
    return {
        "ts": datetime.fromtimestamp(call.timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
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
        "cost_usd": usd(call.charged.nano_usd),
        "held_usd": usd(call.estimate.nano_usd),
        "charged_by": call.charged_by,
        "client_ip": call.head.client_ip,
        "listener": call.head.listener,
    }


class Book:
    """Writes lines to a file or, for ``-``, to stdout. Each line is one write to a descriptor opened for appending, so lines
    of several processes do not mix."""

    def __init__(self, destination: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._path = destination
        self._fd = self._open()

    def _open(self) -> int:
        if self._path is None:
            return os.dup(sys.stdout.fileno())
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def record(self, call: Call) -> dict[str, object]:
        return record_of(call, self._clock())

    def write(self, record: dict[str, object]) -> None:
        """Never raises: a full disk is logged and does not end calls."""
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=True) + "\n"
        try:
            os.write(self._fd, line.encode())
        except OSError as e:
            log.error("the line of call %s could not be written (%s)", record.get("call_id"), e.strerror)

    def reopen(self) -> None:
        """After the file was moved away (SIGHUP, logrotate)."""
        old, self._fd = self._fd, self._open()
        os.close(old)

    def close(self) -> None:
        os.close(self._fd)
