"""An addon from its file: what can be wrong with it is said before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.support.inproc import open_inside

from tollhouse.config.values import AddonPlace
from tollhouse.listen.mitm import GateMaster
from tollhouse.operators.hooks_run import Addons
from tollhouse.operators.loading import AddonError, Modules

GOOD = "class A:\n    def request(self, flow): ...\n"


def made(directory: Path, text: str, name: str = "A") -> object:
    directory.chmod(0o700)
    file = directory / "own.py"
    file.write_text(text)
    file.chmod(0o600)
    return Modules().addon(AddonPlace(file, name))


def test_a_sound_one(tmp_path: Path) -> None:
    """A sibling file can be imported while it is run, and two classes are of one module."""
    (tmp_path / "beside_it.py").write_text("WORD = 'beside'\n")
    text = "import beside_it\nclass A:\n    word = beside_it.WORD\n    async def request(self, flow): ...\n"
    assert made(tmp_path, text).word == "beside"  # type: ignore[attr-defined]
    assert str(tmp_path) not in sys.path
    modules = Modules()
    (tmp_path / "own.py").write_text(GOOD + "class B(A): ...\n")
    place = AddonPlace(tmp_path / "own.py", "A")
    first, second = modules.addon(place), modules.addon(AddonPlace(place.file, "B"))
    assert isinstance(second, type(first))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("B = 1", "own.py:A is no class."),
        ("class B: ...", "The file has: B."),
        ("A = 1", "own.py:A is no class."),
        ("1 / 0", "own.py raised ZeroDivisionError: division by zero."),
        ("def", "own.py raised SyntaxError"),
        ("raise SystemExit(1)", "own.py raised SystemExit: 1."),
        ("import no_such_module", "own.py raised ModuleNotFoundError"),
        ("class A:\n    def __init__(self, x): ...", "A() raised TypeError"),
        ("class A:\n    def __init__(self): raise SystemExit", "A() raised SystemExit."),
        ("class A: ...", "It has no hook."),
        ("class A:\n    def requst(self, flow): ...", "Did you mean request?"),
        ("class A:\n    def request_headers(self, flow): ...", "Did you mean requestheaders?"),
        ("class A:\n    def Response(self, flow): ...", "Did you mean response?"),
        ("class A:\n    def request(self): ...", "does not take 1 argument."),
        ("class A:\n    def done(self, flow): ...", "does not take no arguments."),
        ("class A:\n    request = 1", "Its hook request is not callable."),
        ("class A:\n    async def load(self, loader): ...", "Its hook load is async"),
        ("class A:\n    async def configure(self, updated): ...", "Its hook configure is async"),
        (GOOD + "    def http_connect(self, flow): ...", "http_connect is never called"),
        (GOOD + "    def client_connected(self, client): ...", "client_connected is never called"),
        (GOOD + "    def tollhouse_call(self, exchange): ...", "tollhouse_call is never called"),
        (
            "class B:\n    def requets(self, f): ...\nclass A:\n    addons = [B()]",
            "requets is no hook",
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AddonError) as error:
        made(tmp_path, text)
    assert said in str(error.value)
    assert str(error.value).startswith("addons.load: own.py:A ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AddonError, match=r"cannot be read. No such file"):
        Modules().addon(AddonPlace(tmp_path / "away.py", "A"))
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(AddonError, match=r"cannot be read. Is a directory"):
        Modules().addon(AddonPlace(tmp_path / "folder.py", "A"))


@pytest.mark.parametrize("what", ["file", "directory", "behind a link"])
def test_what_others_may_write_is_not_run(tmp_path: Path, what: str) -> None:
    """Nothing of the file is run then."""
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o700)
    file = inner / "own.py"
    file.write_text("raise SystemExit('it was run')")
    file.chmod(0o600)
    named = file
    if what == "file":
        file.chmod(0o602)
    else:
        inner.chmod(0o777)
    if what == "behind a link":
        named = tmp_path / "own.py"
        named.symlink_to(file)
    with pytest.raises(AddonError, match="Others on this machine can write"):
        Modules().addon(AddonPlace(named, "A"))


def begun(text: str, tmp_path: Path, **options: object) -> Addons:
    addons = Addons([("own.py:A", made(tmp_path, text))], options=options)
    addons.begin(GateMaster([]))
    return addons


OPTION = "    def load(self, loader): loader.add_option('n', int, 1, 'A number.')\n"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("    def load(self, loader): 1 / 0", {}, "Its hook load raised ZeroDivisionError"),
        (
            "    def configure(self, updated): raise SystemExit(2)",
            {},
            "Its hook configure raised SystemExit: 2.",
        ),
        (OPTION, {"m": 1}, "addons.options has m."),
        (OPTION, {"n": "one"}, "Its hook load raised TypeError"),
        (OPTION, {"proxy_debug": True}, "It is an option of mitmproxy itself"),
    ],
)
def test_what_is_wrong_at_the_start(
    tmp_path: Path, text: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(AddonError) as error:
        begun(GOOD + text, tmp_path, **options)
    assert said in str(error.value)


def test_two_of_one_name(tmp_path: Path) -> None:
    """mitmproxy knows addons by their names."""
    addon = made(tmp_path, GOOD)
    with pytest.raises(AddonError, match="An addon called 'a' already exists"):
        Addons([("a.py:A", addon), ("b.py:A", made(tmp_path, GOOD))]).begin(GateMaster([]))


@pytest.mark.parametrize(
    ("hook", "said"), [("", "is no class"), ("    def running(self): 1 / 0", "in its hook running")]
)
def test_the_gateway_does_not_start(tmp_path: Path, hook: str, said: str) -> None:
    """An addon that is missing, and one that fails when all is open."""
    (tmp_path / "own.py").write_text(GOOD + hook)
    name = "A" if hook else "B"
    with (
        pytest.raises(AddonError, match=said),
        open_inside(tmp_path, {"addons": {"load": [f"own.py:{name}"]}}),
    ):
        pass
