"""Names: a test reaches the code by its public ways, and one name means one thing over the whole package."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import tollhouse

PACKAGE = Path(tollhouse.__file__).parent
TESTS = Path(__file__).parent

SAME_MODULES = {
    "ca": "`cli.ca` is the command of what `trust.ca` is.",
    "token": "`cli.token` is the command of what `accounts.token` makes.",
    "client": "`control.client` and `ledger.store.client` are each the client of their room's server.",
    "kinds": "`formats.kinds` is the table, and a family's `kinds` fills it.",
    "http1": "`listen.http1` is ours, `listen.mitm.http1` mitmproxy's.",
    "objects": "`accounts.objects` keeps ids, and a family's finds them in its own bodies.",
    "errors": "A family's errors are of one of the forms of `families.formats.errors`.",
    "estimate": "Each family has its own.",
    "meter": "Each family has its own.",
    "request": "Each family has its own.",
    "rewrite": "Each family has its own.",
    "routes": "Each family has its own.",
    "usage": "Each family has its own.",
    "models": "`admit.models` is the gate `Models`, `config.models` the tables of the file, and a family has its own models.",
}
"""Names that several modules have, and why."""

Tree = ast.AST


def private(name: object) -> bool:
    """Whether it is a name with an underscore before it. Names like ``__version__`` are Python's."""
    return (
        isinstance(name, str)
        and name.isidentifier()
        and name.startswith("_")
        and not name.startswith("__")
    )


def defined(tree: Tree) -> Iterator[str]:
    """The private names that a module defines: its own, those of its classes, and what is set on ``self``."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Constant(value=str(name)):
                yield name  # Slots, and what `object.__setattr__` is given.


@functools.cache
def sources() -> Mapping[Path, Tree]:
    """The package's files, parsed when the first test asks and not wherever tests are collected."""
    return {file: ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def private_names() -> set[str]:
    """Those that the package defines."""
    return {name for tree in sources().values() for name in defined(tree) if private(name)}


@functools.cache
def private_names_of_classes() -> Mapping[str, set[str]]:
    """The same, by the class that defines them."""
    return {
        node.name: {name for name in defined(node) if private(name)}
        for tree in sources().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def touched(tree: Tree) -> Iterator[str]:
    """The private names of the package that a test's source touches.

    What is on ``self`` and ``cls`` is the test's own, unless its class inherits the name from one of the package. A name
    that the package does not define is another library's, or of a class of the tests.
    """
    ours, classes = private_names(), private_names_of_classes()
    own = {
        id(node)
        for inside in ast.walk(tree)
        if isinstance(inside, ast.ClassDef)
        for node in ast.walk(inside)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls")
        if not any(node.attr in classes.get(ast.unparse(base), ()) for base in inside.bases)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if name in ours and id(node) not in own:
                yield ast.unparse(node)
            case ast.ImportFrom(module=str(module), names=names) if (
                module.partition(".")[0] == "tollhouse"
            ):
                yield from (f"{module}.{alias.name}" for alias in names if private(alias.name))
            case ast.ClassDef(name=owner, bases=bases, body=body):
                inherited = {name for base in bases for name in classes.get(ast.unparse(base), ())}
                yield from (
                    f"{owner}.{inner.name}"
                    for inner in body
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                    and inner.name in inherited
                )
            case ast.Call(func=function, args=arguments) if _sets_or_gets(function):
                yield from (
                    ast.unparse(node)
                    for word in arguments
                    if isinstance(word, ast.Constant)
                    if str(word.value).rpartition(".")[2] in ours
                )


def _sets_or_gets(function: ast.expr) -> bool:
    return ast.unparse(function).rpartition(".")[2] in (
        "setattr",
        "getattr",
        "delattr",
        "hasattr",
        "attrgetter",
    )


def patched(tree: Tree) -> Iterator[str]:
    """Attributes of the package's modules and classes that a test's source replaces: those of an object are its own."""
    ours = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if (
                module.partition(".")[0] == "tollhouse"
            ):
                ours |= {alias.asname or alias.name for alias in names}
            case ast.Import(names=names):
                ours |= {
                    alias.asname or "tollhouse"
                    for alias in names
                    if alias.name.partition(".")[0] == "tollhouse"
                }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=function, args=[target, *_]) if ast.unparse(function).rpartition(
                "."
            )[2] in (
                "setattr",
                "delattr",
                "patch",
                "object",
            ):
                text = target.value if isinstance(target, ast.Constant) else ast.unparse(target)
                if str(text).partition(".")[0] in {*ours, "tollhouse"}:
                    yield ast.unparse(node)
            case ast.Assign(targets=targets):
                for target in targets:
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) in ours:
                        yield ast.unparse(node)


def test_a_test_touches_no_private_name() -> None:
    """It takes the public ways of the code, and is given what it needs instead of replacing it."""
    found = {}
    for file in sorted(TESTS.rglob("*.py")):
        tree = ast.parse(file.read_text())
        found[str(file.relative_to(TESTS))] = [*touched(tree), *patched(tree)]
    assert {file: names for file, names in found.items() if names} == {}


IMPORTS = "from tollhouse.gateway import Gateway\nfrom tollhouse import gateway\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("gateway._closers", True),
        ("Gateway(config)._closers.pop()", True),
        ("self._closers", True),
        ("class Own:\n    def f(self): self._closers", False),
        ("class Own(Gateway):\n    def f(self): self._closers", True),
        ("class Own(Gateway):\n    def f(self): self._login", False),
        ("class Own(Gateway):\n    async def _open_stores(self): ...", True),
        ("class Own:\n    async def _open_stores(self): ...", False),
        ("from tollhouse.gateway import _said", True),
        ("from tests.support import _mine", False),
        ("setattr(x, '_closers', [])", True),
        ("getattr(x, '_closers')", True),
        ("monkeypatch.setattr('tollhouse.gateway._closers', [])", True),
        ("monkeypatch.setattr('tollhouse.gateway.log', None)", True),
        ("monkeypatch.setattr(gateway, 'log', None)", True),
        ("monkeypatch.setattr(Gateway, 'start', None)", True),
        ("gateway.log = None", True),
        ("monkeypatch.setattr(inside.gateway.keys, 'get', fault)", False),
        ("monkeypatch.setattr(os, 'fsync', fault)", False),
        ("tls._sslobj", False),
        ("Rates._fields", False),
        ("tollhouse.__version__", False),
    ],
)
def test_what_is_a_touch(source: str, found: bool) -> None:
    """Attributes, imports, overridden methods and replaced names count; what is not the package's does not."""
    tree = ast.parse(IMPORTS + source)
    assert bool([*touched(tree), *patched(tree)]) == found


def several(names: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in names.items() if len(places) > 1}


def test_two_public_classes_have_two_names() -> None:
    """Who reads a class's name knows which one is meant."""
    names = defaultdict(list)
    for file, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names[node.name].append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert several(names) == {}


def test_two_modules_have_two_names() -> None:
    """But for those that say why, and for the folders' own."""
    names = defaultdict(list)
    for file in sources():
        folder = file.relative_to(PACKAGE).parent
        if file.stem != "__init__":
            names[file.stem].append(str(folder / file.name))
    assert several(names).keys() == SAME_MODULES.keys()
