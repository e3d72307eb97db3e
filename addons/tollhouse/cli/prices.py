"""`tollhouse prices show|check|update`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tollhouse.cli.common import (
    SaysNo,
    WrongUse,
    config_option,
    json_option,
    load,
    moment,
    perform,
    say,
    show,
)

if TYPE_CHECKING:
    from tollhouse.config.load import Config
    from tollhouse.prices.table import Found, PriceTable
    from tollhouse.providers import Catalog, Provider

_USED_S = 30 * 86_400.0
"""Models that were used within this time are looked at."""


@click.group()
@config_option
def prices() -> None:
    """Prices: what a model costs and why, which models have none, and newer ones."""


@prices.command("show")
@config_option
@click.argument("model")
@click.option(
    "--provider", metavar="NAME", help="At this provider alone; else at each that has it."
)
@click.option(
    "--at", type=moment, metavar="WHEN", help="At this date (2026-11-01) or time; else now."
)
@json_option
def prices_show(model: str, provider: str | None, at: float | None, as_json: bool) -> None:
    """What MODEL costs, rate by rate, and by which table.

    MODEL may be a tool that a provider runs, such as web_search.
    """
    from tollhouse.config.load import catalog
    from tollhouse.prices.shown import entry

    config = load()
    providers = catalog(config)
    table, _ = _table(config)
    if provider is not None and providers.by_name(provider) is None:
        raise WrongUse(
            f"there is no provider {provider!r}: `tollhouse check` names those there are"
        )
    now = time.time() if at is None else at
    # What takes a login alone costs nothing.
    asked = [p for p in providers.providers if provider in (None, p.name) and not p.login_only]
    found = [
        shown
        for each in asked
        if (shown := entry(table, each.name, each.price_id, model, now)) is not None
    ]
    if not found:
        where = f"at {provider}" if provider else "at any provider"
        raise SaysNo(
            f'{model} has no price {where}: give it one under [prices."{provider or "PROVIDER"}/{model}"] in tollhouse.toml, '
            "or take a newer file of prices with `tollhouse prices update`"
        )

    def for_people() -> str:
        from tollhouse.cli import render

        rows = [
            (
                shown["provider"],
                rate["unit"],
                rate["usd"],
                rate["per"],
                rate["tier"],
                rate["above_tokens"],
                rate["models"],
                shown["source"],
            )
            for shown in found
            for rate in shown["rates"]
        ]
        headings = ("PROVIDER", "UNIT", "USD", "PER", "TIER", "ABOVE TOKENS", "MODELS", "SOURCE")
        tables = [render.table(headings, rows)]
        factors = [
            (shown["provider"], factor["factor"], factor["where"], factor["source"])
            for shown in found
            for factor in shown["factors"]
        ]
        if factors:
            tables.append(render.table(("PROVIDER", "FACTOR", "WHERE", "SOURCE"), factors))
        return "\n\n".join(tables)

    show({"model": model, "prices": found}, as_json, for_people)


@prices.command("check")
@config_option
@click.option(
    "--older-than",
    type=moment,
    metavar="WHEN",
    help="Name the tables of prices whose latest is older than this date (2026-09-01) or time (90d).",
)
@json_option
def prices_check(older_than: float | None, as_json: bool) -> int:
    """Which models have no price: those of the projects' lists, and those used in the last 30 days.

    Exit 1 if there are any.
    """
    from tollhouse.config.load import catalog

    config = load()
    providers = catalog(config)
    table, newest = _table(config)
    now = time.time()
    findings = [
        *_old(table, newest, older_than),
        *_listed(config, providers, table, now),
        *_used(perform(config, "models_used", {"since": now - _USED_S}), providers, table, now),
    ]

    def for_people() -> str:
        from tollhouse.cli import render

        rows = [list(finding.values()) for finding in findings]
        return render.table(("WHAT", "WHERE", "WHY"), rows) if rows else ""

    if not findings:
        say("every model that was looked at has a price")
    show({"prices": table.name, "findings": findings}, as_json, for_people)
    return 1 if findings else 0


@prices.command("update")
@config_option
@click.option(
    "--from",
    "source",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A data.json of genai-prices, version 2 of its form.",
)
@json_option
def prices_update(source: Path, as_json: bool) -> None:
    """Take newer prices from FILE, without a new release.

    It is judged first: it has to be whole, and no older than the prices in use. A running gateway takes it at once.
    """
    from tollhouse.control.client import NoGateway, StoreError, ask
    from tollhouse.prices import kept
    from tollhouse.prices.source import PriceSourceError

    config = load()
    directory = config.state.directory
    now = time.time()
    try:
        content = kept.read(source)
        made = kept.judged(content, kept.current(directory, now), now)
        kept.keep(directory, content)
    except (kept.PriceFileError, PriceSourceError) as error:
        raise SaysNo(f"{source} is not taken, and nothing was changed: {error}") from None
    said = f"{made.name}: {made.models} models, the latest price is of {made.newest}"
    running = True
    try:
        ask(directory, "prices_reload", {})
        say(f"{said}; the running gateway uses it")
    except NoGateway:
        running = False
        say(f"{said}; the next `tollhouse run` uses it")
    except StoreError as error:
        raise SaysNo(
            f"{said}; it is kept, but the running gateway does not use it: {error}"
        ) from None
    result = {
        "prices": made.name,
        "models": made.models,
        "newest": made.newest.isoformat(),
        "in_use": running,
    }
    show(result, as_json, lambda: "")


def price_table(config: Config) -> PriceTable:
    """The prices that a gateway would use now."""
    return _table(config)[0]


def _table(config: Config) -> tuple[PriceTable, str]:
    """The prices that a gateway would use now, and the day of the latest of those that are not the configuration's."""
    from tollhouse.config.load import own_prices
    from tollhouse.prices import kept
    from tollhouse.prices.source import PriceSourceError
    from tollhouse.prices.table import PriceTable

    try:
        found = kept.current(config.state.directory, time.time())
    except PriceSourceError as error:
        raise SaysNo(str(error)) from None
    table = PriceTable(found.providers, own_prices(config), name=found.name)
    return table, found.newest.isoformat()


