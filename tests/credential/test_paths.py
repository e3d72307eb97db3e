"""A project's name leads to no other project's path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.paths import fill, path_problem, template_problem

TEMPLATE = "projects/{project}/{provider}"


@pytest.mark.parametrize(
    "project",
    [
        "..",
        ".",
        "...",
        "",
        "a/b",
        "../b",
        "a/../b",
        "a b",
        "a?b",
        "a#b",
        "a%2fb",
        "a\\b",
        "a\n",
        "é",
        "{provider}",
    ],
)
def test_a_value_that_is_no_name_is_refused(project: str) -> None:
    """Slashes, dots alone, quoting, query and control characters never come into a path."""
    with pytest.raises(CredentialUnavailable, match="project's name"):
        fill(TEMPLATE, "openai", "acme", project)


def test_only_the_values_in_the_template_count() -> None:
    """A tenant that the template does not use may have any name."""
    assert fill(TEMPLATE, "openai", "a/b", "proj_1.x-y") == "projects/proj_1.x-y/openai"
    assert fill("infrastructure/{provider}", "openai", "", "..") == "infrastructure/openai"


@given(st.text(), st.text())
def test_no_value_changes_the_shape(tenant: str, project: str) -> None:
    """Whatever the values, a path that comes out has the template's segments and nothing to normalise."""
    try:
        path = fill("t/{tenant}/{project}/{provider}", "openai", tenant, project)
    except CredentialUnavailable:
        return
    assert path.split("/") == ["t", tenant, project, "openai"]
    assert path_problem(path) is None


@pytest.mark.parametrize(
    "template", ["infrastructure/{provider}", "{tenant}/{project}-{provider}", "keys/openai"]
)
def test_templates(template: str) -> None:
    """What may stand in the configuration."""
    assert template_problem(template) is None


@pytest.mark.parametrize(
    "template",
    ["", "/a", "a/", "a//b", "a/../{provider}", "{model}", "{}", "{provider", "provider}", "{provider!r}", "a?b",
     "{provider.name}", "{{provider}}", "{provider:>9}", "a b", "k/{tenant}-{project}/{provider}", "{project}{tenant}"],
)  # fmt: skip
def test_no_templates(template: str) -> None:
    """What may not, with a reason."""
    assert template_problem(template)
