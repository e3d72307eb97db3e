"""What an answer says twice, or the configuration says as well, held against each other. A mismatch is said in the log."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tollhouse.call import Requested
from tollhouse.families.units import Charge

log = logging.getLogger(__name__)

_VERSION: Final = re.compile(r"[-@:](?:v?\d{2}[\d.:-]*|v\d[\d.:-]*|latest)")
"""What stands behind a model's name for one of its versions: ``-2024-08-06``, ``-0613``, ``@20250929``, ``-v1:0``. A single
digit is another model: ``claude-sonnet-4-5``."""
_MOST: Final = 1_024
"""Mismatches that are remembered. Each is said once; of further ones nothing is said."""


def same_model(one: str, other: str) -> bool:
    """Whether both are the same model, or one of them is a version of the other."""
    short, long = sorted((one.lower(), other.lower()), key=len)
    rest = long.removeprefix(short)
    return short == long or (rest != long and _VERSION.fullmatch(rest) is not None)


class CrossCheck:
    """Whether a deployment answers as the model that ``[providers.x.models]`` says: prices go by that table. Says each mismatch
    once. It is used on the loop only."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str, str, str]] = set()

    def __call__(self, requested: Requested, served: str) -> None:
        """``served`` is the model that the answer names; "" if it names none."""
        asked, provider = requested.asked, requested.admitted.provider.name
        if (
            not served
            or served == asked.deployment
            or same_model(served, asked.model)
            or len(self._said) >= _MOST
        ):
            return
        found = provider, asked.deployment, asked.model, served
        if found not in self._said:
            self._said.add(found)
            log.warning(
                "[providers.%s.models] says that %a is %a, and it answers as %a; calls cost what %a costs: correct the table "
                "if that is wrong",
                *(provider, asked.deployment[:80], asked.model[:80], served[:80], asked.model[:80]),
            )


class Totals:
    """Whether the counts of a usage come to its own total. It is used on the loop only."""

    def __init__(self) -> None:
        self.uneven: Counter[str] = Counter()
        """Answers whose counts do not, by provider."""
        self._said: set[tuple[str, str]] = set()

    def __call__(self, provider: str, model: str, charges: Iterable[Charge]) -> None:
        """Counts the answer, and says it once for a ``model``."""
        odd = next((charge for charge in charges if charge.uneven), None)
        if odd is None:
            return
        self.uneven[provider] += 1
        found = provider, odd.model or model
        if found not in self._said and len(self._said) < _MOST:
            self._said.add(found)
            log.warning(
                "%s: a usage of %a does not come to its own total; %d tokens of input and %d of output are charged: see whether "
                "there are counts that this version does not know",
                *(provider, found[1][:80], odd.units.input, odd.units.output),
            )
