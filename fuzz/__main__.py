"""``uv run python -m fuzz [NAME] [--seconds N]``: a reader is given inputs until the time is over.

Without a NAME the names are listed; ``all`` takes one after the other. The exit code is 1 if an input
fails; the smallest one that does is shown, and how to run it again.
"""

from __future__ import annotations

import argparse
import ast
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from fuzz.readers import LONG_STREAM, Reader, readers
from fuzz.smallest import smallest

_EXAMPLES = 100
"""Inputs between two looks at the clock, at the most."""
_SHOWN = 2_000
"""The longest literal that is an argument of the command that runs it again."""


def _failing(reader: Reader, until: float) -> bytes | None:
    """The first input that fails, if one does before ``until``."""
    failing: list[bytes] = []

    def attempt(data: bytes) -> None:
        if time.monotonic() > until:
            return
        try:
            reader.check(data)
        except Exception:
            failing.append(data)
            raise

    search = settings(
        max_examples=_EXAMPLES,
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    run = search(given(reader.inputs)(attempt))
    try:
        while time.monotonic() < until:
            run()
    except Exception:
        if not failing:
            raise
    return failing[0] if failing else None


def _report(name: str, reader: Reader, data: bytes) -> None:
    data = smallest(data, reader.check)
    try:
        reader.check(data)
    except Exception:
        traceback.print_exc()
    literal = repr(data)
    print(f"{name} fails with {literal}")
    if len(literal) <= _SHOWN:
        print(f"again: uv run python -m fuzz {name} --input {shlex.quote(literal)}")
        return
    with tempfile.NamedTemporaryFile(prefix=f"fuzz-{name}-", delete=False) as file:
        file.write(data)
    print(f"again: uv run python -m fuzz {name} --file {file.name}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", help="one of the readers, or the beginning of names")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    parser.add_argument("--input", help="a bytes literal: only this input is tried")
    parser.add_argument("--file", type=Path, help="a file: only its bytes are tried")
    options = parser.parse_args()
    table = readers(LONG_STREAM)
    if options.name is None:
        print("\n".join(table))
        return 0
    named = {
        name: reader
        for name, reader in table.items()
        if options.name in ("all", name) or name.startswith(f"{options.name}.")
    }
    if not named:
        parser.error(f"there is no reader {options.name!r}; without a name they are listed")
    if options.input is not None or options.file is not None:
        data = options.file.read_bytes() if options.file else ast.literal_eval(options.input)
        for reader in named.values():
            reader.check(data)
        print("it holds")
        return 0
    failed = False
    for name, reader in named.items():
        data = _failing(reader, time.monotonic() + options.seconds)
        if data is not None:
            failed = True
            _report(name, reader, data)
        else:
            print(f"{name}: nothing found", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
