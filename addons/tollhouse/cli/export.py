"""`tollhouse export calls|ocsf|focus`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import click

from tollhouse.cli.common import SaysNo, WrongUse, config_option, load, moment, perform, say
from tollhouse.cli.progress import waiting

if TYPE_CHECKING:
    from tollhouse.config.load import Config
    from tollhouse.exports.pages import RecordReader
    from tollhouse.exports.record import Record, Stream

_HOUR_MS = 3_600_000
_EMBEDDED_PAGE, _PAGE = 100, 1000
"""Records in one answer. The embedded store is read by the running gateway's own loop."""


class _Asked(NamedTuple):
    since: float | None
    until: float | None
    tenant: str | None
    project: str | None
    to: Path | None
    resume: str | None


@click.group()
@config_option
def export() -> None:
    """The records of calls, as other systems take them.

    Redis keeps the latest 100,000 records of a tenant, and 20,000 of its calls that were refused: what is exported often misses
    none.
    """


def _range_options[F: Callable[..., Any]](command: F) -> F:
    for option in reversed(
        (
            click.option(
                "--since",
                type=moment,
                metavar="WHEN",
                help="From this date (2026-11-01), this time, or so long ago (7d); else all that is kept.",
            ),
            click.option(
                "--until", type=moment, metavar="WHEN", help="Before this; else up to now."
            ),
            click.option("--tenant", metavar="NAME", help="Of this tenant alone."),
            click.option("--project", metavar="NAME", help="Of this project alone."),
            click.option(
                "--to",
                metavar="FILE",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Write it there, whole or not at all; else to stdout.",
            ),
            click.option(
                "--resume",
                metavar="NAME",
                help="Go on behind what the last export of this NAME has written. Each record comes at least once.",
            ),
        )
    ):
        command = option(command)
    return config_option(command)


@export.command("calls")
@_range_options
def export_calls(**asked: Any) -> int:
    """The lines of calls, one JSON object each (`tollhouse schema call`).

    Beside a line's own fields each has record_id, which no other has, recorded_at and settled_by.
    """
    from tollhouse.compact_json import compact_json

    def write(out: BinaryIO, records: Iterable[Record]) -> int:
        return _lines(out, (compact_json(record.line()) for record in records))

    return _export(load(), _Asked(**asked), "calls", ("calls", "uncharged"), write)


@export.command("ocsf")
@_range_options
def export_ocsf(**asked: Any) -> int:
    """Events of OCSF 1.8 for a SIEM: API Activity (6003) with the profile ai_operation, one JSON object each."""
    from tollhouse.compact_json import compact_json
    from tollhouse.exports import ocsf

    def write(out: BinaryIO, records: Iterable[Record]) -> int:
        return _lines(out, (compact_json(ocsf.event(record)) for record in records))

    return _export(load(), _Asked(**asked), "ocsf", ("calls", "uncharged"), write)


