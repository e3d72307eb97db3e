"""The sound of a Realtime session that is written down, by a model of its own: https://platform.openai.com/docs/guides/realtime-transcription.

Sound is heard, then committed as an item, and the item's transcription comes with its own usage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked
from tollhouse.families.dialogue import Exposed, Unfinished
from tollhouse.families.openai.responses_usage import details_of, id_of
from tollhouse.families.units import Charge, Estimate, Units

_STEP_S: Final = 100
"""Seconds are exposed in steps of so many, so that a hold is not made larger with each message."""
_TOKENS_A_SECOND: Final = 10
"""Of sound that is heard (https://platform.openai.com/docs/guides/realtime-costs)."""
_WORDS_A_SECOND: Final = 4
"""Tokens of the words in a second of fast speech."""
_MOST: Final = 4_096
"""Items whose transcription has not come."""
TOLD: Final = (
    *(b'"input_audio_buffer.committed"', b'"input_audio_buffer.cleared"'),
    *(b'input_audio_transcription.completed"', b'input_audio_transcription.failed"'),
)
"""What stands in the events that `WrittenSound.told` reads."""


class WrittenSound:
    """``named`` gives the model of a transcriber that is called by a deployment's name."""

    def __init__(self, named: Callable[[Asked], Asked]) -> None:
        self.transcriber = ""
        """As the session names it; "" where nothing is written down."""
        self._confirmed = ""
        """The same as the provider has told it, for the sound that it has committed since."""
        self.committed = 0
        """How many items there were."""
        self._named = named
        self._heard = 0.0
        """Seconds that are in no item yet."""
        self._items: dict[str, tuple[str, float]] = {}
        """Items whose transcription has not come: by whom, and how many seconds."""

    def hear(self, seconds: float) -> bool:
        """Whether another step is exposed now."""
        before = self._steps
        self._heard += seconds
        return self._steps != before

    @property
    def _seconds(self) -> float:
        return self._heard + sum(seconds for _, seconds in self._items.values())

    @property
    def _steps(self) -> int:
        return int(self._seconds) // _STEP_S + 1

    def learn(self, session: Mapping[str, Any], *, sure: bool) -> None:
        """The provider tells the session's settings. ``sure``: it has answered each update."""
        told = _told(session)
        if told is not None:
            self._confirmed = told
            if not told and sure:
                self.transcriber = ""
        elif sure:
            self._confirmed = self.transcriber

    def told(self, kind: object, item: object) -> None:
        """An event of the provider's."""
        if kind == "input_audio_buffer.committed":
            if self._confirmed and len(self._items) < _MOST:
                self._items[id_of(item)] = self._confirmed, self._heard
            self.committed += 1
            self._heard = 0.0
        elif kind == "input_audio_buffer.cleared":
            self._heard = 0.0
        elif isinstance(kind, str) and kind.endswith((".completed", ".failed")):
            self._items.pop(id_of(item), None)

    def exposed(self) -> tuple[Charge, ...]:
        """What may still be charged for the sound that was heard."""
        if not self.transcriber:
            return ()
        seconds = self._steps * _STEP_S
        model = self.model_of(self.transcriber)
        return (Charge(model, _units(model, seconds, 1.0)),)

    def unfinished(self, asked: Asked) -> list[Unfinished]:
        """The items whose transcription is under way: who leaves before its end has had it word by word."""
        found = []
        for name, seconds in self._items.values():
            model = self.model_of(name)
            units = _units(model, seconds, _WORDS_A_SECOND / _TOKENS_A_SECOND)
            by = asked._replace(model=model, other_models=(), reasons=False)
            found.append(Unfinished(Exposed(by, Estimate(units)), units.output, 0.0))
        return found

    def model_of(self, name: str) -> str:
        """The model of a transcriber as the session names it."""
        return self._named(Asked(name)).model


def _units(model: str, seconds: float, said: float) -> Units:
    """``said`` are the tokens that are written for one that is heard."""
    if "whisper" in model:
        return Units(milliseconds=int(seconds * 1000), requests=1)
    tokens = int(seconds * _TOKENS_A_SECOND)
    return Units(input=tokens, output=int(tokens * said), input_audio=tokens, requests=1)


def _told(session: Mapping[str, Any]) -> str | None:
    """Who writes down, as the provider tells the settings of a session: "" is nobody, and None that it does not say."""
    hears = details_of(details_of(session.get("audio")).get("input"))
    places = [hears.get("transcription")] if "transcription" in hears else []
    if "input_audio_transcription" in session:
        places.append(session["input_audio_transcription"])
    names = [id_of(details_of(place).get("model")) for place in places]
    return next(filter(None, names), "") if names else None
