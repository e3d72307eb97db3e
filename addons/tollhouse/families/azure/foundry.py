"""Claude at Foundry: Anthropic's API below ``/anthropic``, on the hosts of Azure OpenAI and with the same key.

https://platform.claude.com/docs/en/build-with-claude/claude-in-microsoft-foundry. The body's ``model`` is the
deployment. Foundry has messages, the count of tokens, files and skills. It has no batches, no agents,
no list of models and no administration of the account.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.anthropic import ANTHROPIC, FREE_KINDS, MESSAGES
from tollhouse.families.operation import Route

PATH: Final = "/anthropic/"
_OPEN: Final = frozenset({"messages", "count_tokens", "upload", "files", "skills"})
_NEVER: Final = frozenset({"account", "mints"})
"""Nobody can open these either."""

KINDS: Final = {"messages": MESSAGES, **FREE_KINDS}

ROUTES: Final = tuple(
    Route(route.method, re.compile(f"/anthropic{route.path.pattern}"), route.operation)
    for route in ANTHROPIC.routes
    if route.path.pattern.startswith("/v1/")
    and (route.operation.kind in _OPEN or route.operation.cost in _NEVER)
)
