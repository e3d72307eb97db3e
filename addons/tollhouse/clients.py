"""What known clients do with a refusal, where that is not what it says.

``x-should-retry: false`` stops the SDKs of OpenAI and Anthropic and all that is built on them.
Other clients know no such header: they send a refused call again for up to 80 s, and some lose the
text. Each row of the table is a client that was seen to do so, and the status that ends its call at
once with the text on the screen. docs/agents.md has what was measured.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import Final

from tollhouse.denial import Denial, error_headers

PATIENCE_S: Final = 2.5
"""Said as 3 s, for a client may wait a tenth less. A person waits for the reason that long, and the
client sends one request more."""
_LONGEST_RETRY_AFTER_S: Final = 5.0
_JOINER: Final = "\u2060".encode()
"""WORD JOINER: it has no width, and no pattern for plain text goes over it."""
_CUT: Final = "…".encode()


@dataclass(frozen=True, slots=True)
class Client:
    """``user_agent`` is searched for in the header of that name. ``ended_by`` is the status that
    the client takes for the end of a call, by the status of our refusal. ``repeats`` are words in a
    body for which the client sends a call again whatever the status is. ``patience_s``: a fault of
    ours that has lasted so long is told as one that stays."""

    user_agent: re.Pattern[str]
    ended_by: dict[int, int] = field(default_factory=dict)
    repeats: re.Pattern[bytes] | None = None
    patience_s: float = PATIENCE_S
    handshake_ended_by: int | None = None
    """The status for which the client gives up a WebSocket and calls over HTTP, where it is told why."""


_FAULTS: Final = dict.fromkeys((500, 502, 503, 504), 400)

CLIENTS: Final = (
    # Claude Code 2.1.332: 429 and 5xx are sent 11 times in 185 s, in silence. It heeds
    # x-should-retry. Its second request comes after 0.3 to 0.7 s whatever `Retry-After` says.
    Client(re.compile(r"\bclaude-cli/"), patience_s=0.2),
    # codex 0.171.0 of November 2026, with a stand-in for its provider: 401, 402, 403, 404, 409, 422
    # and 5xx are sent 6 to 30 times, and of 429 the text is lost. 400 is sent once, and its body is
    # shown. ``codex_cli_rs``, ``codex_exec`` and ``codex_vscode`` are its names.
    Client(
        re.compile(r"\bcodex_[a-z_]+/"),
        dict.fromkeys((401, 402, 403, 404, 408, 409, 413, 415, 421, 422, 429, 431), 400) | _FAULTS,
        # It begins with a WebSocket. 426 sends it to HTTP at once; of any other refusal of the handshake no text is shown.
        handshake_ended_by=426,
    ),
    # Gemini CLI 0.61.0: 429, 499 and 5xx are sent for 80 s, unless a QuotaFailure has a quotaId of a
    # day or RetryInfo says more than 300 s (its `classifyGoogleError`, `retryWithBackoff`). 402 and
    # 400 are sent once.
    Client(re.compile(r"\bGeminiCLI\b"), {429: 402} | _FAULTS),
    # opencode 1.18.33: 429 and 5xx are sent 6 times in 73 s. 402 and 400 are sent once, unless the
    # message or the body has one of the words of its table (`session/retry.ts`): a budget of
    # "500 usd/month" is such a word, and "A rate limit is reached".
    Client(
        re.compile(r"\bopencode/"),
        {429: 402} | _FAULTS,
        re.compile(
            rb"""(?xi) 429 | 50[0234] | 524
            | rate\ increased\ too\ quickly | rate[ _-]limit | too[ _]many[ _]requests
            | overloaded | unavailable | exhausted
            | internal[ _]error | server[ _-]error | provider[ _-]returned[ _-]error
            | terminated | fetch\ failed | failed\ to\ fetch | network[-_\s]error
            | upstream\ connect | connection\ (?:error|refused|lost) | socket\ connection\ was\ closed
            | socket\ hang\ up | reset\ before\ headers | getaddrinfo | enotfound | eai_again
            | econnrefused | econnreset | etimedout
            | \b(?:request|response|connection|network|stream|read)\ (?:timeout|timed\ out|time\ out)\b
            | try\ your\ request\ again | retry\ your\ request | \btry\ again\ (?:later|in\b)
            | \b(?:currently|temporarily)\ at\ capacity\b"""
        ),
    ),
)


def client_of(user_agent: str) -> Client | None:
    """The row of the client that calls itself ``user_agent``."""
    if not user_agent:
        return None
    return next((one for one in CLIENTS if one.user_agent.search(user_agent)), None)


def final(denial: Denial) -> bool:
    """Whether the same request will be refused again."""
    return ("x-should-retry", "false") in error_headers(denial, "")


def told(denial: Denial, client: Client | None, lasted_s: float = 0.0) -> Denial:
    """``denial`` in the form that ends the call of ``client``. What may be tried again is so once:
    when a limit passes, or after its patience. ``lasted_s`` is for how long calls have been refused
    for this reason."""
    if client is None:
        return denial
    if not final(denial):
        wait_s = _retry_after_s(denial)
        if denial.code == "rate_limited" and wait_s <= _LONGEST_RETRY_AFTER_S:
            # It is known when this limit passes.
            return denial
        rest = tuple(one for one in denial.headers if one[0].lower() != "retry-after")
        if lasted_s < client.patience_s and not _LONGEST_RETRY_AFTER_S < wait_s < math.inf:
            wait = ("retry-after", str(max(1, math.ceil(client.patience_s - lasted_s))))
            return replace(denial, headers=(*rest, wait))
        denial = replace(denial, headers=(*rest, ("x-should-retry", "false")))
    status = client.ended_by.get(denial.status)
    return denial if status is None else replace(denial, status_override=status)


def told_of_handshake(denial: Denial, client: Client | None) -> Denial:
    """``denial`` of a WebSocket's handshake, in the form that sends ``client`` to HTTP, if it goes there."""
    if client is None or client.handshake_ended_by is None:
        return denial
    return replace(denial, status_override=client.handshake_ended_by)


def spelled(body: bytes, client: Client | None, call_id: str) -> bytes:
    """The body of a refusal that ends a call, without the words for which ``client`` would repeat
    it: they get a letter without width. Of a call id with such a word in it a piece is left, so that
    what is copied can be searched for."""
    if client is None or client.repeats is None:
        return body
    identity = call_id.encode()
    pieces = _split(identity, client.repeats).split(_JOINER)
    if len(pieces) > 1:
        body = body.replace(identity, b"%b%b%b" % (_CUT, max(pieces, key=len), _CUT))
    return _split(body, client.repeats)


def _split(text: bytes, words: re.Pattern[bytes]) -> bytes:
    while match := words.search(text):
        at = match.start() + 1
        text = text[:at] + _JOINER + text[at:]
    return text


def _retry_after_s(denial: Denial) -> float:
    """Infinite if the denial says nothing of it."""
    found = next((value for name, value in denial.headers if name.lower() == "retry-after"), "")
    try:
        return float(found)
    except ValueError:
        return math.inf
