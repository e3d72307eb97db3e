"""The project by what a JWT claims: what is found, and what is not taken for it."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.identities.templates import ClaimError, ProjectRule, rule_problem

CLAIMS: dict[str, Any] = {
    "sub": "x",
    "team": "a-b",
    "odd": "a/b",
    "https://example.com/p": "url",
    "kubernetes.io": {"namespace": "x", "a/b": "slash", "serviceaccount": {"name": "y-z"}},
    "groups": ["one", "two", "one"],
    "none": [],
    "mixed": ["one", 2],
    "many": ["g"] * 65,
    "number": 7,
    "null": None,
    "empty": "",
    "cyrillic": "\u0430",
    "dotless": "\u0131",
    "long": "a" * 129,
    "dot": ".a",
    "space": "a ",
}
PAIR = "p-{/kubernetes.io/namespace}-{team}"


@pytest.mark.parametrize(
    ("rule", "projects", "found"),
    [
        ("sub", {}, ("x",)),
        ("https://example.com/p", {}, ("url",)),
        ("/kubernetes.io/a~1b", {}, ("slash",)),
        ("k8s-{/kubernetes.io/namespace}", {}, ("k8s-x",)),
        ("{/kubernetes.io/namespace}_{/kubernetes.io/serviceaccount/name}", {}, ("x_y-z",)),
        (PAIR, {}, ("p-x-a-b",)),
        ("odd", {"a/b": "proj"}, ("proj",)),
        ("p/{odd}", {"p/a/b": "proj"}, ("proj",)),
        ("groups", {}, ("one", "two")),
        ("groups", {"two": "proj", "three": "other"}, ("proj",)),
        ("all", {}, "no claim all"),
        ("/kubernetes.io/other", {}, "no claim"),
        ("/sub/0", {}, "no claim"),
        ("kubernetes.io", {}, "neither a text nor a list"),
        ("number", {}, "neither"),
        ("null", {}, "neither"),
        ("mixed", {}, "neither"),
        ("many", {}, "neither"),
        ("none", {}, "is empty"),
        ("none", {"a": "b"}, "an empty list"),
        ("empty", {}, "can't be the name"),
        ("{empty}x", {}, "is no text"),
        ("{number}", {}, "is no text"),
        ("{groups}", {}, "is no text"),
        ("cyrillic", {}, "can't be the name"),
        ("dotless", {"i": "proj"}, "No project is configured"),
        ("sub", {"X": "proj"}, "No project is configured"),
        ("odd", {}, "can't be the name"),
        ("long", {}, "can't be the name"),
        ("dot", {}, "can't be the name"),
        ("space", {}, "can't be the name"),
        # Two pairs that would be one name.
        ("{team}-{sub}", {}, "parts the claims"),
        ("{sub}--{team}-{sub}", {}, "parts the claims"),
    ],
)
def test_projects(rule: str, projects: dict[str, str], found: tuple[str, ...] | str) -> None:
    """Values are taken as they are, or refused: nothing is folded, cut or guessed."""
    made = ProjectRule(rule, projects)
    if isinstance(found, tuple):
        assert made.projects_of(CLAIMS) == found
    else:
        with pytest.raises(ClaimError, match=found):
            made.projects_of(CLAIMS)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("sub", ""),
        ("{a}_{b}", ""),
        ("", "names no claim"),
        ("/", "names no claim"),
        ("x{}", "names no claim"),
        ("{a}{b}", "side by side"),
        ("{a", "not closed"),
        ("a}", "not closed"),
        ("{{a}}", "not closed"),
        ("/a~2", "no JSON Pointer"),
    ],
)
def test_rules(rule: str, problem: str) -> None:
    """What `tollhouse check` says of them."""
    assert problem in rule_problem(rule)
    assert bool(problem) == bool(rule_problem(rule))
