"""The answers that a Realtime session has asked for and that have not begun, and whose an error is.

An error names the message that it is about by its ``event_id``, if the client gave it one. Else it may be about any message that
was not confirmed: https://platform.openai.com/docs/api-reference/realtime-server-events/error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.dialogue import Exposed
from tollhouse.families.formats.document import refuse
from tollhouse.families.openai.realtime import EVENT_TYPE
from tollhouse.families.openai.responses_usage import id_of

_CONFIRMED_BY: Final = {
    b"session.updated": "session.update",
    b"transcription_session.updated": "transcription_session.update",
    b"input_audio_buffer.cleared": "input_audio_buffer.clear",
    b"output_audio_buffer.cleared": "output_audio_buffer.clear",
    b"conversation.item.created": "conversation.item.create",
    b"conversation.item.added": "conversation.item.create",
    b"conversation.item.retrieved": "conversation.item.retrieve",
    b"conversation.item.truncated": "conversation.item.truncate",
    b"conversation.item.deleted": "conversation.item.delete",
    b"input_audio_buffer.committed": "input_audio_buffer.commit",
    b"response.done": "response.cancel",
}
_APPEND: Final = "input_audio_buffer.append"
"""It is confirmed by nothing but the end of its buffer."""
_ENDS_BUFFER: Final = (b"input_audio_buffer.committed", b"input_audio_buffer.cleared")
_IS_ACTIVE: Final = "conversation_already_has_active_response"
"""The error of a ``response.create`` alone."""


class _Wanted(NamedTuple):
    exposed: Exposed
    event_id: str


class WantedAnswers:
    def __init__(self) -> None:
        self._wanted: list[_Wanted] = []
        self._suspects: Counter[str] = Counter()
        """Other messages without an ``event_id`` that were not confirmed."""

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def exposed(self) -> tuple[Exposed, ...]:
        return tuple(one.exposed for one in self._wanted)

    def want(self, exposed: Exposed, event_id: str) -> None:
        self._refuse_second(event_id)
        self._wanted.append(_Wanted(exposed, event_id))

    @property
    def last(self) -> Exposed:
        return self._wanted[-1].exposed

    def lower_last(self, cap: int) -> None:
        asked, found = self._wanted[-1].exposed
        lower = Exposed(asked, found.of_output(cap))
        self._wanted[-1] = self._wanted[-1]._replace(exposed=lower)

    def withdraw(self) -> None:
        """The last one."""
        self._wanted.pop()

    def sent(self, kind: str, event_id: str) -> None:
        """Another message of the client's."""
        self._refuse_second(event_id)
        if not event_id:
            self._suspects[kind] += 1

    def _refuse_second(self, event_id: str) -> None:
        if event_id and any(one.event_id == event_id for one in self._wanted):
            refuse('The "event_id" is that of an answer that was asked for and has not begun.')

    def begin(self) -> Exposed | None:
        """The one that begins; None if none was asked for."""
        return self._wanted.pop(0).exposed if self._wanted else None

    def told(self, message: bytes) -> None:
        """A message of the provider's may confirm one of the client's."""
        if not self._suspects:
            return
        match = EVENT_TYPE.match(message)
        if match is None:
            return
        kind = _CONFIRMED_BY.get(match[1])
        if kind is not None:
            self._clear(kind)
        if match[1] in _ENDS_BUFFER:
            del self._suspects[_APPEND]

    def _clear(self, kind: str) -> None:
        self._suspects[kind] -= 1
        if self._suspects[kind] <= 0:
            del self._suspects[kind]

    def failed(self, error: Mapping[str, Any]) -> bool:
        """An error of the provider's. Whether it is the end of one of the answers."""
        about = id_of(error.get("event_id"))
        if about:
            found = [one for one in self._wanted if one.event_id == about]
        elif error.get("code") == _IS_ACTIVE:
            found = list(self._wanted)
        elif self._suspects:
            # It is no answer's for sure, and an answer that was asked for is charged until it is known to have failed.
            self._clear(next(iter(self._suspects)))
            return False
        else:
            found = [one for one in self._wanted if not one.event_id]
        if not found:
            return False
        # Of several the dearest stay.
        cheapest = min(found, key=lambda one: one.exposed.estimate.units.tokens)
        self._wanted.remove(cheapest)
        return True
