"""Refusals in the form that stops a client that would repeat them."""

import json
import re

import pytest

from tollhouse.clients import PATIENCE_S, Client, client_of, spelled, told
from tollhouse.denial import REASONS, Denial
from tollhouse.families.openai.errors import error_body

CODEX = client_of("codex_exec/0.171.0 (Debian 13.0.0; x86_64) dumb")
OPENCODE = client_of("opencode/1.18.33 ai-sdk/provider-utils/4.0.27 runtime/bun/1.3.13")
CLAUDE = client_of("claude-cli/2.1.332 (external, sdk-cli)")
GEMINI = client_of("GeminiCLI/0.61.0/gemini-2.5-flash (linux; x64; terminal)")
AGENTS = (CODEX, OPENCODE, CLAUDE, GEMINI)
LATER = (("x-should-retry", "false"), ("x-tollhouse-resets-at", "1788091260"))
# opencode 1.18.33, the strings of its binary: the first two rows of what it takes for a call to repeat.
REPEATED = re.compile(
    r"429|500|502|503|504|524|rate increased too quickly|rate limit|rate-limit|rate_limit|too many requests",
    re.IGNORECASE,
)


def test_which_clients_are_known() -> None:
    assert None not in AGENTS
    assert len(set(map(id, AGENTS))) == 4
    for agent in ("OpenAI/Python 3.54.0", "codex/1", "my-opencode", ""):
        assert client_of(agent) is None


@pytest.mark.parametrize(
    ("denial", "codex", "opencode", "claude", "gemini"),
    [
        (Denial("budget_exceeded"), 400, 402, 402, 402),
        (Denial("identity_unknown"), 400, 401, 401, 401),
        (Denial("model_not_allowed"), 400, 403, 403, 403),
        (Denial("path_not_allowed", status_override=404), 400, 404, 404, 404),
        (Denial("rate_limited", headers=LATER), 400, 402, 429, 402),
        (Denial("credential_unavailable", headers=LATER[:1]), 400, 400, 503, 400),
        (Denial("credential_refused"), 400, 400, 502, 400),
        (Denial("bad_request"), 400, 400, 400, 400),
    ],
    ids=lambda value: value.code if isinstance(value, Denial) else str(value),
)
def test_what_ends_a_call_at_once(
    denial: Denial, codex: int, opencode: int, claude: int, gemini: int
) -> None:
    """Code, words and headers are the same, and other clients get what they always get."""
    statuses = [told(denial, client).status for client in AGENTS]
    assert statuses == [codex, opencode, claude, gemini]
    assert told(denial, CODEX).message == denial.message
    assert told(denial, None, 60.0) is denial


@pytest.mark.parametrize("client", AGENTS)
def test_what_passes_soon_and_an_upgrade_stay_as_they_are(client: Client) -> None:
    """426 sends Codex to HTTP at once."""
    for denial in (
        Denial("upgrade_required"),
        Denial("rate_limited", headers=(("retry-after", "3"),)),
    ):
        assert told(denial, client, 60.0) is denial


@pytest.mark.parametrize("code", [code for code, reason in REASONS.items() if reason.retry])
@pytest.mark.parametrize("client", AGENTS)
def test_a_fault_is_waited_for_once(client: Client, code: str) -> None:
    """Its first refusal names a wait within which a person still waits for the reason. The next one ends the call."""
    first = told(Denial(code, headers=(("retry-after", "1"),)), client, 0.0)
    if code == "rate_limited":
        return
    wait = "1" if client is CLAUDE else "3"
    assert first.headers == (("retry-after", wait),)
    assert first.status == REASONS[code].status
    lasted_s = 0.3 if client is CLAUDE else PATIENCE_S
    last = told(Denial(code, headers=(("retry-after", "1"),)), client, lasted_s)
    assert last.headers == (("x-should-retry", "false"),)
    assert last.status == client.ended_by.get(REASONS[code].status, REASONS[code].status)
    assert told(Denial(code), client, 0.0).headers == (("retry-after", wait),)


def test_a_long_wait_is_not_slept_through() -> None:
    """Codex and opencode sleep for as long as they are told, in silence."""
    denial = told(Denial("breaker_open", headers=(("retry-after", "9"),)), CODEX)
    assert (denial.status, denial.headers) == (400, (("x-should-retry", "false"),))
    assert "Send it again later, not at once." in denial.message


def test_no_word_makes_opencode_repeat_a_call() -> None:
    """It looks for numbers and words in the whole body, also where they are a limit, a code or a part of the call's id."""
    call_id = "call_01a22503d3a0f147d42950429"
    why = "The limit 500 usd/month of project rate-limit-502 has not enough left."
    denial = told(Denial("rate_limited", why, LATER), OPENCODE)
    plain = error_body(denial, call_id)
    assert REPEATED.search(plain.decode())
    assert spelled(plain, CODEX, call_id) is plain
    told_to_it = spelled(plain, OPENCODE, call_id).decode()
    assert not REPEATED.search(told_to_it)
    shown = json.loads(told_to_it)["error"]["message"].replace("\u2060", "")
    assert why in shown
    assert shown.endswith("[tollhouse: rate_limited, call …03d3a0f147d4…]")


def test_a_body_without_such_words_stays_as_it_is() -> None:
    body = error_body(Denial("budget_exceeded", "The limit 10 usd/day."), "call_01a2249930e6c39f")
    assert spelled(body, OPENCODE, "call_01a2249930e6c39f") == body
