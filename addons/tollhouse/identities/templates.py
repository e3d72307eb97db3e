"""The project and the tenant of an identity, by what its JWT claims.

``"project"`` is the name of a claim. ``"{...}"`` stands in a template for a claim: by its name, or, with a slash before it, by
a JSON Pointer (RFC 6901): ``"k8s-{/kubernetes.io/namespace}"``. A value is taken as it is, without any folding of case or of
Unicode, and it must be ASCII that a project's name may have.

Two claims in a template must not be read as two others: with ``"{a}-{b}"`` the namespace ``x`` with the account ``y-z`` and the
namespace ``x-y`` with the account ``z`` would be one project. So no value but the last may have a character of the text behind
it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tollhouse.ledger.names import check_id

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
MOST: Final = 64
"""Projects of one JWT whose claim is a list."""


class ClaimError(ValueError):
    """The claims name no project. The text says why, with what the client chose cut and escaped."""


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """``text`` is a claim's name, or a JSON Pointer if it begins with a slash."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip("/ "):
            raise ValueError("names no claim; write it like {sub} or {/kubernetes.io/namespace}")
        if self.text.startswith("/") and re.search(r"~(?![01])", self.text):
            raise ValueError("is no JSON Pointer: ~ stands there as ~0, and / in a name as ~1")

    def of(self, claims: Mapping[str, Any]) -> Any:
        """Raises `ClaimError`."""
        steps = [self.text]
        if self.text.startswith("/"):
            steps = [s.replace("~1", "/").replace("~0", "~") for s in self.text[1:].split("/")]
        found: Any = claims
        for step in steps:
            if not isinstance(found, dict) or step not in found:
                raise ClaimError(f"The JWT has no claim {self.text}.")
            found = found[step]
        return found


@dataclass(frozen=True, slots=True)
class Template:
    """``literals`` stand around and between the ``claims``: one more than there are claims."""

    literals: tuple[str, ...]
    claims: tuple[ClaimPath, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises `ValueError`."""
        parts = _PLACE.split(text)
        literals, claims = tuple(parts[::2]), tuple(map(ClaimPath, parts[1::2]))
        if any("{" in part or "}" in part for part in literals):
            raise ValueError("has a brace that is not closed; write a claim like {sub}")
        if any(not part for part in literals[1:-1]):
            raise ValueError(
                "has two claims side by side, and nobody could tell where the first ends; put a character between them "
                "that its values never have"
            )
        return cls(literals, claims)

    def fill(self, claims: Mapping[str, Any]) -> str:
        """Raises `ClaimError`."""
        out = [self.literals[0]]
        for at, path in enumerate(self.claims):
            value, behind = path.of(claims), self.literals[at + 1]
            if not isinstance(value, str) or not value:
                raise ClaimError(f"The JWT's claim {path.text} is no text.")
            if at + 1 < len(self.claims) and set(value) & set(behind):
                raise ClaimError(
                    f"The JWT's claim {path.text} has {behind!r} in it, which parts the claims of a project's name."
                )
            out += [value, behind]
        return "".join(out)


@dataclass(frozen=True, slots=True)
class ProjectRule:
    """``rule`` is the name of a claim, or a template if it has a brace. ``projects`` are the projects by what that gives; if
    there are none, it is the project's name itself. A claim that is a list names several."""

    rule: str
    projects: Mapping[str, str] = field(default_factory=dict)

    def projects_of(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """At least one. Raises `ClaimError`."""
        found = self._values(claims)
        if self.projects:
            chosen = [self.projects[value] for value in found if value in self.projects]
            if not chosen:
                raise ClaimError(
                    f"No project is configured for {ascii(found[0][:200]) if found else 'an empty list'}."
                )
            return tuple(dict.fromkeys(chosen))
        for value in found:
            try:
                check_id("project", value)
            except ValueError:
                raise ClaimError(f"{value[:200]!a} can't be the name of a project.") from None
        if not found:
            raise ClaimError(f"The JWT's claim {self.rule} is empty.")
        return tuple(dict.fromkeys(found))

    def _values(self, claims: Mapping[str, Any]) -> Sequence[str]:
        if "{" in self.rule:
            return [Template.parse(self.rule).fill(claims)]
        value = ClaimPath(self.rule).of(claims)
        values = value if isinstance(value, list) else [value]
        if len(values) > MOST or not all(isinstance(one, str) for one in values):
            raise ClaimError(
                f"The JWT's claim {self.rule} is neither a text nor a list of at most {MOST} texts."
            )
        return values


def names_nothing(rule: str, kind: str) -> bool:
    """Whether no claims make a name of a ``kind`` of ``rule``, which is one that `rule_problem` has nothing against."""
    if "{" not in rule:
        return False
    made = Template.parse(rule)
    try:
        check_id(kind, "a".join(made.literals))
    except ValueError:
        return True
    return False


def rule_problem(rule: str) -> str:
    """What is wrong with a project's rule or a tenant's; empty if nothing is."""
    try:
        Template.parse(rule) if "{" in rule or "}" in rule else ClaimPath(rule)
    except ValueError as error:
        return str(error)
    return ""
