"""Projects and tokens as Redis has them: a record is one text of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from tollhouse.ledger.names import Scope
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.parties import Identity, Project


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without its secret. Times are seconds since the epoch; None means never."""

    id: str
    tenant: str
    projects: tuple[str, ...]
    label: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    limits: tuple[str, ...] = ()
    charged_as: str = ""
    """The token whose limits count: the first of the tokens from which this one was rotated. Empty:
    itself."""
    admin: bool = False
    """It may change projects, limits and tokens through the admin API, and charges nothing."""

    def identity(self) -> Identity:
        """Whom a call with this token is made by."""
        return Identity(
            self.id, self.tenant, self.projects, self.label, self.charged_as, self.limits
        )

    def scope(self) -> Scope:
        """Whose limits count for a call with this token."""
        return Scope("token", self.tenant, self.charged_as or self.id)

    def as_json(self) -> dict[str, Any]:
        """The record with lists in the place of tuples."""
        return {**asdict(self), "projects": list(self.projects), "limits": list(self.limits)}


def encode(value: Project | TokenInfo) -> str:
    """The JSON of a record."""
    saved = asdict(value)
    for name, default in (("estimate", "typical"), ("login", "strip"), ("admin", False)):
        # A default is left out, so that a gateway of an earlier version beside this one can read
        # the record.
        if saved.get(name) == default:
            del saved[name]
    return json.dumps(saved, ensure_ascii=False, separators=(",", ":"))


def decode[R: (Project, TokenInfo)](kind: type[R], text: bytes) -> R:
    """The record that ``text`` is. Raises `LedgerUnavailable` for one that this version can't read."""
    try:
        saved: Any = json.loads(text)
        # A field of a later version stands for a rule that this version can't keep.
        unknown = saved.keys() - {field.name for field in fields(kind)}
        if unknown:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
        values: Any = {
            key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()
        }
        return kind(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise LedgerUnavailable(
            f"Redis holds a {kind.__name__} that this version can't read: {error}"
        ) from error
