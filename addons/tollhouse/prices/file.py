"""The file of prices in the state directory: made once for each version of genai-prices, by a process of its own, and
read.

genai-prices, imported, adds 83 MB to its process and takes 0.1 ms a call; the file is small and holds its data exactly.
"""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from tollhouse.prices.format import UNITS

Rate = int | tuple[int, ...] | None
Rates = tuple[Rate, ...]
Constraint = tuple[Any, ...] | None
Match = tuple[str, Any]

_TIMEOUT_S: Final = 120.0
_COMPACT_DATE: Final = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class PriceFileError(Exception):
    """The table of prices can be neither read nor made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class PricedModel:
    """One row of the table, as `price_format` describes it."""

    match: Match
    rows: tuple[tuple[Constraint, Rates], ...]
    tiers: tuple[tuple[str, Constraint, Rates], ...]
    window: int | None = None
    """Tokens of context."""


@dataclass(frozen=True, slots=True)
class PricedProvider:
    """A provider's models, in the order in which they are tried."""

    fallback: tuple[str, ...]
    models: tuple[PricedModel, ...]


def file_name() -> str:
    """``prices-VERSION-FORMAT.json``: the version of genai-prices, and a hash of the code that writes the file."""
    package = files("tollhouse.prices")
    code = b"".join(package.joinpath(f"{part}.py").read_bytes() for part in ("format", "export"))
    return f"prices-{version('genai-prices')}-{sha256(code).hexdigest()[:8]}.json"


def load(directory: Path) -> dict[str, PricedProvider]:
    """The table from ``directory``, which must exist; written first if it is missing, damaged or writable by others.

    Blocks for about two seconds when it has to be written. Raises PriceFileError.
    """
    path = directory / file_name()
    table = _read(path)
    if table is None:
        _export(path)
        table = _read(path)
    if table is None:
        raise PriceFileError(
            f"{path} was just written and cannot be read: is another program writing to the state directory? "
            "Delete the file and start again."
        )
    return table


def _export(path: Path) -> None:
    # -P: a file called genai_prices.py in the working directory is not what is imported.
    command = [sys.executable, "-P", "-m", "tollhouse.prices.export", str(path)]
    try:
        result = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
        said, failed = result.stderr.strip().rpartition("\n")[2], result.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        said, failed = str(error), True
    if failed:
        raise PriceFileError(
            f"The table of prices could not be written to {path}: {said or 'the exporter ended without a word'}. "
            f"Look whether the state directory is writable, or run `{' '.join(command)}` to see more."
        )


def _read(path: Path) -> dict[str, PricedProvider] | None:
    try:
        if stat.S_IMODE(path.lstat().st_mode) & 0o022 or not path.is_file():
            return None
        document = json.loads(path.read_bytes())
        rates = _interned()
        return {
            str(name): PricedProvider(
                tuple(provider["fallback"]), tuple(_model(model, rates) for model in provider["models"])
            )
            for name, provider in document["providers"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _interned() -> Callable[[list[Any]], Rates]:
    """Many models share their rates: one tuple for each set."""
    seen: dict[Rates, Rates] = {}

    def rates(values: list[Any]) -> Rates:
        made = tuple(tuple(map(int, value)) if isinstance(value, list) else value for value in values)
        if len(made) != len(UNITS) or not all(value is None or isinstance(value, int | tuple) for value in made):
            raise ValueError("rates of another format")
        return seen.setdefault(made, made)

    return rates


def _model(model: list[Any], rates: Callable[[list[Any]], Rates]) -> PricedModel:
    match, rows, tiers, window = model
    if not rows:
        raise ValueError("a model without prices")
    if window is not None and (type(window) is not int or window < 1):
        raise ValueError("a context window that is none")
    return PricedModel(
        _match(match),
        tuple((_constraint(constraint), rates(values)) for constraint, values in rows),
        tuple((sys.intern(tier), _constraint(constraint), rates(values)) for tier, constraint, values in tiers),
        window,
    )


def _constraint(value: list[Any] | None) -> Constraint:
    return None if value is None else (sys.intern(value[0]), *map(int, value[1:]))


def _match(value: list[Any]) -> Match:
    kind, what = sys.intern(value[0]), value[1]
    if kind in ("or", "and"):
        return kind, tuple(_match(part) for part in what)
    if kind == "in":
        return kind, frozenset(what) if len(what) > 8 else tuple(what)
    if kind not in ("starts", "ends", "contains", "regex"):
        raise ValueError(f"unknown match {kind}")
    return kind, what


def matches(match: Match, name: str) -> bool:
    """Whether ``name``, in lower case, is meant by ``match``."""
    kind, what = match
    if kind == "in":
        return name in what
    if kind == "or":
        return any(matches(part, name) for part in what)
    if kind == "and":
        return all(matches(part, name) for part in what)
    if kind == "starts":
        return name.startswith(what)
    if kind == "ends":
        return name.endswith(what)
    if kind == "contains":
        return what in name
    return _regex(what).search(name) is not None


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def find(table: dict[str, PricedProvider], provider: str, name: str) -> tuple[PricedModel, bool] | None:
    """The model of ``provider`` that ``name`` means, and whether it is the provider's own (not one it falls back to).

    The rules are genai_prices' (`Provider.find_model`): the first match wins, then those of the providers it falls back
    to; then ``-20251211`` is read as ``-2025-12-11``.
    """
    name = name.lower()
    found = _find(table, provider, name)
    if found is None:
        dashed = _COMPACT_DATE.sub(_dashed, name)
        found = _find(table, provider, dashed) if dashed != name else None
    return found


def _find(table: dict[str, PricedProvider], provider: str, name: str) -> tuple[PricedModel, bool] | None:
    start = table.get(provider)
    if start is None:
        return None
    for owner in (provider, *start.fallback):
        for model in table[owner].models if owner in table else ():
            if matches(model.match, name):
                return model, owner == provider
    return None


def _dashed(match: re.Match[str]) -> str:
    year, month, day = (int(part) for part in match.groups())
    longest = 29 if month == 2 and year % 4 == 0 else 28 if month == 2 else 30 if month in (4, 6, 9, 11) else 31
    return f"-{year}-{month:02d}-{day:02d}" if day <= longest else match.group(0)
