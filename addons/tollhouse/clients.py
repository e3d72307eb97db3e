"""What known clients do with a refusal, where that is not what it says.

``x-should-retry: false`` stops the SDKs of OpenAI and Anthropic and all that is built on them.
Other clients know no such header: they send a refused call again for up to 80 s, and some lose the
text. Each row of the table is a client that was seen to do so, and the status that ends its call at
once with the text on the screen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from tollhouse.denial import Denial, error_headers


@dataclass(frozen=True, slots=True)
class Client:
    """``user_agent`` is searched for in the header of that name. ``ended_by`` is the status that
    the client takes for the end of a call, by the status of our refusal."""

    user_agent: re.Pattern[str]
    ended_by: dict[int, int]


CLIENTS: Final = (
    # codex 0.171.0 of November 2026, with a stand-in for its provider: 401, 402, 403, 404, 409, 422
    # and 5xx are sent 6 to 30 times, and of 429 the text is lost. 400 is sent once, and its body is
    # shown. ``codex_cli_rs``, ``codex_exec`` and ``codex_vscode`` are its names.
    Client(
        re.compile(r"\bcodex_[a-z_]+/"),
        dict.fromkeys((401, 402, 403, 404, 408, 409, 413, 415, 421, 422, 429, 431), 400)
        | dict.fromkeys((500, 502, 503, 504), 400),
    ),
    # opencode 1.18.33, the same: 429 and 5xx are sent 6 times in 73 s. 402 and 400 are sent once.
    Client(
        re.compile(r"\bopencode/"),
        {429: 402} | dict.fromkeys((500, 502, 503, 504), 400),
    ),
)


def told(denial: Denial, user_agent: str) -> Denial:
    """``denial`` in the form that ends the call of the client that calls itself ``user_agent``. It
    stays as it is where the client may try again."""
    if not user_agent or ("x-should-retry", "false") not in error_headers(denial, ""):
        return denial
    for client in CLIENTS:
        if client.user_agent.search(user_agent):
            status = client.ended_by.get(denial.status)
            return denial if status is None else replace(denial, status_override=status)
    return denial
