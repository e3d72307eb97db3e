"""`tollhouse explain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from tollhouse.cli.common import (
    SaysNo,
    WrongUse,
    config_option,
    json_option,
    load,
    perform,
    say,
    show,
)
from tollhouse.cli.progress import waiting

_CALL_ID = re.compile(r"call_[0-9a-f]{24}")
_EMBEDDED_PAGE, _PAGE = 100, 1000


@click.command()
@config_option
@click.argument("call_id")
@json_option
def explain(call_id: str, as_json: bool) -> None:
    """The road of one call in sentences.

    CALL_ID stands in every answer as x-tollhouse-call-id, and in the text of a refusal. Said is who called whom, what was held
    and why so much, which key was put on, each attempt, what it cost, and why it was refused and what to do.
    """
    from tollhouse.cli.prices import price_table
    from tollhouse.config.load import catalog
    from tollhouse.exports import explained
    from tollhouse.exports.bill import Biller
    from tollhouse.exports.found import logged, records_of

    if not _CALL_ID.fullmatch(call_id):
        raise WrongUse("that is no call's id: it is call_ and 24 hexadecimal digits")
    config = load()

    def ask(name: str, arguments: Any) -> Any:
        return perform(config, name, arguments)

    page = _EMBEDDED_PAGE if config.redis.url == "embedded" else _PAGE
    with waiting("looks through the records") as waited:
        lines = records_of(ask, call_id, page, waited.advance)
    if not lines and isinstance(config.log.calls, Path):
        try:
            lines = logged(config.log.calls, call_id)
        except OSError as error:
            say(f"{config.log.calls} could not be read ({error.strerror})")
    if not lines:
        _under_way_or_unknown(ask, call_id)
        return
    items = Biller(catalog(config), price_table(config)).items(lines[-1])
    told = list(explained.sentences(lines, items))
    show({"call_id": call_id, "sentences": told, "records": lines}, as_json, lambda: _text(told))


def _under_way_or_unknown(ask: Any, call_id: str) -> None:
    from tollhouse.exports.found import began_ms
    from tollhouse.ledger.limits import format_usd
    from tollhouse.timestamps import rfc3339

    for tenant in ask("tenants", {}):
        held = ask("call_held", {"tenant": tenant, "call_id": call_id})
        if held is not None:
            raise SaysNo(
                f"{call_id} is under way: {format_usd(int(held['held_nano_usd']))} USD and {held['held_tokens']} tokens are held "
                f"for project {held.get('project', '-')} of tenant {tenant}; ask again when it has ended"
            )
    began = began_ms(call_id)
    when = f" It would have begun at {rfc3339(began / 1000)}." if began is not None else ""
    raise SaysNo(
        f"there is no record of {call_id}: no gateway of this configuration has had it, or it has expired.{when} Redis keeps the "
        "latest 100,000 calls of a tenant and 20,000 refused ones; a refused call may take a second to be there; older lines are "
        "where [log] calls writes them"
    )


def _text(told: list[str]) -> str:
    from tollhouse.cli.render import cell

    return "\n".join(("  " if text.startswith("  ") else "") + cell(text.strip()) for text in told)
