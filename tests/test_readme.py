"""README and docs/ say what the program does: their tables are the program's own, their commands and paths exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import click
import pytest

from tests.support.calls import IDENTITY, admitted, covered
from tollhouse.book import Concluded, record_of
from tollhouse.call import Amount, ChargedBy
from tollhouse.cli.main import cli
from tollhouse.config.load import load_config, unenforced
from tollhouse.denial import REASONS, Denial
from tollhouse.families.units import Charge, Units
from tollhouse.outcome import End, Outcome
from tollhouse.providers import BUILT_IN

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
TEXTS = ["README.md", "CHANGELOG.md", "SECURITY.md", *DOCS]
ALL = "\n".join((ROOT / name).read_text() for name in ("README.md", *DOCS))
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", ALL, re.DOTALL | re.MULTILINE)
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", ALL, flags=re.DOTALL | re.MULTILINE))
# Of the makers' own work, or of the machine that it was written on.
FORBIDDEN = re.compile(
    r"\bissues?\b|\bTODO\b|\bFIXME\b|\bXXX\b|/root/|/home/|/work/|/tmp/|\bWIP\b", re.IGNORECASE
)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def rows(name: str, title: str = "") -> list[list[str]]:
    """The cells of the first table of a page of docs/, or of the first one under a heading of it, its head left out."""
    text = page(name).partition(f"\n## {title}\n")[2] if title else page(name)
    lines = text.partition("|---")[2].split("\n\n")[0].splitlines()[1:]
    assert lines, f"docs/{name}.md has no table {title}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code_of(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def refusal_rows() -> list[list[str]]:
    """The table of refusals as docs/refusals.md must have it."""
    return [
        [
            f"`{code}`",
            str(reason.status),
            reason.what,
            reason.fault.value,
            "yes" if reason.retry else "",
        ]
        for code, reason in REASONS.items()
    ]


def commands() -> list[list[str]]:
    """The words of every ``tollhouse ...`` command that they name, in blocks and in text."""
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    found = []
    for text in [*lines, *SPANS]:
        for match in re.finditer(r"(?:^|\$\(|&& |uv run )tollhouse( [^#)`]*)", text):
            command = match[1].partition("&&")[0].replace("...", "").strip()
            if command and command != "":
                found.append(shlex.split(command))
    return found


def test_refusals() -> None:
    """The table of refusals is the program's own."""
    assert rows("refusals") == refusal_rows()


def test_line() -> None:
    """Every field of the line is explained, and no other."""
    named = [name for row in rows("line") for name in code_of(row[0])]
    outcome = Outcome(
        End.WHOLE, charges=(Charge("a", Units(requests=1)), Charge("b", Units(images=1)))
    )
    fast = Outcome(End.WHOLE, charges=(Charge("a", Units(requests=1), "fast"),))
    refused = Concluded(admitted(), 403, Denial("tls_refused"), "tunnel")
    assert sorted(named) == sorted(
        record_of(refused, 0.0).keys()
        | record_of(
            Concluded(
                admitted(
                    remembered=True, login=True, identity=replace(IDENTITY, subject="whoever")
                ),
                outcome=outcome,
                charged=Amount(price="configured"),
                fallback_from="openai",
                tunnelled=(1, 2),
                denial=Denial("tls_refused", "There was no SNI."),
            ),
            0.0,
        )
        | record_of(Concluded(covered(amount=Amount(1)), outcome=fast), 0.0).keys()
    )


def test_charges() -> None:
    """Every rule of charging is explained."""
    assert [code_of(row[0])[0] for row in rows("charging")] == list(ChargedBy.__args__)  # type: ignore[attr-defined]


def _spelt_out(path: str) -> list[str]:
    """Paths that a path of the table stands for: ``{a,b}`` is either, and ``{id}`` any name."""
    found = re.search(r"\{([^{}]*)\}", path)
    if found is None:
        return [path]
    words = ["m-1"] if found[1] == "id" else found[1].split(",")
    return [
        rest
        for word in words
        for rest in _spelt_out(path[: found.start()] + word + path[found.end() :])
    ]


def test_open_endpoints() -> None:
    """Each endpoint of the table is open and metered, and each kind of metered endpoint is there. Azure's are those of OpenAI
    and those of its own rows."""
    entries = {provider.name: provider for provider in BUILT_IN}
    shown: dict[str, set[str]] = {}
    for name, paths, _ in rows("open-endpoints"):
        for path in (one for code in code_of(paths) for one in _spelt_out(code)):
            if path.endswith("/...") or path in ("/v1", "/beta"):
                continue
            family = entries[name].family
            operation = family.operation("POST", path, host=(entries[name].hosts or ("",))[0])
            assert operation is not None, f"{name} {path}"
            assert operation.metered, f"{name} {path}"
            shown.setdefault(name, set()).add(operation.kind)
    metered = {
        name: {
            route.operation.kind
            for route in entry.family.routes
            if route.operation.metered and not route.operation.socket
        }
        for name, entry in entries.items()
    }
    shown["azure"] |= metered["openai"]
    assert shown == metered


