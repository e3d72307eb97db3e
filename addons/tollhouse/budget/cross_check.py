"""Whether a deployment answers as the model that ``[providers.x.models]`` says. Prices go by that table, so a wrong line in it
is said in the log."""

from __future__ import annotations

import logging
import re
from typing import Final

from tollhouse.call import Requested

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
    """Says each mismatch once. It is used on the loop only."""

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
