"""Refusals in the form that stops a client that would repeat them."""

import pytest

from tollhouse.clients import told
from tollhouse.denial import REASONS, Denial

CODEX = "codex_exec/0.171.0 (Debian 13.0.0; x86_64) dumb"
OPENCODE = "opencode/1.18.33"
CLAUDE = "claude-cli/2.1.332 (external, cli)"
LATER = (("x-should-retry", "false"), ("x-tollhouse-resets-at", "1788091260"))


@pytest.mark.parametrize(
    ("denial", "codex", "opencode"),
    [
        (Denial("budget_exceeded"), 400, 402),
        (Denial("identity_unknown"), 400, 401),
        (Denial("model_not_allowed"), 400, 403),
        (Denial("path_not_allowed", status_override=404), 400, 404),
        (Denial("rate_limited", headers=LATER), 400, 402),
        (Denial("credential_unavailable", headers=LATER[:1]), 400, 400),
        (Denial("credential_refused"), 400, 400),
        (Denial("bad_request"), 400, 400),
    ],
    ids=lambda value: value.code if isinstance(value, Denial) else str(value),
)
def test_what_ends_a_call_at_once(denial: Denial, codex: int, opencode: int) -> None:
    """Code, words and headers are the same, and other clients get what they always get."""
    assert [told(denial, agent).status for agent in (CODEX, OPENCODE)] == [codex, opencode]
    assert told(denial, CODEX).message == denial.message
    for agent in (CLAUDE, "OpenAI/Python 3.54.0", "codex/1", "my-opencode", ""):
        assert told(denial, agent) is denial


def test_an_upgrade_and_what_passes_soon_stay_as_they_are() -> None:
    """426 sends Codex to HTTP at once. What may be tried again is."""
    for denial in (
        Denial("upgrade_required"),
        Denial("rate_limited", headers=(("retry-after", "1"),)),
        *(Denial(code) for code, reason in REASONS.items() if reason.retry),
    ):
        assert told(denial, CODEX) is denial
        assert told(denial, OPENCODE) is denial
