"""Projects and tokens as the answers of operations have them. Times are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Literal

from tollhouse.accounts.stored import TokenInfo
from tollhouse.accounts.token import SUBJECT_ID
from tollhouse.control.refusal import Json
from tollhouse.parties import Project
from tollhouse.timestamps import rfc3339

TokenKind = Literal["gate", "view", "admin", "subject"]


def project_json(project: Project) -> Json:
    return {
        "project": project.id,
        "tenant": project.tenant,
        "limits": list(project.limits),
        "on_shortfall": project.on_shortfall,
        "models": list(project.models),
        "unpriced": project.unpriced,
        "estimate": project.estimate,
        "login": project.login,
    }


def token_json(info: TokenInfo) -> Json:
    return {
        "id": info.id,
        "kind": _kind(info),
        "tenant": info.tenant,
        "projects": list(info.projects),
        "label": info.label,
        "created_at": moment(info.created_at),
        "expires_at": moment(info.expires_at),
        "revoked_at": moment(info.revoked_at),
        "limits": list(info.limits),
    }


def _kind(info: TokenInfo) -> TokenKind:
    if info.admin:
        return "admin"
    if info.projects:
        return "gate"
    return "subject" if SUBJECT_ID.fullmatch(info.id) else "view"


def moment(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
