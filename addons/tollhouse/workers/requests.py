"""What the desk asks of the supervisor: operations, which workers do, the metrics of all of them, and who they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tollhouse.site.totals import Families, gauge, merged
from tollhouse.workers.channel import Message
from tollhouse.workers.child import Phase, Worker
from tollhouse.workers.children import Children
from tollhouse.workers.desk_process import DeskProcess
from tollhouse.workers.estate import Estate
from tollhouse.workers.succession import Succession
from tollhouse.workers.upgrade import Upgrade

_REPORT_S: Final = 1.0
"""How long the metrics of a worker are waited for; those that it told before count then."""

EVERYWHERE: Final = frozenset({"prices_reload"})
"""Operations that each worker has to do for itself."""


@dataclass
class _Gathering:
    """A request of the desk that waits for workers."""

    request: int
    waiting: set[int]
    until: float
    what: str
    error: Message | None = None
    result: Any = None


class Requests:
    """Of the desk, and the answers of workers that they wait for."""

    def __init__(
        self,
        children: Children,
        desk: DeskProcess,
        succession: Succession,
        upgrade: Upgrade,
        estate: Estate,
        clock: Callable[[], float],
    ) -> None:
        self._children = children
        self._desk = desk
        self._succession = succession
        self._upgrade = upgrade
        self._estate = estate
        self._clock = clock
        self._gatherings: dict[int, _Gathering] = {}
        self._number = 0

    @property
    def waiting(self) -> bool:
        return bool(self._gatherings)

    def heed(self, message: Message) -> None:
        """The desk asks."""
        request = message["id"]
        match message["what"]:
            case "report":
                everybody = list(self._children.workers.values())
                self._gather(request, "report", everybody, {"kind": "tell"})
            case "reload":
                self._succession.reload((request,))
            case "upgrade":
                self._upgrade.begin((request,))
            case "workers":
                self._desk.answer(request, {"status": 200, "result": self._children.shown()})
            case "addresses":
                addresses = self._succession.current.sockets.addresses()
                self._desk.answer(request, {"status": 200, "result": addresses})
            case "operation":
                self._operate(request, message["name"], message["arguments"], message.get("by"))

    def _operate(self, request: int, name: str, arguments: Any, by: Any) -> None:
        able = self._succession.able()
        if not able:
            why = "no worker is ready: look into the log, and try again"
            self._desk.answer(request, {"status": 503, "error": why})
            return
        asked = able if name in EVERYWHERE else able[:1]
        message = {"kind": "operation", "name": name, "arguments": arguments, "by": by}
        self._gather(request, "operation", asked, message, until=float("inf"))

    def _gather(
        self,
        request: int,
        what: str,
        workers: list[Worker],
        message: Message,
        until: float | None = None,
    ) -> None:
        self._number += 1
        until = self._clock() + _REPORT_S if until is None else until
        gathering = _Gathering(request, {worker.pid for worker in workers}, until, what)
        self._gatherings[self._number] = gathering
        for worker in workers:
            worker.channel.send({**message, "id": self._number})
        if not workers:
            self._finish(gathering)

    def heed_worker(self, worker: Worker, message: Message) -> None:
        """A report or a result."""
        if (gathering := self._gatherings.get(message.get("id") or 0)) is not None:
            self._gathered(gathering, worker, message if message["kind"] == "result" else None)

    def ended(self, worker: Worker) -> None:
        """Nobody waits for it any more."""
        for gathering in tuple(self._gatherings.values()):
            self._gathered(gathering, worker, None)

    def look(self) -> None:
        """What has waited for long enough is answered."""
        now = self._clock()
        for gathering in tuple(self._gatherings.values()):
            if now >= gathering.until:
                self._finish(gathering)

    def _gathered(self, gathering: _Gathering, worker: Worker, message: Message | None) -> None:
        if worker.pid not in gathering.waiting:
            return
        gathering.waiting.discard(worker.pid)
        if gathering.what == "operation":
            if message is None:
                why = "the worker that was asked has died: look whether the change was made before you try again"
                message = {"status": 503, "error": why}
            if message["status"] != 200:
                gathering.error = gathering.error or message
            else:
                gathering.result = message["result"]
        if not gathering.waiting:
            self._finish(gathering)

    def _finish(self, gathering: _Gathering) -> None:
        for number, each in tuple(self._gatherings.items()):
            if each is gathering:
                del self._gatherings[number]
        if gathering.what == "report":
            answer = {"status": 200, "result": self._families()}
        elif (error := gathering.error) is not None:
            answer = {"status": error["status"], "error": error.get("error", "")}
        else:
            answer = {"status": 200, "result": gathering.result}
        self._desk.answer(gathering.request, answer)

    def _families(self) -> Families:
        workers = self._children.workers.values()
        phases = Counter(worker.phase for worker in workers)
        found = merged([self._estate.counters, *(worker.report for worker in workers)])
        return [
            *found,
            gauge(
                "tollhouse_workers",
                "Worker processes, by state.",
                [({"state": phase.value}, phases[phase]) for phase in Phase],
            ),
            gauge(
                "tollhouse_worker_calls_in_progress",
                "Calls under way, by worker.",
                [
                    ({"worker": str(number)}, worker.status.get("calls", 0))
                    for number, worker in sorted(self._succession.current.workers.items())
                ],
            ),
            {
                "name": "tollhouse_worker_deaths",
                "type": "counter",
                "help": "Workers that ended by themselves and were started again.",
                "samples": [["tollhouse_worker_deaths_total", {}, self._estate.deaths]],
            },
        ]
