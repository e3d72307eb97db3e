"""A newer data file of genai-prices, which `tollhouse prices update` keeps in the state directory. It takes the place of the
data in the package, without a new release of either.

Its form is that of genai-prices' ``prices/new_data/v2/data.json``
(https://github.com/pydantic/genai-prices/tree/main/prices/new_data/v2).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from tollhouse import files
from tollhouse.prices import source
from tollhouse.prices.rates import PricedProvider
from tollhouse.providers import BUILT_IN

log = logging.getLogger(__name__)

FILE: Final = "prices.json"
MOST_BYTES: Final = 32 << 20
"""genai-prices' own file has about 1 MB."""
_DECODER: Final = json.JSONDecoder(
    parse_float=Decimal, parse_constant=lambda name: _refuse(f"{name} is no price")
)


class Snapshot(NamedTuple):
    """The prices of one moment."""

    providers: dict[str, PricedProvider]
    name: str
    """What the line calls them."""
    newest: date
    """The latest day, up to today, on which one of them began to hold. The data says nothing else of its age."""
    kept: bool = False
    """They are from the file in the state directory."""

    @property
    def models(self) -> int:
        return sum(len(provider.models) for provider in self.providers.values())


class PriceFileError(Exception):
    """The file is not taken. The text says what is wrong and what to do."""


def installed(now: float) -> Snapshot:
    """The prices in the package. ``now`` is seconds since the epoch. Raises
    `source.PriceSourceError`. Blocks as `source.read` does."""
    providers = source.read()
    return Snapshot(providers, f"genai-prices {source.version_of()}", newest(providers, now))


def current(state_directory: Path, now: float) -> Snapshot:
    """The prices that count: those of the kept file, unless it can't be used or the package's are newer. Raises
    `source.PriceSourceError`."""
    package = installed(now)
    file = state_directory / FILE
    try:
        return judged(read(file), package, now)
    except FileNotFoundError:
        pass
    except (OSError, PriceFileError) as error:
        log.error("%s is not used, and the prices are those of %s: %s", file, package.name, error)
    return package


def renewed(state_directory: Path, before: Snapshot, now: float) -> Snapshot:
    """The prices of the kept file, for a gateway that uses ``before``; ``before`` if there is none. Raises `OSError`, and
    `PriceFileError` for a file that may not take its place."""
    try:
        return judged(read(state_directory / FILE), before, now)
    except FileNotFoundError:
        return before


def read(file: Path) -> bytes:
    """Raises `OSError`, and `PriceFileError` for a file that is too large."""
    with file.open("rb") as opened:
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise PriceFileError(
            f"it has more than {MOST_BYTES >> 20} MiB, and genai-prices' file has about 1: name that one"
        )
    return content


