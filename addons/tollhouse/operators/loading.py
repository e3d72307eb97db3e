"""An operator's addon, made of ``FILE.py:CLASS``. What would not run as it is meant is refused, not ignored."""

from __future__ import annotations

import difflib
import inspect
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import mitmproxy.eventsequence  # noqa: F401 - it registers the hooks of all protocols in `all_hooks`
from mitmproxy.addonmanager import traverse
from mitmproxy.hooks import all_hooks

from tollhouse.config.values import AddonPlace

CALL_HOOKS: Final = ("requestheaders", "request", "responseheaders", "response", "error")
"""They get the call's flow, in this order."""
MESSAGE_HOOK: Final = "websocket_message"
"""It gets the flow of a session with each message."""
HOOKS: Final = (*CALL_HOOKS, MESSAGE_HOOK, "load", "configure", "running", "done")
"""What an addon may have."""
_SYNC: Final = ("load", "configure")
"""mitmproxy calls them outside of its event loop."""
_ARGUMENTS: Final = {"running": 0, "done": 0}
_ALIKE: Final = 0.85
"""`difflib` gives "requestheader" and "responce" more than this."""


class AddonError(Exception):
    """An addon that can't be used: what, why, and what to do. The gateway does not start with it."""

    def __init__(self, what: str, why: str, todo: str) -> None:
        place = "" if what.startswith("addons.") else "addons.load: "
        super().__init__(f"{place}{what} {why} {todo}")
        self.what = what
        self.why = why
        self.todo = todo


class Modules:
    """The operator's files that were run, each once."""

    def __init__(self) -> None:
        self._found: dict[Path, ModuleType] = {}

    def addon(self, place: AddonPlace) -> object:
        """A new instance of the class. Raises `AddonError`."""
        module = self._found.get(place.file)
        if module is None:
            module = self._found[place.file] = _run(place, len(self._found))
        kind = getattr(module, place.name, None)
        if not isinstance(kind, type):
            classes = [name for name, value in vars(module).items() if _is_own(value, module)]
            todo = f"The file has: {', '.join(classes)}." if classes else "The file has no class."
            raise AddonError(f"{place} is no class.", f"{place.file} defines none of it.", todo)
        try:
            addon = kind()
        except (Exception, SystemExit) as error:
            raise AddonError(
                f"{place} cannot be made.",
                f"{place.name}() raised {_told(error)}.",
                "Correct it; it is called without arguments.",
            ) from error
        for part in traverse([addon]):
            for why, todo in _faults(part):
                raise AddonError(f"{place} cannot be used.", why, todo)
        return addon


def _run(place: AddonPlace, number: int) -> ModuleType:
    """The module. It is read and compiled here, so that no ``.pyc`` of somebody else's is run."""
    file = place.file
    try:
        for path in dict.fromkeys((file.resolve(strict=True), *_directories(file))):
            _refuse_exposed(place, path)
        source = file.read_bytes()
    except OSError as error:
        why = f"{error.strerror or type(error).__name__}: {file}."
        todo = "Correct the name (it is relative to tollhouse.toml), or let the gateway's user read it."
        raise AddonError(f"{place} cannot be read.", why, todo) from None
    name = f"tollhouse_operators_{number}_{file.stem}"
    module = ModuleType(name)
    module.__file__ = str(file)
    path_before, sys.path = sys.path, [str(file.parent), *sys.path]
    # Dataclasses and pickle look for a class's module there.
    sys.modules[name] = module
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)  # noqa: S102 - the operator's
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise AddonError(
            f"{place} cannot be run.", f"{file.name} raised {_told(error)}.", "Correct the file."
        ) from error
    finally:
        sys.path = path_before
    return module


def _directories(file: Path) -> tuple[Path, ...]:
    """Who may write there may put another file in its place."""
    return file.parent.resolve(), file.resolve().parent


def _refuse_exposed(place: AddonPlace, path: Path) -> None:
    """It runs with the gateway's keys in reach. What root owns may be writable by its group for
    another user (Kubernetes, ``fsGroup``)."""
    user = os.geteuid()
    state = path.stat()
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid not in (user, 0):
        why = f"{path} belongs to user {state.st_uid}, and the gateway runs as user {user}."
        raise AddonError(
            f"{place} is not run.", why, f"`chown {user} {path}`, once it is looked at."
        )
    denied = 0o002 if state.st_uid == 0 != user else 0o022
    if mode & denied:
        why = f"Others on this machine can write {path} (mode {mode:04o}), and so run what they like as the gateway."
        raise AddonError(f"{place} is not run.", why, f"`chmod go-w {path}`, once it is looked at.")


def _is_own(value: object, module: ModuleType) -> bool:
    return isinstance(value, type) and value.__module__ == module.__name__


def _faults(addon: object) -> Iterator[tuple[str, str]]:
    """What is wrong with its hooks: why, and what to do."""
    methods = dict(_public_methods(addon))
    for name, method in methods.items():
        if name in HOOKS:
            if name in _SYNC and inspect.iscoroutinefunction(method):
                yield (
                    f"Its hook {name} is async, and it is called before calls are.",
                    "Take `async` away.",
                )
            elif not _takes(method, _ARGUMENTS.get(name, 1)):
                count = _ARGUMENTS.get(name, 1)
                yield (
                    f"Its hook {name} does not take {count or 'no'} argument{'s' if count != 1 else ''}.",
                    "Correct its parameters: mitmproxy's documentation has them.",
                )
        elif name in all_hooks or name == "tollhouse_call":
            yield (
                f"Its hook {name} is never called by the gateway, so what it is for would not happen.",
                f"Remove it, or rename it if it is no hook; called are {', '.join(HOOKS)}.",
            )
        elif near := difflib.get_close_matches(name.lower(), HOOKS, n=1, cutoff=_ALIKE):
            yield (
                f"Its method {name} is no hook, and would never be called.",
                f"Did you mean {near[0]}? A method that is no hook may begin with an underscore.",
            )
    for name in HOOKS:
        value = getattr(addon, name, None)
        # mitmproxy passes over a module of a hook's name as well.
        if value is not None and name not in methods and not isinstance(value, ModuleType):
            yield f"Its hook {name} is not callable.", "Make it a method."
    if not any(name in methods for name in HOOKS) and not getattr(addon, "addons", None):
        yield "It has no hook.", f"Give it one of {', '.join(HOOKS)}."


def _public_methods(addon: object) -> Iterator[tuple[str, Callable[..., object]]]:
    for name in dir(addon):
        if not name.startswith("_"):
            value = getattr(addon, name, None)
            if callable(value) and not isinstance(value, type):
                yield name, value


def _takes(method: Callable[..., object], count: int) -> bool:
    try:
        inspect.signature(method).bind(*([None] * count))
    except TypeError:
        return False
    except ValueError:
        pass  # Of a function in C nobody can say.
    return True


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
