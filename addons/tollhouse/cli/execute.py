"""`tollhouse exec` and `tollhouse env`: a command whose calls go through the running gateway."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tollhouse.cli.common import (
    SaysNo,
    config_option,
    duration,
    json_option,
    limit,
    load,
    perform,
    say,
    show,
)

if TYPE_CHECKING:
    from tollhouse.cli.variables import Variables
    from tollhouse.config.load import Config

_REACH_S: Final = 3.0
_ANY: Final = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with
_GIVEN: Final = "TOLLHOUSE_TOKEN"


@dataclass(frozen=True, slots=True)
class Pass:
    """What the command is let through with. ``made`` says that the token is ours to revoke."""

    token: str
    token_id: str
    project: str
    made: bool
    ends_at: str | None


def _options[F: Callable[..., Any]](command: F) -> F:
    """Of both commands."""
    for option in (
        click.option(
            "--project",
            metavar="PROJECT",
            help="Whom its calls are charged to; needed if there are several.",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.File(),
            help=f"A gate token that there is already, - for stdin; else that in ${_GIVEN}, else one is made.",
        ),
        click.option(
            "--expires",
            metavar="TIME",
            type=duration,
            default="12h",
            show_default=True,
            help="When the token that is made ends, whatever happens.",
        ),
        click.option(
            "--limit",
            "limits",
            metavar="LIMIT",
            multiple=True,
            type=limit,
            help='A limit of that token beside its project\'s, such as "2 usd/day"; repeat for several.',
        ),
        click.option(
            "--gateway",
            metavar="HOST:PORT",
            help="The proxy listener of a gateway elsewhere; else that of this configuration.",
        ),
    ):
        command = option(command)
    return command


@click.command("exec", context_settings={"ignore_unknown_options": True})
@config_option
@_options
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(
    project: str | None,
    token_file: Any,
    expires: float,
    limits: tuple[str, ...],
    gateway: str | None,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND with its calls going through the running gateway.

    It gets a token of its own, proxy and CA by its environment, and none of your providers' keys. When it has ended the
    token is revoked, and what its calls came to is said on stderr. Its exit code is ours.

    tollhouse exec -- claude -p "Say hello."
    """
    from tollhouse.cli import foreground

    config = load()
    address = _gateway(config, gateway)
    if shutil.which(command[0]) is None:
        say(f"{command[0]} was not found: name a program that is on PATH")
        return foreground.NOT_FOUND
    with foreground.signals_kept():
        began = time.time()
        with (
            _pass(config, project, token_file, expires, limits) as admitted,
            tempfile.TemporaryDirectory(prefix="tollhouse-", ignore_cleanup_errors=True) as certs,
        ):
            found = _variables(config, address, admitted, Path(certs))
            before = {} if admitted.made else _used(config, admitted, began)
            if found.left_out:
                say(f"not handed on: {', '.join(found.left_out)}")
            try:
                code = foreground.run(command, found.applied(_ours()))
            except OSError as error:
                say(f"{command[0]} could not be started ({error.strerror})")
                return foreground.NOT_EXECUTABLE
        _say_cost(config, admitted, began, before, as_json)
    return code


@click.command()
@config_option
@_options
@click.option(
    "--shell",
    type=click.Choice(["bash", "fish"]),
    default="bash",
    show_default=True,
    help="Whose lines; bash's are those of sh and zsh as well.",
)
@click.option(
    "--certs",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where ca.pem and bundle.pem are written for it; else workload-certs in the state directory.",
)
@json_option
def env(
    project: str | None,
    token_file: Any,
    expires: float,
    limits: tuple[str, ...],
    gateway: str | None,
    shell: Any,
    certs: Path | None,
    as_json: bool,
) -> None:
    """Print what `exec` gives a command, as lines for this shell: eval "$(tollhouse env)".

    The token in them is valid until it expires, or is revoked.
    """
    config = load()
    address = _gateway(config, gateway)
    directory = (certs or config.state.directory / "workload-certs").absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with _pass(config, project, token_file, expires, limits, keep=True) as admitted:
        found = _variables(config, address, admitted, directory)
    if admitted.made:
        say(
            f"token {admitted.token_id} for {admitted.project}, valid until {admitted.ends_at}; "
            f"`tollhouse token revoke {admitted.token_id}` ends it"
        )
    if found.left_out:
        say(f"taken out of this shell: {', '.join(found.left_out)}")
    result = {
        "project": admitted.project,
        "token_id": admitted.token_id,
        "expires_at": admitted.ends_at,
        "set": dict(found.values),
        "unset": list(found.unset),
    }
    show(result, as_json, lambda: "\n".join(found.lines(shell)))


def _ours() -> dict[str, str]:
    """Our environment, less what is for this command alone."""
    return {name: value for name, value in os.environ.items() if name != _GIVEN}


