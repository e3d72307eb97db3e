"""`tollhouse alerts test|list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tollhouse.cli.common import SaysNo, config_option, json_option, load, say, show
from tollhouse.cli.progress import waiting

if TYPE_CHECKING:
    from tollhouse.config.load import Config


@click.group()
@config_option
def alerts() -> None:
    """The receivers of [[alerts]]: whether they can be told, and what waits for them."""


@alerts.command("test")
@config_option
@json_option
@click.option("--to", "receiver", metavar="NAME", help="One receiver, in place of all.")
def alerts_test(receiver: str | None, as_json: bool) -> None:
    """Send each receiver a message that says it is a test.

    Exit 1 when one does not take it. It is sent once, by the running gateway if one runs.
    """
    config = load()
    _known(config, receiver)
    with waiting("tells each receiver"):
        found = _asked(config, "alerts_test", {"name": receiver})
        if found is None:
            found = _by_ourselves(config, test=True, receiver=receiver)
    if not found:
        raise SaysNo(
            "the running gateway has no such receiver yet: `tollhouse reload` has it read the file"
        )

    def for_people() -> str:
        from tollhouse.cli import render

        headings = ("RECEIVER", "FORM", "ID", "RESULT", "STATUS", "MS", "WHY")
        return render.table(headings, [list(row.values()) for row in found])

    show(found, as_json, for_people)
    bad = [row for row in found if row["result"] != "delivered"]
    if bad:
        raise SaysNo(f"{len(bad)} of {len(found)} receivers did not take it: see WHY")
    say(f"{len(found)} of {len(found)} receivers took it")


@alerts.command("list")
@config_option
@json_option
def alerts_list(as_json: bool) -> None:
    """What each receiver was told, over all gateways, and what waits for it."""
    config = load()
    _known(config, None)
    with waiting("waits for the store"):
        found = _asked(config, "alerts_list", {})
        if found is None:
            found = _by_ourselves(config, test=False, receiver=None)

    def for_people() -> str:
        from tollhouse.cli import render

        headings = ("RECEIVER", "FORM", "FIRED", "DELIVERED", "GIVEN UP", "DROPPED", "WAITING")
        tables = [render.table(headings, [list(row.values()) for row in found["receivers"]])]
        if found["waiting"]:
            more = ("RECEIVER", "ID", "TYPE", "SEEN", "ATTEMPTS", "DUE", "WHY")
            tables.append(render.table(more, [list(row.values()) for row in found["waiting"]]))
        return "\n\n".join(tables)

    show(found, as_json, for_people)


def _known(config: Config, receiver: str | None) -> None:
    names = [entry.called for entry in config.alerts]
    if not names:
        raise SaysNo(
            f"{config.path} has no [[alerts]], so nobody is told of anything: docs/alerts.md"
        )
    if receiver is not None and receiver not in names:
        raise SaysNo(f"{receiver} is no receiver; there are {', '.join(names)}")


def _asked(config: Config, operation: str, arguments: dict[str, Any]) -> Any:
    """What the running gateway says; None when none runs."""
    from tollhouse.control import client

    try:
        return client.ask(config.state.directory, operation, arguments)
    except client.NoGateway:
        return None
    except client.StoreError as error:
        raise SaysNo(str(error)) from None


def _by_ourselves(config: Config, *, test: bool, receiver: str | None) -> Any:
    import asyncio

    from tollhouse.alerts.from_config import desk_once
    from tollhouse.config.load import asks_store
    from tollhouse.control.key_desk import wrapped
    from tollhouse.ledger.ledger import LedgerUnavailable

    if test and wrapped(config) and any(asks_store(config, entry) for entry in config.alerts):
        raise SaysNo(
            "no gateway runs, and only it may unwrap the secret_id, once: start it (`tollhouse run`)"
        )

    async def once() -> Any:
        async with desk_once(config) as desk:
            return await (desk.test(receiver) if test else desk.listed())

    try:
        return asyncio.run(once())
    except LedgerUnavailable as error:
        raise SaysNo(
            f"the store can't be reached ({error}): start it, or correct [redis] url"
        ) from None
    except ValueError as error:
        raise SaysNo(str(error)) from None
