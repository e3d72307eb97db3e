"""A role of Vault's AWS engine, whose keys are leased."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

FORM: Final = re.compile(
    r"(?P<mount>[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*)/(?P<endpoint>creds|sts)/(?P<name>[A-Za-z0-9._-]+)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class VaultRole:
    """``path`` is MOUNT/creds/ROLE or MOUNT/sts/ROLE. What is empty is the role's own to say. ``ttl_s`` 0: the same."""

    path: str
    ttl_s: int = 0
    role_arn: str = ""
    session_name: str = ""

    @property
    def parts(self) -> tuple[str, str, str]:
        """Mount, endpoint and the role's name."""
        found = FORM.fullmatch(self.path)
        assert found is not None
        return found["mount"], found["endpoint"], found["name"]

    @property
    def capability(self) -> str:
        """What a policy has to allow at the path."""
        return "update" if self.parts[1] == "sts" else "read"
