"""The supervisor's side of the desk: its process, what it is told, and the answers to what it asked."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final

from tollhouse.workers.channel import Message
from tollhouse.workers.child import Child, how
from tollhouse.workers.children import Children
from tollhouse.workers.restarts import FIRST_S, Restarts

log = logging.getLogger(__name__)

_DESK_S: Final = 5.0
"""How long a desk may take to end."""


class DeskProcess:
    """Started again whenever it ends."""

    def __init__(self, children: Children, clock: Callable[[], float]) -> None:
        self._children = children
        self._clock = clock
        self._due = 0.0
        self._restarts = Restarts()
        self._told_at = float("-inf")

    @property
    def due(self) -> bool:
        """There is none, and it may be started."""
        return self._children.desk is None and self._clock() >= self._due

    def start(self, run: Callable[[socket.socket], int], shed: Callable[[], None]) -> bool:
        """False if the system gives no process; it is tried again then."""
        now = self._clock()
        try:
            pid, channel = self._children.fork(run, shed)
        except OSError as error:
            self._due = max(self._restarts.died(now, 0.0), now + FIRST_S)
            log.error("the process of probes and commands can't be started (%s)", error)
            return False
        self._children.add_desk(Child(pid, channel, now, now))
        return True

    def dismiss(self) -> None:
        desk = self._children.desk
        if desk is not None and desk.ended_by is None:
            desk.send_signal(signal.SIGTERM)
            desk.ended_by = self._clock() + _DESK_S

    def ended(self, desk: Child, code: int) -> None:
        self._children.forget(desk)
        now = self._due = self._clock()
        if desk.ended_by is None:
            self._due = self._restarts.died(now, now - desk.started)
            # A stop that is sent to the whole group ends it in order, before anybody here tells it to.
            level = logging.ERROR if code else logging.INFO
            log.log(level, "the process of probes and commands ended with %s", how(code))

    def told_for_s(self) -> float:
        """Since it was told last how the workers are."""
        return self._clock() - self._told_at

    def tell(self, reasons: Sequence[str], warnings: Sequence[str]) -> None:
        """How the workers are."""
        self._told_at = self._clock()
        self._send({"kind": "status", "reasons": list(reasons), "warnings": list(warnings)})

    def answer(self, request: int, answer: Message) -> None:
        """To what it has asked: ``status``, and ``result`` or ``error``."""
        self._send({**answer, "kind": "answer", "id": request})

    def refuse(self, requests: Sequence[int], error: str) -> None:
        for request in requests:
            self.answer(request, {"status": 409, "error": error})

    def _send(self, message: Message) -> None:
        if self._children.desk is not None:
            self._children.desk.channel.send(message)
