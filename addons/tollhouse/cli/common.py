"""What every command shares: the way to the configuration, to a result, to an error in one line, and option types."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tollhouse.cli.progress import waiting

if TYPE_CHECKING:
    from tollhouse.config.load import Config, ProjectsFile

_CONFIG = "tollhouse.config_path"
_AGAIN_FOR_S = 8.0
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class SaysNo(click.ClickException):
    """It says no: exit 1. The message says what happened, why, and what to do."""

    exit_code = 1


class WrongUse(click.ClickException):
    """Wrong use that has no option to point at: exit 2."""

    exit_code = 2


class OneLineGroup(click.Group):
    """A group that says each error in one line on stderr: what, why, what to do; no traceback for what a person can
    mend."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(
                args, prog_name or "tollhouse", complete_var, standalone_mode=False, **extra
            )
            if sys.stdout is not None:  # closed before we began
                sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _end(_in_one_line(error), error.exit_code)
        except click.Abort:
            _end("stopped", 1)
        except BrokenPipeError:
            # Whoever read our output has left; Python's own flush at exit must not complain about it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            _end(f"{error.strerror or error}{place}", 1)
        sys.exit(code if isinstance(code, int) else 0)


def _in_one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text = f"{text.removesuffix('.')} (see `{error.ctx.command_path} --help`)"
    return text


def _end(text: str, code: int) -> NoReturn:
    say(text)
    sys.exit(code)


def say(text: str) -> None:
    """Talk: to stderr, under our name."""
    click.echo(f"tollhouse: {text}", err=True)


def show(value: Any, as_json: bool, for_people: Callable[[], str]) -> None:
    """A result: to stdout, as JSON or as text for people."""
    from tollhouse.cli import render

    text = render.as_json(value) if as_json else for_people()
    if text:
        click.echo(text)


def show_each(
    found: Iterable[Mapping[str, Any]],
    as_json: bool,
    headings: Sequence[str],
    row: Callable[[Mapping[str, Any]], Sequence[Any]],
    none: str,
) -> None:
    """A result of many parts, one after the other, so that any number of them needs no more memory: as `show` has a list, or as
    a table with ``headings`` and a ``row`` of each. ``none`` is the talk where there is none."""
    from tollhouse.cli import render

    parts = iter(found)
    first = next(parts, None)
    if first is None:
        say(none)
        if as_json:
            click.echo("[]")
        return
    every = chain([first], parts)
    lines = render.json_lines(every) if as_json else render.table_lines(headings, map(row, every))
    for line in lines:
        click.echo(line)