@export.command("focus")
@_range_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet"]),
    help="Else by the name of FILE, and csv. Parquet needs tollhouse[parquet].",
)
def export_focus(form: Literal["csv", "parquet"] | None, **asked: Any) -> int:
    """What calls cost, as FOCUS 1.2: a row for each hour, project, model and kind of unit.

    The rows add up to what the ledger was charged, to the nano-dollar. With --resume they end with the last whole hour.
    """
    from tollhouse.cli.prices import price_table
    from tollhouse.config.load import catalog
    from tollhouse.exports.bill import Biller
    from tollhouse.exports.focus import AMOUNT_SCALE, COLUMNS, FocusRows
    from tollhouse.exports.tables import NoParquet, write_csv, write_parquet

    config, wanted = load(), _Asked(**asked)
    parquet = form == "parquet" or (
        form is None and wanted.to is not None and wanted.to.suffix == ".parquet"
    )
    if parquet and wanted.to is None:
        raise WrongUse("Parquet is written into a file: name it by --to")
    if wanted.resume is not None and wanted.until is None:
        wanted = wanted._replace(until=int(time.time() * 1000) // _HOUR_MS * _HOUR_MS / 1000)
    providers = catalog(config)
    rows = FocusRows(providers, Biller(providers, price_table(config)))

    def write(out: BinaryIO, records: Iterable[Record]) -> int:
        if parquet:
            return write_parquet(out, COLUMNS, rows.of(records), AMOUNT_SCALE)
        return write_csv(out, COLUMNS, rows.of(records))

    try:
        return _export(config, wanted, "focus", ("calls",), write)
    except NoParquet:
        raise SaysNo(
            "pyarrow, which writes Parquet, is not installed: pip install 'tollhouse[parquet]', or take --format csv"
        ) from None


def _export(
    config: Config,
    asked: _Asked,
    what: str,
    streams: Sequence[Stream],
    write: Callable[[BinaryIO, Iterable[Record]], int],
) -> int:
    """The exit code: 1 if records that were asked for are gone."""
    from tollhouse.exports.pages import Cursors, Moved
    from tollhouse.exports.target import NotWritten, opened

    if asked.since is not None and asked.until is not None and asked.since >= asked.until:
        raise WrongUse("--since is not before --until: nothing is between them")

    def ask(name: str, arguments: Any) -> Any:
        return perform(config, name, arguments)

    # An export of one kind of one tenant is no export of another.
    name = ".".join(part for part in (what, asked.resume, asked.tenant, asked.project) if part)
    cursors = Cursors(ask, name if asked.resume else "")
    reader = _reader(config, asked, ask, streams, cursors)
    try:
        with opened(asked.to, replace=asked.resume is None) as out, _progress(reader, asked.to):
            count = write(out, _of_project(reader, asked.project))
        cursors.keep()
    except NotWritten as error:
        raise SaysNo(f"{error}; nothing was exported") from None
    except Moved:
        raise SaysNo(
            f"another export {asked.resume} was made at the same time: its records and these are in part the same"
        ) from None
    if asked.to is not None:
        say(f"{count} {'rows' if what == 'focus' else 'records'} in {asked.to}")
    for missing in reader.missing:
        say(missing)
    return 1 if reader.missing else 0


def _reader(
    config: Config, asked: _Asked, ask: Any, streams: Sequence[Stream], cursors: Any
) -> RecordReader:
    from tollhouse.exports.pages import NOBODY, RecordReader, Span

    tenants = ask("tenants", {})
    if asked.tenant is not None:
        if asked.tenant not in tenants:
            raise SaysNo(f"there is no tenant {asked.tenant}: `tollhouse project list` names them")
        tenants = [asked.tenant]
    elif asked.project is None:
        tenants = [*tenants, NOBODY]
    span = Span(*(None if at is None else int(at * 1000) for at in (asked.since, asked.until)))
    page = _EMBEDDED_PAGE if config.redis.url == "embedded" else _PAGE
    return RecordReader(ask, tenants, streams, span, cursors, page)


def _of_project(records: Iterable[Record], project: str | None) -> Iterator[Record]:
    return (r for r in records if project is None or r.fields.get("project") == project)


def _lines(out: BinaryIO, lines: Iterable[bytes]) -> int:
    count = 0
    for line in lines:
        out.write(line + b"\n")
        count += 1
    return count


@contextmanager
def _progress(reader: RecordReader, to: Path | None) -> Iterator[None]:
    """How many records were read of those that there are, where the records themselves are not on the terminal."""
    if not sys.stderr.isatty() or (to is None and sys.stdout.isatty()):
        yield
        return
    kept = sum(
        reader.perform("records_kept", {"tenant": tenant, "stream": stream})["length"]
        for tenant in reader.tenants
        for stream in reader.streams
        if tenant or stream == "uncharged"
    )
    with waiting("records", kept) as waited:
        reader.on_page = waited.advance
        yield
