"""The parties of a call: who makes it, and who pays for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IdentityKind = Literal["token", "jwt", "certificate", "network"]
"""How an identity is shown."""


@dataclass(frozen=True, slots=True)
class Project:
    """Whom a call is charged to. ``limits`` are the texts of the configuration (``10 usd/day``)."""

    id: str
    tenant: str
    limits: tuple[str, ...] = ()
    on_shortfall: Literal["reject", "clamp"] = "reject"
    models: tuple[str, ...] = ()
    """Globs of the models allowed; empty means all."""
    unpriced: Literal["refuse", "dearest"] = "refuse"
    estimate: Literal["typical", "worst"] = "typical"
    """``worst`` holds the most that a call can cost; without it the likely most."""
    login: Literal["strip", "pass"] = "strip"
    """``pass``: a workload's own login goes to its provider, in the place of a key of ours."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling: the public side of a gate token, or a subject of the platform. ``token_id`` is not secret."""

    token_id: str
    tenant: str
    projects: tuple[str, ...]
    label: str = ""
    charged_as: str = ""
    """The token whose limits count for this one: the first of the tokens from which it was rotated.
    Empty: itself."""
    limits: tuple[str, ...] = ()
    """The texts of the token's own limits."""
    kind: IdentityKind = "token"
    subject: str = ""
    """Whom the platform names: a JWT's ``sub``, a certificate's name, a network. Of a gate token ""."""