def _gateway(config: Config, named: str | None) -> str:
    """``HOST:PORT`` of a proxy listener that takes connections."""
    from tollhouse.control import client

    found = named
    if found is None:
        try:
            found = client.ask(config.state.directory, "addresses", {}).get("proxy")
        except (client.NoGateway, client.StoreError):
            found = str(config.listen.proxy) if config.listen.proxy is not None else None
    if found is None:
        raise SaysNo(
            '[listen] proxy is "off", and a command needs it: set it, or name a gateway elsewhere by --gateway'
        )
    host, _, port = found.rpartition(":")
    host = host.strip("[]")
    host = _ANY.get(host, host)
    try:
        socket.create_connection((host, int(port)), _REACH_S).close()
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise SaysNo(
            f"no gateway answers at {found} ({why}): start it (`tollhouse run`), or name one elsewhere by --gateway HOST:PORT"
        ) from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _pass(
    config: Config,
    project: str | None,
    token_file: Any,
    expires: float,
    limits: tuple[str, ...],
    *,
    keep: bool = False,
) -> Iterator[Pass]:
    """A token that was given, or a new one, which is revoked at the end; with ``keep`` only if something fails."""
    given = token_file.read().strip() if token_file is not None else os.environ.get(_GIVEN, "")
    if given:
        if limits:
            raise SaysNo("--limit is for a token that is made here: this one was given")
        yield _given(config, given, project)
        return
    chosen = project or _only_project(config)
    made = perform(
        config,
        "token_create",
        {
            "projects": [chosen],
            "expires_s": expires,
            "label": "tollhouse env" if keep else "tollhouse exec",
            "limits": list(limits),
        },
    )
    try:
        yield Pass(made["token"], made["id"], chosen, True, made["expires_at"])
    except BaseException:
        _revoke(config, made)
        raise
    if not keep:
        _revoke(config, made)


def _revoke(config: Config, made: dict[str, Any]) -> None:
    try:
        perform(config, "token_revoke", {"token_id": made["id"]})
    except click.ClickException as error:
        say(
            f"the token {made['id']} could not be revoked ({error.format_message()}): it is valid until {made['expires_at']}; "
            f"`tollhouse token revoke {made['id']}` ends it"
        )


def _given(config: Config, token: str, project: str | None) -> Pass:
    from tollhouse.accounts.token import token_id, well_formed

    if not well_formed(token):
        raise SaysNo(
            "what was given is not a gate token (gate_...): `tollhouse token create` makes one"
        )
    identity = token_id(token)
    found = next((one for one in perform(config, "token_list", {}) if one["id"] == identity), None)
    if found is None or found["revoked_at"]:
        raise SaysNo(
            f"the token {identity} {'was revoked' if found else 'was not made here'}: leave it out, and one is made"
        )
    projects = found["projects"]
    chosen = project or (projects[0] if len(projects) == 1 else None)
    if chosen is None:
        raise SaysNo(f"the token is for several projects: --project one of {', '.join(projects)}")
    if chosen not in projects:
        raise SaysNo(f"the token {identity} is not for {chosen}, but for {', '.join(projects)}")
    return Pass(token, identity, chosen, False, found["expires_at"])


def _only_project(config: Config) -> str:
    known = [one["project"] for one in perform(config, "project_list", {})]
    if not known:
        raise SaysNo("there is no project yet: `tollhouse project set NAME --tenant T` makes one")
    if len(known) > 1:
        few = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        raise SaysNo(f"there are several projects: choose by --project one of {few}")
    return str(known[0])


def _variables(config: Config, address: str, admitted: Pass, certs: Path) -> Variables:
    from tollhouse.cli import variables
    from tollhouse.cli.ca import authority
    from tollhouse.config.load import catalog

    variables.write_certs(authority(config), os.environ, certs)
    scheme = "https" if config.listen.tls is not None else "http"
    return variables.variables(
        os.environ,
        catalog(config),
        proxy=f"{scheme}://{admitted.project}:{admitted.token}@{address}",
        certs=certs,
        wanted=_with_keys(config),
        logins=perform(config, "project_show", {"project": admitted.project})["login"] == "pass",
    )


def _with_keys(config: Config) -> set[str]:
    """The providers that a command may be meant to call: those that the file speaks of, and those whose key is here."""
    from tollhouse.control.key_desk import named_providers
    from tollhouse.credential.lease import CredentialUnavailable
    from tollhouse.credential.vault.embedded_vault import EmbeddedVault
    from tollhouse.providers import DEFAULT

    found = {DEFAULT.name, *named_providers(config)}
    if config.vault.embedded:
        with suppress(CredentialUnavailable):
            kept = EmbeddedVault(config.state.directory, config.vault.paths[0], config.vault.field)
            found.update(*(key.path.split("/") for key in kept.list()))
    return found


def _used(config: Config, admitted: Pass, since: float) -> dict[str, Any]:
    """What is charged to the token: ``usd``, ``tokens``, ``requests``; empty for nothing yet."""
    asked = {"project": admitted.project, "since": since - 86_400, "by": "token"}
    rows = perform(config, "usage", asked)["rows"]
    return next((row for row in rows if row["key"] == admitted.token_id), {})


def _say_cost(
    config: Config, admitted: Pass, began: float, before: dict[str, Any], as_json: bool
) -> None:
    try:
        after = _used(config, admitted, began)
    except click.ClickException as error:
        say(f"what it cost is not known ({error.format_message()})")
        return
    usd = Decimal(after.get("usd", "0")) - Decimal(before.get("usd", "0"))
    tokens, calls = (
        int(after.get(name, 0)) - int(before.get(name, 0)) for name in ("tokens", "requests")
    )
    cost = {
        "project": admitted.project,
        "token_id": admitted.token_id,
        "calls": calls,
        "tokens": tokens,
        "usd": f"{usd:f}",
    }
    if as_json:
        import json

        click.echo(json.dumps(cost), err=True)
        return
    say(
        f"{admitted.project}: {calls} {'call' if calls == 1 else 'calls'}, {tokens} tokens, {usd:f} usd"
    )
