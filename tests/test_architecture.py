"""docs/architecture.md and the rooms' docstrings name the rooms and modules that there are."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import tollhouse
from tests.test_imports import ROOMS
from tollhouse.outcome import End

PACKAGE = Path(tollhouse.__file__).parent
TEXT = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
TREE = TEXT.partition("```\naddons/tollhouse/\n")[2].partition("```")[0].splitlines()
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


def _exists(place: Path, name: str) -> bool:
    return (place / name).is_dir() if name.endswith("/") else (place / f"{name}.py").is_file()


def test_the_list_has_the_rooms_in_their_order() -> None:
    """Every room, no other, and in the order in which rooms may import."""
    named = [line.split()[0] for line in TREE if not line.startswith("    ")]
    assert [name.rstrip("/") for name in named] == list(ROOMS)
    assert all(_exists(PACKAGE, name) for name in named)


def test_each_module_of_the_list_is_in_its_room() -> None:
    """Whatever stands below a room exists there."""
    room = PACKAGE
    for line in TREE:
        name = line.split()[0]
        if line.startswith("    "):
            assert _exists(room, name), f"{room.name}/{name}"
        else:
            room = PACKAGE / name


def test_each_line_of_the_list_says_something() -> None:
    """A name alone helps nobody."""
    assert TREE
    assert not [line for line in TREE if len(line.split()) < 2]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_a_room_names_its_modules(folder: Path) -> None:
    """The table in its docstring has a line for each module and folder, and no other."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert docstring
    inside = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    folders = {path.name for path in folder.iterdir() if path.is_dir()} - {"__pycache__"}
    inside |= {f"{name}/" for name in folders}
    named = set(re.findall(r"^(?:    )?([a-z_0-9]+/?) {2,}", docstring, re.MULTILINE))
    assert named == (inside if folder != PACKAGE else set())


def test_what_is_named_as_code_exists() -> None:
    """``room.module.Name`` and ``room.module.Class.method`` of the document are there."""
    spans = re.findall(r"`([a-z_]+(?:\.\w+)+)`", TEXT)
    named = {span for span in spans if span.split(".")[0] in ROOMS}
    assert len(named) > 20
    for span in named:
        found: object = None
        *parts, last = span.split(".")
        for at in range(len(parts) + 1, 0, -1):
            try:
                found = importlib.import_module(".".join(("tollhouse", *[*parts, last][:at])))
            except ModuleNotFoundError:
                continue
            for name in [*parts, last][at:]:
                found = getattr(found, name)
            break
        assert found is not None, span


def test_the_table_of_ends_is_whole() -> None:
    """Each way in which a call can end has its row."""
    rows = TEXT.partition("| `End` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE) == [end.name for end in End]


def test_the_table_of_contents_names_files_that_exist() -> None:
    """The last column of its docstring. A name without a folder is in the folder of the first."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / "gateway.py").read_text())) or ""
    lines = [line for line in docstring.splitlines() if len(line) > 60 and line[58:60] == "  "]
    columns = [line[60:].split(", ") for line in lines]
    assert len(columns) > 15
    for names in columns:
        folder = names[0].rpartition("/")[0]
        for name in names:
            assert (PACKAGE / name).exists() or (PACKAGE / folder / name).exists(), name
