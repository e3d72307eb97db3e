"""What a provider's error says of the key that came with the request, as a table: each family says it in its own way.

A refused key is read again from the store; with an empty account the next key is tried. Everything else an error says is
the workload's, and passed on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from tollhouse.dispatch.answer import Answer

Verdict = Literal["refused", "no_money", "request"]
"""``request``: the key is sound, though the status says otherwise; it is this request that it can't serve. Any workload can
make such a request, so nothing is to be concluded for the others."""

PEEK_BYTES: Final = 65_536
PEEK_S: Final = 1.0
"""An error's body is short and comes with its head: what is not there by then is not waited for."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``family`` is the provider's, "" for all. ``told`` gets the error's object (see `_error`); None: the status alone
    says it. ``kind``: the beginnings of ``x-amzn-errortype`` that say it."""

    verdict: Verdict
    family: str
    status: int
    source: str
    told: Callable[[dict[str, Any]], bool] | None = None
    kind: tuple[str, ...] = ()


def _reason(reason: str) -> Callable[[dict[str, Any]], bool]:
    """google.rpc.ErrorInfo: googleapis/google/rpc/error_details.proto."""

    def told(error: dict[str, Any]) -> bool:
        details = error.get("details")
        return isinstance(details, list) and any(
            isinstance(one, dict) and one.get("reason") == reason for one in details
        )

    return told


def _code(*codes: str) -> Callable[[dict[str, Any]], bool]:
    return lambda error: error.get("code") in codes or error.get("type") in codes


def _message(pattern: str) -> Callable[[dict[str, Any]], bool]:
    """From its beginning, since a provider's message may repeat what the request said."""
    compiled = re.compile(pattern)
    return lambda error: (
        isinstance(text := error.get("message", error.get("Message")), str) and (compiled.match(text) is not None)
    )


_EMPTY: Final = _code(
    "insufficient_quota",
    "billing_error",
    "billing_hard_limit_reached",
    "credit_balance_exhausted",
    "credit_limit",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
)

RULES: Final = (
    Rule(
        "request",
        "openai",
        401,
        "of a restricted key: https://github.com/microsoft/PowerToys/issues/32989",
        _message(r"You have insufficient permissions for this operation\."),
    ),
    Rule("refused", "", 401, "RFC 9110 15.5.2; OpenAI, Azure, Anthropic, Mistral, Cohere, Google's OAuth"),
    Rule("refused", "google", 400, "https://ai.google.dev/gemini-api/docs/troubleshooting", _reason("API_KEY_INVALID")),
    Rule("refused", "cohere", 498, "https://docs.cohere.com/reference/errors"),
    Rule(
        "refused",
        "bedrock",
        403,
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html",
        kind=("ExpiredToken", "InvalidSignature", "UnrecognizedClient"),
    ),
    Rule(
        "refused",
        "bedrock",
        403,
        "of a Bedrock API key: https://github.com/anomalyco/opencode/issues/47073",
        _message(r"Authentication failed: Please make sure your API Key is valid"),
    ),
    Rule(
        "request",
        "openai",
        429,
        "larger than a whole minute's limit: https://github.com/Aider-AI/aider/issues/1880",
        _message(r"Request too large for "),
    ),
    Rule("no_money", "", 402, "RFC 9110 15.5.3; Anthropic, Gemini, Mistral, Cohere, DeepSeek, OpenRouter, Together"),
    Rule("no_money", "openai", 429, "https://platform.openai.com/docs/guides/error-codes", _EMPTY),
    Rule("no_money", "openai", 400, "billing_hard_limit_reached, of the same page", _EMPTY),
    Rule(
        "no_money",
        "openai",
        429,
        "xAI: https://github.com/continuedev/continue/issues/10373",
        _message(r"Your team .{0,200}used all available credits"),
    ),
    Rule("no_money", "anthropic", 429, "https://docs.anthropic.com/en/api/errors", _EMPTY),
    Rule(
        "no_money",
        "anthropic",
        400,
        "https://github.com/anthropics/claude-code/issues/66314",
        _message(r"Your credit balance is too low"),
    ),
    Rule(
        "no_money",
        "google",
        429,
        "https://github.com/dyad-sh/dyad/issues/3626",
        _message(r"Your prepayment credits are depleted"),
    ),
)
"""The first that fits. Bedrock and Vertex have no code for an empty account; any other 403 is a right that the key lacks."""

_STATUSES: Final = frozenset(rule.status for rule in RULES)


async def verdict_on_key(family: str, answer: Answer) -> Verdict | None:
    """What ``answer`` says of its request's key. Reads a part of an error's body ahead, where that matters."""
    if answer.status not in _STATUSES:
        return None
    rules = [rule for rule in RULES if rule.status == answer.status and rule.family in ("", family)]
    error: dict[str, Any] | None = None
    for rule in rules:
        if rule.told is None:
            if not rule.kind or (answer.get("x-amzn-errortype") or "").startswith(rule.kind):
                return rule.verdict
            continue
        if error is None:
            error = _error(await answer.peek(PEEK_BYTES, PEEK_S))
        if rule.told(error):
            return rule.verdict
    return None


def _error(body: bytes) -> dict[str, Any]:
    """The object that tells: ``{"error": {...}}``, that in a list (Vertex), or the whole (AWS); xAI's ``{"code": "...",
    "error": "..."}`` as one with a message. Empty for what is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return {}
    inner = found.get("error", found)
    if isinstance(inner, str):
        return {"message": inner}
    return inner if isinstance(inner, dict) else {}
