"""How long the gateway has been refusing calls for the same reason.

Nobody knows when Redis or Vault will be back. A refusal that began a moment ago may pass with the
next try. One that has lasted for some seconds is told at once to whoever would only repeat it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_FORGOTTEN_S: Final = 60.0
"""A refusal that comes so long after the last one of its kind begins anew."""


class Lasting:
    """The refusals that no answer has followed, by provider, project and code. It is mutable and for
    one event loop. "" stands for a provider or a project that is not known yet. ``clock`` is
    monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}

    def refused(self, provider: str, project: str, code: str) -> float:
        """Notes a refusal. Returns the seconds since the first one of its kind. One whose project is
        not known is of the kind of all projects': what Redis is asked first differs from call to call."""
        if project:
            self._note(provider, "", code)
        return self._note(provider, project, code)

    def _note(self, provider: str, project: str, code: str) -> float:
        now = self._clock()
        kinds = self._open.setdefault((provider, project), {})
        first, last = kinds.get(code, (now, now))
        if now - last > _FORGOTTEN_S:
            first = now
        kinds[code] = first, now
        return now - first

    def answered(self, provider: str, project: str) -> None:
        """A provider's answer has come: what stood in the way of such calls is over."""
        for kind in ((provider, project), (provider, ""), ("", "")):
            self._open.pop(kind, None)

    @property
    def any(self) -> bool:
        return bool(self._open)
