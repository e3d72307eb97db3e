"""Which framing an answer has: what was asked for, its content type and its first bytes decide together.

A content type alone does not decide: servers send events under ``text/plain``, ``application/json`` or no type at all, and
answer a request for a stream with an error that is one JSON object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tollhouse.families.meters import Boundary, Later, Meter
from tollhouse.families.units import Charge

_EVENTS: Final = "text/event-stream"
_BOM: Final = b"\xef\xbb\xbf"
_JSON_BEGINS: Final = frozenset(b'{["-0123456789')
_WORDS: Final = (b"true", b"false", b"null")


class Sniffed:
    """A `meters.Meter` that becomes the one of ``of_json`` or of ``of_events`` with the first byte that is no white space.

    ``may_edit`` says that the meter of events edits.
    """

    def __init__(
        self,
        streamed: bool,
        content_type: str,
        *,
        of_json: Callable[[], Meter],
        of_events: Callable[[], Meter],
        may_edit: bool,
    ) -> None:
        self._events = streamed or content_type.strip().lower().startswith(_EVENTS)
        self._of_json = of_json
        self._of_events = of_events
        self._may_edit = may_edit
        self._meter: Meter | None = None

    @property
    def output_seen(self) -> int:
        return 0 if self._meter is None else self._meter.output_seen

    @property
    def done(self) -> bool:
        return self._meter is not None and self._meter.done

    @property
    def error(self) -> str:
        return "" if self._meter is None else self._meter.error

    @property
    def edits(self) -> bool:
        return self._may_edit if self._meter is None else self._meter.edits

    @property
    def boundary(self) -> Boundary | None:
        return None if self._meter is None else self._meter.boundary

    @property
    def created(self) -> tuple[str, ...]:
        return () if self._meter is None else self._meter.created

    @property
    def later(self) -> Later | None:
        found: Later | None = getattr(self._meter, "later", None)
        return found

    @property
    def ended(self) -> bool:
        return bool(getattr(self._meter, "ended", False))

    def feed(self, data: bytes) -> bytes:
        if self._meter is None:
            head = data.removeprefix(_BOM).lstrip()
            if not head or _BOM.startswith(head):
                return data
            self._meter = self._of_json() if self._is_json(head) else self._of_events()
        return self._meter.feed(data)

    def flush(self) -> bytes:
        return b"" if self._meter is None else self._meter.flush()

    def finish(self) -> tuple[Charge, ...]:
        return () if self._meter is None else self._meter.finish()

    def _is_json(self, head: bytes) -> bool:
        """No event begins like an object, and no JSON begins like a field of an event. A number or a word may be the beginning
        of either where events are expected, and is no answer of any API."""
        if head[0] in b"{[":
            return True
        return not self._events and (head[0] in _JSON_BEGINS or head.startswith(_WORDS))
