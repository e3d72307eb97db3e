"""The package's structure, read from its sources: no cycles, the road's folders import only downstream, pure logic is pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

import tollhouse
from tollhouse.providers import BUILT_IN

ROOMS = (
    *(
        "__main__",
        "cli",
        "demo",
        "check",
        "doctor",
        "policies",
        "exports",
        "process",
        "workers",
        "gateway",
        "entrances",
        "upkeep",
        "readiness",
        "gates",
        "share",
        "cannot_start",
        "site",
        "control",
        "alerts",
        "stores",
        "operators",
        "telemetry",
        "config",
    ),
    *(
        "journey",
        "conversation",
        "fallback",
        "reply",
        "trip",
        "websocket",
        "socket_ties",
        "listen",
        "admit",
        "budget",
        "dispatch",
        "book",
        "call_counts",
        "identities",
        "accounts",
        "ledger",
        "prices",
        "trust",
    ),
    *(
        "clearance",
        "credential",
        "call",
        "outcome",
        "parties",
        "companions",
        "providers",
        "families",
        "refreshed",
        "files",
        "timestamps",
    ),
    *(
        "sources",
        "headers",
        "clients",
        "lasting",
        "frames",
        "denial",
        "clipped",
        "dialled_socket",
        "compact_json",
        "codings",
    ),
    *("concluding", "loop"),
)
"""Folders and single modules of the package: each imports itself and those after it, and nothing else."""
PURE = {
    "accounts": ("token",),
    "admit": ("authority", "bodies", "identity", "path", "strip"),
    "budget": ("charges",),
    "identities": ("certificates", "claims", "jwks", "networks", "templates"),
    "credential": ("environment", "lease", "paths", "pauses", "redact", "secret"),
    "dispatch": ("answer", "breaker", "guard", "retry", "verdict"),
    "ledger": ("limits", "store.urls", "transitions", "windows"),
    "listen": ("exchange",),
    "prices": ("rates", "sums", "table"),
    "site": ("totals",),
    "workers": ("restarts",),
}
"""Logic by room. The whole of ``families``, ``providers`` and ``config`` belongs to it as well."""
IMPURE = {"aiohttp", "fakeredis", "genai_prices", "hvac", "mitmproxy", "redis"}
LAYER = "tollhouse.listen.mitm"
OPERATORS = "tollhouse.operators"
"""An operator's own addons: mitmproxy's flows, options and hooks, and nothing of its proxy core."""
LOADS_LAYER = {
    "tollhouse.cannot_start",
    "tollhouse.entrances",
    "tollhouse.gates",
    "tollhouse.gateway",
    "tollhouse.listen.sockets",
    "tollhouse.process",
    "tollhouse.workers.worker",
}

NAMES = {name for provider in BUILT_IN for name in (provider.name, provider.family.name)}
"""Of providers and families."""
NAME_THEM = ("families", "providers", "demo")
PRICE_LISTS = {"tollhouse.prices.builtin", "tollhouse.prices.factors"}
"""Tables of prices by their lists' ids, which many providers have for a name."""
SAME_WORDS = {
    # A kind of credential: the service account that Google's token endpoint takes, whoever the provider is.
    "tollhouse.credential.fields": {"google"},
    "tollhouse.dispatch.sign": {"google"},
    "tollhouse.policies.destinations": {"google"},
    # What an AWS signature calls the service.
    "tollhouse.credential.cloud.aws": {"bedrock"},
    # Commands that are sent at once.
    "tollhouse.ledger.store.cluster": {"together"},
}
"""Words that are names elsewhere, and mean something else in these modules."""


class Import(NamedTuple):
    name: str
    """A module of the package, or the whole dotted name of another."""
    late: bool
    """Inside a function: it runs when the function does."""


Graph = Mapping[str, frozenset[Import]]


def read_graph(package: Path) -> dict[str, frozenset[Import]]:
    """Every module of ``package`` to what it imports at run time; ``if TYPE_CHECKING:`` is not run time."""
    files = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {
        name: frozenset(_imports(ast.parse(file.read_text()), files))
        for name, file in files.items()
    }


