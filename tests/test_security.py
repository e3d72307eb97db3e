"""SECURITY.md's attempts: each has a state, and tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(
    r"\| (?P<number>\d+) \| (?P<what>.+) \| (?P<state>.+) \| (?P<becomes>.+) \| (?P<tests>.+) \|"
)
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
STATE = re.compile(r"closed|harmless|bounded|partly|unless `[^`]+`|by the \[policies\]\(policies\)")
NAMED = re.compile(r"\bRows? (\d+(?:(?:, | and | to )\d+)*)")


def rows() -> list[re.Match[str]]:
    text = (ROOT / "SECURITY.md").read_text().partition("\n## Attempts\n")[2].partition("\n## ")[0]
    found = [ROW.fullmatch(line) for line in text.splitlines() if re.match(r"\| \d", line)]
    assert all(found)
    return [row for row in found if row]


@cache
def functions(file: Path) -> dict[str, str]:
    """The tests of a file, with what they say of themselves."""
    found = ast.walk(ast.parse(file.read_text()))
    return {
        one.name: ast.get_docstring(one) or ""
        for one in found
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def where(file: str) -> Path:
    return ROOT / (file if "/" in file else f"tests/e2e/{file}")


def test_each_row_has_a_state_and_tests_that_are_there() -> None:
    found = rows()
    assert [int(row["number"]) for row in found] == list(range(1, len(found) + 1))
    for row in found:
        assert STATE.fullmatch(row["state"]), row["number"]
        tests = TEST.findall(row["tests"])
        assert " ".join(f"`{file}::{name}`" for file, name in tests) == row["tests"], row["number"]
        missing = [one for one in tests if one[1] not in functions(where(one[0]))]
        assert missing == [], row["number"]


def test_what_a_test_says_of_its_row() -> None:
    """A test that names a row names one that there is."""
    known = {int(row["number"]) for row in rows()}
    for file in sorted((ROOT / "tests" / "e2e").glob("test_*.py")):
        for name, said in functions(file).items():
            named = {int(one) for text in NAMED.findall(said) for one in re.findall(r"\d+", text)}
            assert named <= known, f"{file.name}::{name}"