def test_websockets() -> None:
    """Each path of the table is one at its providers, and each that there is stands in it."""
    entries = {provider.name: provider for provider in BUILT_IN}
    shown: dict[str, set[str]] = {}
    for names, paths, _ in rows("open-endpoints", "WebSockets"):
        for name in names.split(", "):
            for path in code_of(paths):
                path = path.partition("?")[0]
                if path.startswith("/openai/") is (name == "azure"):
                    found = entries[name].family.match("GET", path, socket=True)
                    assert found is not None, f"{name} {path}"
                    shown.setdefault(name, set()).add(found.operation.kind)
    assert shown == {
        name: kinds
        for name, entry in entries.items()
        if (kinds := {one.operation.kind for one in entry.family.routes if one.operation.socket})
    }


def test_commands() -> None:
    """Every command and option that they name exists."""
    assert len(commands()) > 15
    for words in commands():
        command: click.Command = cli
        rest = list(words)
        while rest and isinstance(command, click.Group):
            name = rest.pop(0)
            assert name in command.commands, f"tollhouse {shlex.join(words)}: there is no {name}"
            command = command.commands[name]
        options = {text for parameter in command.params for text in parameter.opts}
        for word in rest:
            if word == "--":
                break
            if word.startswith("--"):
                assert word in options, f"tollhouse {shlex.join(words)}: there is no {word}"


def test_command_table() -> None:
    """The table of commands has all of them."""
    named = " ".join(" ".join(code_of(row[0])) for row in rows("commands"))
    for name, command in cli.commands.items():
        assert name in named
        for inner in command.commands if isinstance(command, click.Group) else ():
            assert inner in named


@pytest.mark.parametrize("name", TEXTS)
def test_paths(name: str) -> None:
    """Every link to a file leads to one, and so does every path of the repository that is named as code."""
    text = (ROOT / name).read_text()
    top = {path.name for path in ROOT.iterdir() if path.is_dir()}
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    spans = [
        span
        for span in re.findall(r"`([\w./-]+)`", text)
        if span.split("/")[0] in top and "/" in span
    ]
    assert links or name in DOCS
    for path in [
        *((ROOT / name).parent / link for link in links),
        *(ROOT / span for span in spans),
    ]:
        assert path.exists(), path


def test_toml(tmp_path: Path) -> None:
    """The TOML shown is what this version accepts and does."""
    shown = [text for language, text in BLOCKS if language == "toml"]
    assert shown
    file = tmp_path / "tollhouse.toml"
    for text in shown:
        file.write_text(text if "[vault]" in text else text + '[vault]\naddress = "embedded"\n')
        assert unenforced(load_config(file)) == []


def test_python() -> None:
    """The Python that README asks for is the package's, and the one that uv takes is the repository's."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "requires-python"
    ].removeprefix(">=")
    assert f"needs Python {needed} or later" in README
    assert f"uv takes {(ROOT / '.python-version').read_text().strip()}" in README


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('[projects.p]\ntenant = "t"\non_shortfall = "clamp"', 'on_shortfall = "clamp"'),
        ('[projects.p]\ntenant = "t"\nmodels = ["gpt-4o*"]', "`models`"),
        ('[tenants.t]\nlimits = ["1 usd/day"]', "limits of a tenant"),
        ('[redis]\nurl = "redis://localhost"\nunsafe_fail_open = true', "unsafe_fail_open"),
        ('[redis]\nurl = "redis+cluster://localhost:7000"', "Cluster"),
        ('[redis]\nurl = "redis+sentinel://localhost:26379/main"', "Sentinel"),
        (
            '[vault]\naddress = "embedded"\nversions = { "infrastructure/openai" = 3 }',
            "[vault] versions",
        ),
        (
            '[vault]\naddress = "https://vault"\nauth = { method = "token", token_file = "t" }\nkv_version = 1',
            "KV version 1",
        ),
        (
            '[vault]\naddress = "https://vault"\nauth = { method = "kubernetes", role = "r" }',
            "Kubernetes",
        ),
        (
            '[vault]\naddress = "https://vault"\nauth = { method = "jwt", role = "r", jwt_file = "t" }',
            "JWT login",
        ),
    ],
)
def test_not_yet(setting: str, words: str, tmp_path: Path) -> None:
    """What the file may spell is in the list of what is not there exactly if this version refuses it."""
    file = tmp_path / "tollhouse.toml"
    vault = "" if "[vault]" in setting else '[vault]\naddress = "embedded"\n'
    file.write_text(vault + setting)
    assert bool(unenforced(load_config(file))) == (words in page("not-yet"))


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "examples").iterdir()))
def test_examples(file: Path) -> None:
    """The examples that tests run are those that docs/addons.md shows."""
    shown = [text for language, text in BLOCKS if language == "python"]
    assert file.read_text() in shown


@pytest.mark.parametrize("name", TEXTS)
def test_words(name: str) -> None:
    """Nothing in it is about how it was made or where."""
    assert not FORBIDDEN.findall((ROOT / name).read_text())