def _imports(node: ast.AST, modules: Mapping[str, Path], late: bool = False) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, late) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute, so that one can search for them"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield Import(full if full in modules else str(node.module), late)
    late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    ):
        children = iter(node.orelse)
    for child in children:
        yield from _imports(child, modules, late)


def ways(graph: Graph, start: str, *, late: bool) -> dict[str, tuple[str, ...]]:
    """Everything that importing ``start`` imports, and the way there. ``late``: imports inside functions count too."""
    found: dict[str, tuple[str, ...]] = {start: ()}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        # `import a.b` runs a's __init__ first.
        parents = (
            {Import(name.rpartition(".")[0], False)} if "." in name and name in graph else set()
        )
        for wanted in graph.get(name, frozenset()) | parents:
            if wanted.name not in found and (late or not wanted.late):
                found[wanted.name] = (*found[name], name)
                waiting.append(wanted.name)
    return found


def top(name: str) -> str:
    return name.partition(".")[0]


def room(name: str) -> str:
    """The room that a module of the package stands in; nothing for the package itself."""
    return [*name.split("."), ""][1]


def words(tree: ast.AST) -> Iterator[str]:
    """The constant texts and the identifiers of a module; no docstring, and no text that nothing is done with."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield text
            case (
                ast.Name(id=name)
                | ast.Attribute(attr=name)
                | ast.arg(arg=name)
                | ast.keyword(arg=str(name))
            ):
                yield name
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name
            case ast.alias(name=name, asname=other):
                yield from (
                    other or "",
                    *(name.split(".") if name.startswith("tollhouse.") else [name]),
                )
            case ast.ImportFrom(module=str(module)) if room(module) in NAME_THEM:
                yield from module.split(".")


def named(source: str) -> set[str]:
    """The providers and families that a module's source names."""
    return NAMES & {word.strip("_").lower() for word in words(ast.parse(source))}


GRAPH = read_graph(Path(tollhouse.__file__).parent)
NAMED = {f"tollhouse.{folder}.{leaf}" for folder, leaves in PURE.items() for leaf in leaves}
PURE_MODULES = sorted(
    name
    for name in GRAPH
    if name in NAMED
    or room(name)
    in {
        "families",
        "providers",
        "config",
        "book",
        "call",
        "outcome",
        "parties",
        "clearance",
        "denial",
        "files",
        "headers",
    }
    | {"clipped", "timestamps"}
    or name == "tollhouse.refreshed"
)


def test_named_modules_exist() -> None:
    """A module that was renamed does not leave a list in silence."""
    assert NAMED | LOADS_LAYER | {LAYER} <= set(GRAPH)
    assert {room(name) for name in GRAPH} - {""} == set(ROOMS)


def test_no_cycles() -> None:
    """No module imports itself through others, late imports included."""
    inside = {name: {i.name for i in imports if i.name in GRAPH} for name, imports in GRAPH.items()}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


def test_rooms_import_downwards() -> None:
    """A room imports itself and the rooms after it. There are no exceptions."""
    wrong = [
        f"{name} imports {wanted.name}"
        for name, imports in GRAPH.items()
        if room(name)
        for wanted in imports
        if top(wanted.name) == "tollhouse" and room(wanted.name)
        if ROOMS.index(room(wanted.name)) < ROOMS.index(room(name))
    ]
    assert not wrong


@pytest.mark.parametrize("name", PURE_MODULES)
def test_pure_imports(name: str) -> None:
    """Pure logic imports none of the libraries that reach out, on no way."""
    found = ways(GRAPH, name, late=True)
    assert not [
        " -> ".join((*way, module)) for module, way in found.items() if top(module) in IMPURE
    ]


