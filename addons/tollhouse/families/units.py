"""What a provider puts on its bill for a call: counts in the units that it charges by. Money is not known here."""

from __future__ import annotations

from typing import Final, NamedTuple


class Units(NamedTuple):
    """Counts of one charge, each at least 0.

    ``input`` is the whole input in tokens, with the tokens that were read from a cache or written
    to it. ``output`` is the whole output in tokens, with reasoning. The fields of `INPUT_PARTS` are
    parts of ``input``, and those of `OUTPUT_PARTS` are parts of ``output``. They are never
    additions. ``cache_write_1h`` is the part of ``cache_write`` that is kept for an hour. The fields
    of `BESIDE` are charged beside the tokens. ``milliseconds`` are of sound
    or video. ``requests`` are calls that have a price of their own.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0
    cached_audio: int = 0
    input_image: int = 0
    output_image: int = 0
    milliseconds: int = 0
    characters: int = 0
    images: int = 0
    pages: int = 0
    searches: int = 0
    requests: int = 0
    cache_write_1h: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output

    def at_least(self, floor: Units) -> Units:
        """The larger count of each field. Either count may be too low."""
        return Units(*map(max, self, floor))

    def token_counts(self) -> dict[str, int]:
        """The line's ``tokens``: ``input`` and ``output``, and each part that is not 0."""
        counts = {"input": self.input, "output": self.output}
        for name in TOKEN_PARTS:
            if count := getattr(self, name):
                counts[name] = count
        return counts

    def other_counts(self) -> dict[str, int | float]:
        """The line's ``units``: each count beside the tokens that is not 0. Time is in seconds. A
        single request is left out, because every call is one."""
        found: dict[str, int | float] = {}
        for name in BESIDE:
            if count := getattr(self, name):
                found["seconds" if name == "milliseconds" else name] = (
                    count / 1000 if name == "milliseconds" else count
                )
        if found.get("requests") == 1:
            del found["requests"]
        return found


INPUT_PARTS: Final = (
    *("cached", "cache_write", "input_audio", "cached_audio", "input_image", "cache_write_1h"),
)
OUTPUT_PARTS: Final = ("reasoning", "output_audio", "output_image")
TOKEN_PARTS: Final = (
    *("cached", "cache_write", "reasoning", "input_audio", "output_audio"),
    "input_image",
    "output_image",
    "cache_write_1h",
)
"""In the order of the line."""
BESIDE: Final = ("milliseconds", "characters", "images", "pages", "searches", "requests")


class Charge(NamedTuple):
    """One item of a call's bill. ``model`` is the model that served it, "" if the answer names none.
    For a tool that the provider ran it is the tool's name in the table of prices. ``tier`` is the
    service tier that was served, "" for the standard one; several words are joined by ``+``
    (``fast+us``)."""

    model: str
    units: Units
    tier: str = ""
    paid: int | None = None
    """What the account pays for it in nano-dollars, where the answer itself says so. Then no price
    is looked for."""
    calls: int = 1
    """The units are the sum of so many requests of a batch. A rate that goes by the input of one
    request goes by the mean."""
    uneven: bool = False
    """The counts that the answer gives do not come to the total that it gives beside them."""


class Estimate(NamedTuple):
    """What a call may use before anybody knows what it used.

    ``units`` are upper bounds; ``units.output`` covers all choices together. ``asks`` names the token parts (`TOKEN_PARTS`)
    that the request asks for by name: without a price for one of them the call has no price. ``may`` names those that its
    tokens may turn out to be.
    """

    units: Units
    asks: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    predicted: int = 0
    """Tokens of output beside ``units.output``. The unused part of a predicted output is charged as
    output beside the cap."""
    beside: tuple[Charge, ...] = ()
    """Upper bounds of what is charged beside the model's own units: tools that the provider runs, a
    second model."""
    grows: bool = False
    """``units.output`` is a first slice of an answer whose end nobody knows."""

    def of_output(self, tokens: int) -> Estimate:
        """The same estimate with ``tokens`` and the predicted tokens as its output."""
        tokens += self.predicted
        return (
            self
            if tokens == self.units.output
            else self._replace(units=self.units._replace(output=tokens))
        )
