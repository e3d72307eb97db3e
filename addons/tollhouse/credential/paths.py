"""Where a key is looked for: path templates of {provider}, {tenant} and {project}."""

from __future__ import annotations

import re
import string

from tollhouse.credential.lease import CredentialUnavailable

PLACEHOLDERS = ("provider", "tenant", "project")

# This is narrower than Vault's own rule. It has no character that a URL library would normalise,
# quote or cut. `requests` turns ``ok/../deny`` into ``deny`` before it sends it, so dots alone are
# no name.
_NAME = re.compile(r"(?!\.+\Z)[A-Za-z0-9._-]+", re.ASCII)


def path_problem(path: str) -> str | None:
    """Why ``path`` (a mount, or a path below it) can't be used, or None."""
    for segment in path.split("/"):
        if not _NAME.fullmatch(segment):
            return f"{path!r} is not a path of names made of letters, digits, '.', '_' and '-', with one '/' between them"
    return None


def template_problem(template: str) -> str | None:
    """Why ``template`` can't be a path template, or None."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return f"{template!r} has a brace without its partner"
    for _, name, spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or spec or conversion):
            return f"{template!r} has a placeholder other than {{provider}}, {{tenant}} and {{project}}"
    if any("{tenant}" in segment and "{project}" in segment for segment in template.split("/")):
        # A name may have any character that could stand between two of them. Tenant a with project
        # b-c and tenant a-b with project c would have the same path.
        return f"{template!r} has {{tenant}} and {{project}} between the same slashes, where two pairs may read the same"
    return path_problem(template.format(provider="x", tenant="x", project="x"))


def is_shared(template: str) -> bool:
    """Whether a key at a path of ``template`` is used by every tenant that has none of its own."""
    return "{tenant}" not in template and "{project}" not in template


def fill(template: str, provider: str, tenant: str, project: str) -> str:
    """The path for this call. Raises `CredentialUnavailable` when a value that the template uses is
    no name: a project's id must not lead to another path."""
    values = {"provider": provider, "tenant": tenant, "project": project}
    for placeholder, value in values.items():
        if f"{{{placeholder}}}" in template and not _NAME.fullmatch(value):
            raise CredentialUnavailable(
                f"The {placeholder}'s name can't stand in the path template {template!r}: letters, digits, '.', '_' "
                "and '-' can."
            )
    return template.format(**values)
