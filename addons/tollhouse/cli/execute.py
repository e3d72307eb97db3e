"""`tollhouse exec` and `tollhouse env`: a command whose calls go through the running gateway."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tollhouse.cli.command_token import GIVEN, CommandToken, for_command, for_shell, read_given
from tollhouse.cli.common import (
    SaysNo,
    config_option,
    duration,
    json_option,
    load,
    perform,
    perform_again,
    say,
    show,
    token_limits,
    token_text,
)

if TYPE_CHECKING:
    from tollhouse.cli.variables import Variables
    from tollhouse.config.load import Config

_REACH_S: Final = 3.0
_ANY: Final = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with


def _proxy_listener(text: str) -> str:
    """The type of ``--gateway``."""
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8080")
    return text


def _options[F: Callable[..., Any]](command: F) -> F:
    """Adds the options that `exec` and `env` have in common."""
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
            help=f"A gate token that there is already, - for stdin; else that in ${GIVEN}, else one is made.",
        ),
        click.option(
            "--expires",
            metavar="TIME",
            type=duration,
            default="12h",
            show_default=True,
            help="When the token that is made ends, whatever happens.",
        ),
        token_limits,
        click.option(
            "--gateway",
            metavar="HOST:PORT",
            type=_proxy_listener,
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
    given = read_given(token_file)
    if shutil.which(command[0]) is None:
        return _not_run(command[0])
    with foreground.signals_kept():
        began = time.time()
        with (
            for_command(config, project, given, expires, limits) as admitted,
            tempfile.TemporaryDirectory(prefix="tollhouse-", ignore_cleanup_errors=True) as certs,
        ):
            found = _variables(config, address, admitted, Path(certs))
            before = {} if admitted.made else _used(config, admitted, began)
            if found.left_out:
                say(f"not handed on: {', '.join(found.left_out)}")
            _say_elsewhere(found)
            try:
                code = foreground.run(command, found.applied(_ours()))
            except OSError as error:
                say(f"{command[0]} could not be started ({error.strerror})")
                return foreground.NOT_EXECUTABLE
        _say_cost(config, admitted, began, before, as_json)
        if code > foreground.BY_SIGNAL:
            _say_uncounted(config, admitted)
    return code


def _not_run(program: str) -> int:
    """Says why it can't be, and gives the exit code of a shell."""
    from tollhouse.cli import foreground

    if "/" in program and Path(program).exists():
        why = "is a directory" if Path(program).is_dir() else "is not executable (chmod +x)"
        say(f"{program} {why}: name a program")
        return foreground.NOT_EXECUTABLE
    say(f"{program} was not found: name a program that is on PATH")
    return foreground.NOT_FOUND


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
    given = read_given(token_file)
    with for_shell(config, project, given, expires, limits) as admitted:
        directory.mkdir(parents=True, exist_ok=True)
        found = _variables(config, address, admitted, directory)
    if admitted.made:
        made = {"id": admitted.id, "projects": [admitted.project], "expires_at": admitted.ends_at}
        say(f"{token_text(made)}; `tollhouse token revoke {admitted.id}` ends it")
    if found.left_out:
        say(f"taken out of this shell: {', '.join(found.left_out)}")
    _say_elsewhere(found)
    result = {
        "project": admitted.project,
        "token_id": admitted.id,
        "expires_at": admitted.ends_at,
        "set": dict(found.values),
        "unset": list(found.unset),
    }
    show(result, as_json, lambda: "\n".join(found.lines(shell)))


def _ours() -> dict[str, str]:
    """Our environment, less what is for this command alone."""
    return {name: value for name, value in os.environ.items() if name != GIVEN}


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


def _variables(config: Config, address: str, admitted: CommandToken, certs: Path) -> Variables:
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


def _say_elsewhere(found: Variables) -> None:
    if found.elsewhere:
        names = ", ".join(found.elsewhere)
        say(
            f"calls by {names} go to another host than a provider's, and not through here: unset it to have them go through"
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


def _used(config: Config, admitted: CommandToken, since: float) -> dict[str, Any]:
    """What is charged to the token: ``usd``, ``tokens``, ``requests``; empty for nothing yet."""
    asked = {"project": admitted.project, "since": since - 86_400, "by": "token"}
    rows = perform_again(config, "usage", asked)["rows"]
    return next((row for row in rows if row["key"] == admitted.id), {})


def _say_uncounted(config: Config, admitted: CommandToken) -> None:
    """Says so, if money is still held for the project: a call that the command has left in its middle is charged some seconds
    later, and is in no sum yet."""
    try:
        scopes = perform(config, "budget_show", {"project": admitted.project})["scopes"]
    except click.ClickException:
        return
    if any(Decimal(limit["held"]) for scope in scopes for limit in scope["limits"]):
        say(
            "a call that was under way is not in it yet: "
            f"`tollhouse usage --project {admitted.project} --by token` has it soon as {admitted.id}"
        )


def _say_cost(
    config: Config, admitted: CommandToken, began: float, before: dict[str, Any], as_json: bool
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
        "token_id": admitted.id,
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
