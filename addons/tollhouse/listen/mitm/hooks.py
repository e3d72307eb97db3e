"""What is asked of our addons: a mitmproxy hook of our own, which has exactly one field."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from mitmproxy.proxy import commands

from tollhouse.listen.exchange import Exchange

Commands = Generator[commands.Command, Any, None]
"""What a layer's handling of an event gives."""


@dataclass(eq=False)
class TollhouseCallHook(commands.StartHook):
    """A request's head has arrived. The addon's coroutine owns the exchange from here to its end."""

    data: Exchange
    blocking = False
