"""`tollhouse check`: an operator's own addons. Their files are run, as the gateway runs them."""

from __future__ import annotations

from collections.abc import Iterator

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config


def check_addons(config: Config) -> Iterator[Finding]:
    """Whether each can be made, has hooks that are called, and takes its options."""
    wanted = config.addons
    if not wanted.load:
        return
    # They load mitmproxy, which takes a second.
    from tollhouse.listen.mitm import GateMaster
    from tollhouse.operators.hooks_run import Addons
    from tollhouse.operators.loading import AddonError, Modules

    modules, loaded = Modules(), []
    for place in wanted.load:
        try:
            loaded.append((str(place), modules.addon(place)))
        except AddonError as error:
            yield Finding("error", f"addons.load: {error.what}", error.why, error.todo)
    if len(loaded) < len(wanted.load):
        return
    try:
        Addons(loaded, options=wanted.options).begin(GateMaster([]))
    except AddonError as error:
        yield Finding("error", error.what, error.why, error.todo)
        return
    names = ", ".join(map(str, wanted.load))
    yield Finding("ok", f"The addons can be loaded: {names}.")
