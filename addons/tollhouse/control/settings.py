"""What the file says about projects and tenants, in the form in which the operations take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tollhouse.config.load import Config, ProjectsFile


def project_settings(config: Config | ProjectsFile) -> list[dict[str, Any]]:
    """The file's [projects] as the arguments of `Operations.project_set`."""
    return [
        {
            "project": name,
            "tenant": project.tenant,
            "limits": list(project.limits),
            "unpriced": project.unpriced,
            "on_shortfall": project.on_shortfall,
            "estimate": project.estimate,
            "login": project.login,
            "models": list(project.models),
        }
        for name, project in config.projects.items()
    ]


def tenant_settings(config: Config | ProjectsFile) -> list[dict[str, Any]]:
    """The file's [tenants] as the arguments of `Operations.tenant_set`."""
    return [
        {"tenant": name, "limits": list(tenant.limits)} for name, tenant in config.tenants.items()
    ]