def config_option[F: Callable[..., Any]](command: F) -> F:
    """``--config`` on a group or a command; the innermost one given counts."""

    def remember(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
        if value is not None:
            context.find_root().meta[_CONFIG] = value

    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=remember,
        help="The configuration; else $TOLLHOUSE_CONFIG, else ./tollhouse.toml.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def config_path() -> Path:
    """``--config``, else ``TOLLHOUSE_CONFIG``, else ``./tollhouse.toml``. `WrongUse` if there is no such file."""
    named = click.get_current_context().find_root().meta.get(_CONFIG) or os.environ.get(
        "TOLLHOUSE_CONFIG"
    )
    path = Path(named or "tollhouse.toml")
    if path.is_file():
        return path
    why = "is not a file" if path.exists() else "does not exist"
    if named:
        raise WrongUse(
            f"the configuration {path} {why}: name another by --config or TOLLHOUSE_CONFIG"
        )
    raise WrongUse(
        f"./tollhouse.toml {why}: `tollhouse init` makes one, --config or TOLLHOUSE_CONFIG names another"
    )


def load(*, enforced: bool = False) -> Config:
    """The configuration that counts for this command; ``enforced`` refuses what this version would not do of it.

    `SaysNo` after every problem was said, a line each.
    """
    from tollhouse.config.load import ConfigError, load_config, unenforced

    try:
        config = load_config(config_path())
        problems = unenforced(config) if enforced else []
    except ConfigError as error:
        problems = error.problems
    if not problems:
        return config
    raise _no(problems)


def load_settings(path: Path) -> Config | ProjectsFile:
    """The projects and tenants of the file at ``path``, as `load` refuses what is wrong with them; `SaysNo` also where
    there are none."""
    from tollhouse.config.load import Config, ConfigError, Problem, load_projects, unenforced

    if not path.exists():
        raise WrongUse(f"{path} does not exist: --file names a file with [projects] and [tenants]")
    try:
        source = load_projects(path)
        problems = unenforced(source) if isinstance(source, Config) else []
    except ConfigError as error:
        own = {"", "projects", "tenants"}
        problems = [problem for problem in error.problems if problem.key.partition(".")[0] in own]
        if len(problems) < len(error.problems):
            why = "only [projects] and [tenants] belong into the file of --file; take everything else out"
            problems.append(Problem(path.absolute(), "", why))
    if problems:
        raise _no(problems)
    if not source.projects and not source.tenants:
        raise SaysNo(
            f"{source.path} has neither a [projects.NAME] nor a [tenants.NAME]: nothing was changed"
        )
    return source


def refuse_unknown_models(config: Config, models: Mapping[str, Sequence[str]], where: str) -> None:
    """`WrongUse` for a model pattern of a provider that the configuration does not have. ``models`` are those of each
    project, ``where`` is what the text names."""
    from tollhouse.config.load import catalog
    from tollhouse.config.rules import model_rules

    for _, why in model_rules(models, catalog(config)):
        raise WrongUse(f"{where}: {why}")


def _no(problems: Sequence[object]) -> SaysNo:
    """The last of ``problems``, once the others were said."""
    *others, last = map(str, problems)
    for problem in others:
        say(problem)
    return SaysNo(last)


def perform(config: Config, name: str, arguments: Mapping[str, Any], *, shown: bool = True) -> Any:
    """`client.perform`, its refusal as exit 1, or 2 for arguments that don't fit. ``shown``: that it takes long is shown on a
    terminal; not for what runs beside something else that the terminal shows."""
    from tollhouse.control import client

    try:
        with waiting("waits for the store") if shown else nullcontext():
            return client.perform(config, name, arguments)
    except client.StoreError as error:
        raise (WrongUse if error.wrong_use else SaysNo)(str(error)) from None


def perform_again(config: Config, name: str, arguments: Mapping[str, Any]) -> Any:
    """`perform` of what may be done twice, again while a store is away, for some seconds."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    from tollhouse.control import client

    tried = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, client.StoreError) and error.away),
        stop=stop_after_delay(_AGAIN_FOR_S),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    try:
        return tried(client.perform, config, name, arguments)
    except client.StoreError as error:
        raise SaysNo(str(error)) from None


def duration(text: str) -> float:
    """``90s``, ``15m``, ``12h``, ``30d``, ``2w`` as seconds: the type of an option."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a time such as 12h, 30d or 2w")
    return float(int(match[1]) * _SECONDS[match[2]])


def moment(text: str) -> float:
    """A date or time (UTC unless it says its zone) or how long ago (``24h``, ``7d``), as seconds since the epoch: the
    type of an option."""
    if _DURATION.fullmatch(text.strip()):
        return time.time() - duration(text)
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a date such as 2026-11-01 nor how long ago, such as 7d"
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def limit(text: str) -> str:
    """A limit in its canonical text: the type of an option."""
    from tollhouse.ledger.limits import LimitError, parse_limit

    try:
        return parse_limit(text).text
    except LimitError as error:
        raise click.BadParameter(str(error)) from None


def token_limits[F: Callable[..., Any]](command: F) -> F:
    """``--limit`` of a command that makes a token."""
    return click.option(
        "--limit",
        "limits",
        metavar="LIMIT",
        multiple=True,
        type=limit,
        help='A limit of the token beside its project\'s, such as "2 usd/day"; repeat for several.',
    )(command)


def token_text(made: Mapping[str, Any]) -> str:
    """A token that was made, as one sentence of talk."""
    ends = f"valid until {made['expires_at']}" if made["expires_at"] else "valid until revoked"
    return f"token {made['id']} for {', '.join(made['projects'])}, {ends}"