def judged(content: bytes, before: Snapshot, now: float) -> Snapshot:
    """The prices of a file, which may take the place of ``before``. Raises `PriceFileError`."""
    wanted = [provider.price_id for provider in BUILT_IN]
    try:
        providers = source.convert(_providers(content), wanted)
    except KeyError as error:
        raise PriceFileError(
            f"it has no {error.args[0]!r}, or an entry has none; take a whole data.json of genai-prices (v2)"
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        raise PriceFileError(
            f"it is not a data.json of genai-prices (v2) that can be read: {str(error)[:200]}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()[:12]
    made = Snapshot(providers, f"genai-prices file {digest}", newest(providers, now), kept=True)
    if made.newest < before.newest:
        raise PriceFileError(
            f"it is older than {before.name}: its latest price is of {made.newest}, and there is one of {before.newest}; "
            "take a newer file"
        )
    if made.models < before.models // 2:
        raise PriceFileError(
            f"it has {made.models} models, and {before.name} has {before.models}: take a whole file"
        )
    return made


def keep(state_directory: Path, content: bytes) -> None:
    """Puts the file in place, whole. Raises `OSError`, and nothing has changed then."""
    state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(state_directory / FILE, content)


def newest(providers: Mapping[str, PricedProvider], now: float) -> date:
    starts = [
        constraint[1]
        for provider in providers.values()
        for model in provider.models
        for constraint in (
            *(row for row, _ in model.rows),
            *(tier for _, tier, _ in model.tiers),
        )
        if constraint is not None and constraint[0] == "from" and constraint[1] <= now
    ]
    return datetime.fromtimestamp(max(starts, default=0), UTC).date()


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)


def _providers(content: bytes) -> Iterator[Any]:
    """genai-prices' own values, made from its JSON by its public types. One provider is read at a time, so that no thread
    waits long for the interpreter."""
    from genai_prices import types

    for raw in _elements(content.decode()):
        yield types.Provider(
            id=_text(raw["id"]),
            name=_text(raw["name"]),
            api_pattern="",
            fallback_model_providers=_texts(raw.get("fallback_model_providers") or []),
            models=[_model(model) for model in _listed(raw["models"])],
        )


def _elements(text: str) -> Iterator[dict[str, Any]]:
    """The objects of the outermost array."""
    place = _skip(text, 0)
    if text[place : place + 1] != "[":
        _refuse("it does not begin with a list")
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        element, place = _DECODER.raw_decode(text, place)
        yield _object(element)
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            _refuse("it ends before its list does")
    if _skip(text, place + 1) != len(text):
        _refuse("something stands behind its list")


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _model(raw: object) -> Any:
    from genai_prices import types

    model = _object(raw)
    variants = [
        types.PriceVariant(
            when=dict(_object(variant["when"])),
            prices=_prices(variant["prices"]),
            constraint=_constraint(variant.get("constraint")),
        )
        for variant in map(_object, _listed(model.get("price_variants") or []))
    ]
    return types.ModelInfo(
        id=_text(model["id"]),
        match=_match(model["match"], 0),
        context_window=model.get("context_window"),
        prices=_conditional(model["prices"]),
        price_variants=variants,
    )


def _conditional(raw: object) -> Any:
    from genai_prices import types

    if not isinstance(raw, list):
        return _prices(raw)
    return [
        types.ConditionalPrice(
            prices=_prices(row["prices"]), constraint=_constraint(row.get("constraint"))
        )
        for row in map(_object, raw)
    ]


def _prices(raw: object) -> Any:
    from genai_prices import types

    def price(value: object) -> Any:
        if isinstance(value, dict):
            steps = [
                types.Tier(start=_whole(step["start"]), price=_decimal(step["price"]))
                for step in map(_object, _listed(value["tiers"]))
            ]
            return types.TieredPrices(base=_decimal(value["base"]), tiers=steps)
        return None if value is None else _decimal(value)

    return types.ModelPrice(**{key: price(value) for key, value in _object(raw).items()})


def _constraint(raw: object) -> Any:
    from genai_prices import types

    if raw is None:
        return None
    found = _object(raw)
    if found.keys() == {"start_date"}:
        return types.StartDateConstraint(start_date=date.fromisoformat(_text(found["start_date"])))
    if found.keys() == {"start_time", "end_time"}:
        return types.TimeOfDateConstraint(
            start_time=time.fromisoformat(_text(found["start_time"])),
            end_time=time.fromisoformat(_text(found["end_time"])),
        )
    _refuse(f"a constraint has {', '.join(found)}, which this version does not know")


def _match(raw: object, depth: int) -> Any:
    from genai_prices import types

    [(kind, what)] = _object(raw).items() if depth < 20 else [("", None)]
    match kind:
        case "or":
            return types.ClauseOr(or_=[_match(part, depth + 1) for part in _listed(what)])
        case "and":
            return types.ClauseAnd(and_=[_match(part, depth + 1) for part in _listed(what)])
        case "equals":
            return types.ClauseEquals(equals=_text(what))
        case "starts_with":
            return types.ClauseStartsWith(starts_with=_text(what))
        case "ends_with":
            return types.ClauseEndsWith(ends_with=_text(what))
        case "contains":
            return types.ClauseContains(contains=_text(what))
        case "regex":
            source.check_pattern(_text(what))
            return types.ClauseRegex(regex=_text(what))
    _refuse(f"a match has {kind!r}, which this version does not know")


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else _refuse(f"{str(value)[:40]!r} is no object")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else _refuse(f"{str(value)[:40]!r} is no list")


def _text(value: object) -> str:
    return value if isinstance(value, str) else _refuse(f"{str(value)[:40]!r} is no text")


def _texts(value: Iterable[object]) -> list[str]:
    return [_text(each) for each in value]


def _whole(value: object) -> int:
    whole = type(value) is int and value >= 0
    return int(value) if whole else _refuse(f"{str(value)[:40]!r} is no count")  # type: ignore[call-overload,no-any-return]


def _decimal(value: object) -> Decimal:
    number = type(value) is int or isinstance(value, Decimal)
    return Decimal(value) if number else _refuse(f"{str(value)[:40]!r} is no price")  # type: ignore[arg-type]
