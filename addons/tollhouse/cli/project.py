"""`tollhouse project set|show|list|remove` and `tollhouse apply`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tollhouse.cli.common import (
    config_option,
    json_option,
    limit,
    load,
    load_settings,
    perform,
    refuse_unknown_models,
    say,
    show,
)

if TYPE_CHECKING:
    from tollhouse.config.load import Config


@click.group()
@config_option
def project() -> None:
    """Projects: whom a call is charged to."""


@project.command("set")
@config_option
@click.argument("project")
@click.option(
    "--tenant",
    metavar="NAME",
    help="The tenant it belongs to; needed for a new project, fixed afterwards.",
)
@click.option(
    "--limit",
    "limits",
    metavar="LIMIT",
    multiple=True,
    type=limit,
    help='Such as "10 usd/day", "200000 tokens/minute", "2 usd/session", "8 concurrent"; repeat for several. '
    "Replaces all its limits.",
)
@click.option("--no-limits", is_flag=True, help="Take all its limits away.")
@click.option(
    "--unpriced",
    type=click.Choice(["refuse", "dearest"]),
    help="A model without a known price: refuse it, or charge the provider's dearest price.",
)
@click.option(
    "--on-shortfall",
    type=click.Choice(["reject", "clamp"]),
    help="A call that may cost more than is left: refuse it, or lower its output cap to what is left.",
)
@click.option(
    "--estimate",
    type=click.Choice(["typical", "worst"]),
    help="What is held for a call's input: what its text is likely to cost, or the most that it can.",
)
@click.option(
    "--login",
    type=click.Choice(["strip", "pass"]),
    help="A workload's own login (Claude's or ChatGPT's subscription): take it off, or let it through to its provider.",
)
@click.option(
    "--model",
    "models",
    metavar="GLOB",
    multiple=True,
    help='A model it may use, such as "gpt-4o*" or "anthropic/claude-*"; repeat for several. Replaces the list.',
)
@click.option("--any-model", is_flag=True, help="Take the list of models away.")
@json_option
def project_set(
    project: str,
    tenant: str | None,
    limits: tuple[str, ...],
    no_limits: bool,
    unpriced: str | None,
    on_shortfall: str | None,
    estimate: str | None,
    login: str | None,
    models: tuple[str, ...],
    any_model: bool,
    as_json: bool,
) -> None:
    """Make PROJECT, or change what is given; the rest stays as it is."""
    if limits and no_limits:
        raise click.UsageError(
            "--limit and --no-limits contradict each other", click.get_current_context()
        )
    if models and any_model:
        raise click.UsageError(
            "--model and --any-model contradict each other", click.get_current_context()
        )
    config = load()
    given = {
        "project": project,
        "tenant": tenant,
        "limits": list(limits) if limits or no_limits else None,
        "unpriced": unpriced,
        "on_shortfall": on_shortfall,
        "estimate": estimate,
        "login": login,
        "models": list(models) if models or any_model else None,
    }
    refuse_unknown_models(config, {project: models}, "--model")
    done = perform(
        config, "project_set", {name: value for name, value in given.items() if value is not None}
    )
    if project in config.projects:
        say(
            f"{config.path} names {project} too, and its settings hold again from the next start or `tollhouse apply`"
        )
    by_session = [limit for limit in done["limits"] if limit.endswith("/session")]
    if len(by_session) == len(done["limits"]) and not _tenant_limited(config, project):
        also = " but by session, and an agent names its session itself" if by_session else ""
        say(
            f"neither {project} nor its tenant {done['tenant']} has a limit{also}: it may spend without bound"
        )
    show(done, as_json, lambda: "")


def _tenant_limited(config: Config, project: str) -> bool:
    scopes = perform(config, "budget_show", {"project": project})["scopes"]
    return any(scope["limits"] for scope in scopes if scope["scope"].startswith("tenant:"))


@project.command("show")
@config_option
@click.argument("project")
@json_option
def project_show(project: str, as_json: bool) -> None:
    """What PROJECT is set to."""
    found = perform(load(), "project_show", {"project": project})
    show(found, as_json, lambda: _table([found]))


@project.command("list")
@config_option
@json_option
def project_list(as_json: bool) -> None:
    """All projects."""
    found = perform(load(), "project_list", {})
    if not found:
        say(
            'there is no project yet: `tollhouse project set NAME --tenant TENANT --limit "10 usd/day"` makes one'
        )
    show(found, as_json, lambda: _table(found) if found else "")


@project.command("remove")
@config_option
@click.argument("project")
@json_option
def project_remove(project: str, as_json: bool) -> None:
    """Remove PROJECT and revoke the tokens that are for it alone."""
    config = load()
    done = perform(config, "project_remove", {"project": project})
    if done["revoked"]:
        say(f"revoked {len(done['revoked'])} token(s) of {project}")
    if project in config.projects:
        say(
            f"{config.path} still names {project}: the next start or `tollhouse apply` makes it again"
        )
    show(done, as_json, lambda: "")


@click.command()
@config_option
@click.option(
    "-f",
    "--file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Another file whose [projects] and [tenants] are put there; else the configuration itself.",
)
@json_option
def apply(file: Path | None, as_json: bool) -> None:
    """Put the file's [projects] and [tenants] into the stores.

    `run` does it at its start. What the file does not name stays as it is. The stores are the configuration's, also with
    --file.
    """
    from tollhouse.control.settings import project_settings, tenant_settings

    config = load(enforced=True)
    source = config if file is None else load_settings(file)
    if file is not None:
        models = {name: entry.models for name, entry in source.projects.items()}
        refuse_unknown_models(config, models, f"{source.path}: models")
    arguments = {"projects": project_settings(source), "tenants": tenant_settings(source)}
    done = perform(config, "settings_apply", arguments)
    say(
        f"applied {len(done['projects'])} project(s) and {len(done['tenants'])} tenant(s) of {source.path}"
    )

    def for_people() -> str:
        from tollhouse.cli import render

        tenants = [(tenant["tenant"], tenant["limits"]) for tenant in done["tenants"]]
        tables = [_table(done["projects"])] if done["projects"] else []
        return "\n\n".join(
            [*tables, render.table(("TENANT", "LIMITS"), tenants)] if tenants else tables
        )

    show(done, as_json, for_people)


def _table(projects: list[dict[str, Any]]) -> str:
    from tollhouse.cli import render

    columns = (
        "project",
        "tenant",
        "limits",
        "models",
        "on_shortfall",
        "unpriced",
        "estimate",
        "login",
    )
    rows = [tuple(p[column] for column in columns) for p in projects]
    return render.table(tuple(column.replace("_", " ").upper() for column in columns), rows)