def _finding(what: str, where: str, why: str) -> dict[str, str]:
    return {"what": what, "where": where, "why": why}


def _old(table: PriceTable, newest: str, older_than: float | None) -> Iterator[dict[str, str]]:
    if older_than is None:
        return
    from tollhouse.prices import builtin
    from tollhouse.timestamps import rfc3339

    day = rfc3339(older_than)[:10]
    if newest < day:
        yield _finding(
            table.name,
            "prices",
            f"its latest price is of {newest}: take a newer file with `tollhouse prices update`",
        )
    if day > builtin.CHECKED:
        yield _finding(
            builtin.NAME,
            "prices",
            f"it was read from the providers' pages on {builtin.CHECKED}: take a newer release, or write prices of your own",
        )


def _listed(
    config: Config, providers: Catalog, table: PriceTable, now: float
) -> Iterator[dict[str, str]]:
    """The patterns of the projects' lists that fit no model with a price."""
    from tollhouse.prices.shown import has_price

    for name, project in config.projects.items():
        for text in project.models:
            before, slash, model = text.partition("/")
            at = [
                p
                for p in providers.providers
                if (not slash or p.name == before) and not p.login_only
            ]
            model = model if slash else text
            glob = "*" in model or "?" in model or "[" in model
            priced = any(
                table.fits(each.price_id, model)
                if glob
                else has_price(_found(table, each, model), now)
                for each in at
            )
            if not priced:
                why = "no model that it fits has a price" if glob else "it has no price"
                yield _finding(text, f"projects.{name}.models", why)


def _used(
    models: list[Any], providers: Catalog, table: PriceTable, now: float
) -> Iterator[dict[str, str]]:
    from tollhouse.prices.shown import has_price

    for text in models:
        name, _, model = str(text).partition("/")
        provider = providers.by_name(name)
        if provider is None or not model:
            continue
        if not has_price(_found(table, provider, model), now):
            yield _finding(str(text), "used", "it has no price")


def _found(table: PriceTable, provider: Provider, name: str) -> Found | None:
    """The price of a name that calls use: of the model behind it, if it is a deployment's."""
    return table.found(provider.price_id, provider.models.get(name, name))
