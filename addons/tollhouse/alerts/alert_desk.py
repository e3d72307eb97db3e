"""`tollhouse alerts test` and `list`: whether receivers can be told, and what waits for them."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.outbox import Outbox
from tollhouse.alerts.receiver import Receiver
from tollhouse.timestamps import rfc3339

Row = dict[str, Any]


class AlertDesk:
    """``receivers`` are the gateway's own, or opened for one command."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        outbox: Outbox,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._receivers = receivers
        self._outbox = outbox
        self._wall_clock = wall_clock

    async def test(self, name: str | None = None) -> list[Row]:
        """Sends a message that says it is a test, to one receiver or to all, and not by way of the outbox. A row for each:
        ``receiver``, ``form``, ``id``, ``result`` (delivered or failed), ``status`` (None without an answer), ``ms`` and
        ``why``."""
        found = [one for one in self._receivers if name is None or one.name == name]
        return list(await asyncio.gather(*(self._test(one) for one in found)))

    async def _test(self, receiver: Receiver) -> Row:
        now = self._wall_clock()
        event = AlertEvent(
            "alert.test",
            (secrets.token_hex(16),),
            now,
            now,
            {"test": True, "receiver": receiver.name},
        )
        began = time.monotonic()
        told = await receiver.tell(event.id, event.body)
        return {
            "receiver": receiver.name,
            "form": receiver.form,
            "id": event.id,
            "result": "failed" if told.why else "delivered",
            "status": told.status or None,
            "ms": round((time.monotonic() - began) * 1000),
            "why": told.why,
        }

    async def listed(self) -> Row:
        """``receivers``: how many events were ``fired``, ``delivered``, ``given_up`` and ``dropped`` for each, over all gateways,
        and how many are ``waiting``. ``waiting``: the first 100 of each. Raises `LedgerUnavailable`."""
        counts = await self._outbox.counts()
        rows, waiting = [], []
        for receiver in self._receivers:
            mine = {
                word: counts[receiver.name, word]
                for word in ("fired", "delivered", "given_up", "dropped")
            }
            left = await self._outbox.count(receiver.name)
            rows.append({"receiver": receiver.name, "form": receiver.form, **mine, "waiting": left})
            for row in await self._outbox.waiting(receiver.name):
                payload = json.loads(row.body)
                waiting.append(
                    {
                        "receiver": row.receiver,
                        "id": row.id,
                        "type": payload["type"],
                        "seen_at": payload["timestamp"],
                        "attempts": row.attempts,
                        "due_at": rfc3339(row.due),
                        "why": row.why,
                    }
                )
        return {"receivers": rows, "waiting": waiting}