def test_pure_modules_load_no_library_that_reaches_out() -> None:
    """What really is loaded with them agrees: no other library brings one along."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *PURE_MODULES], capture_output=True, text=True, check=True
    )
    loaded = {top(name) for name in done.stdout.split()}
    assert "tollhouse" in loaded
    assert not loaded & IMPURE


def test_mitmproxy_is_known_in_one_folder() -> None:
    """One folder knows mitmproxy's proxy core, and one more mitmproxy's public types; only what is given those,
    makes the gates or opens the listeners loads it."""
    direct = {
        name for name, imports in GRAPH.items() if any(top(i.name) == "mitmproxy" for i in imports)
    }
    core = {
        name
        for name, imports in GRAPH.items()
        if any(f"{i.name}.".startswith("mitmproxy.proxy.") for i in imports)
    }
    layer = {name for name in GRAPH if name == LAYER or name.startswith(f"{LAYER}.")}
    operators = {name for name in GRAPH if name.startswith(f"{OPERATORS}.")}
    inside = layer | operators
    assert direct <= inside
    assert core <= layer
    loading = {
        name
        for name in GRAPH
        if any(top(found) == "mitmproxy" for found in ways(GRAPH, name, late=False))
    }
    assert loading - inside == LOADS_LAYER


def test_imports_are_of_installed_distributions() -> None:
    """Every other import is of the standard library or of a distribution: what is impure can't hide behind a name."""
    foreign = {top(i.name) for imports in GRAPH.values() for i in imports} - {"tollhouse"}
    assert foreign <= sys.stdlib_module_names | packages_distributions().keys()


def test_providers_and_families_are_data() -> None:
    """The road names none of them: adding one is adding a file, and no branch elsewhere."""
    package = Path(tollhouse.__file__).parent
    found = {}
    for name in GRAPH:
        if room(name) in NAME_THEM or name in PRICE_LISTS:
            continue
        base = package.joinpath(*name.split(".")[1:])
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if these := named(file.read_text()):
            found[name] = these
    assert found == SAME_WORDS


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('x = "openai"', {"openai"}),
        ('x = f"{y}" + "OpenAI"', {"openai"}),
        ("from tollhouse.providers.azure import X", {"azure"}),
        ("import tollhouse.families.google.x", {"google"}),
        ("def _cohere(a): ...", {"cohere"}),
        ("class Mistral: ...", {"mistral"}),
        ("def f(vertex): ...", {"vertex"}),
        ("f(gemini=1)", {"gemini"}),
        ("x.ANTHROPIC", {"anthropic"}),
        ("from a import b as bedrock", {"bedrock"}),
        ('"""openai"""\n# azure\ndef f():\n    """cohere"""', set()),
        ('x = "such as openai/gpt-4o"', set()),
        ("import google.oauth2", set()),
    ],
)
def test_what_is_a_name(source: str, names: set[str]) -> None:
    """Code counts, and prose does not; what a message gives as an example is prose."""
    assert named(source) == names


def test_reader(tmp_path: Path) -> None:
    """The reader sees plain, from, late and package imports, and takes TYPE_CHECKING for what it is."""
    package = tmp_path / "pack"
    (package / "inner").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "a.py": "from pack import b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hvac\nelse:\n    import os",
        "b.py": "def f():\n    import pack.c",
        "c.py": "import redis.asyncio",
        "inner/__init__.py": "import aiohttp",
        "inner/leaf.py": "",
    }.items():
        (package / name).write_text(text)
    graph = read_graph(package)
    assert set(graph) == {"pack", "pack.a", "pack.b", "pack.c", "pack.inner", "pack.inner.leaf"}
    assert graph["pack.a"] == {
        Import("pack.b", False),
        Import("typing", False),
        Import("os", False),
    }
    assert ways(graph, "pack.a", late=True)["redis.asyncio"] == ("pack.a", "pack.b", "pack.c")
    assert "redis.asyncio" not in ways(graph, "pack.a", late=False)
    assert "aiohttp" in ways(graph, "pack.inner.leaf", late=False)


def test_typed() -> None:
    """Whoever type-checks against the package gets its annotations (PEP 561)."""
    assert (Path(tollhouse.__file__).parent / "py.typed").is_file()
