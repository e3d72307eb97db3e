"""Codex 0.171.0, seen on 2026-11-28."""

from tollhouse.companions.companion import Companions

CODEX = Companions(
    agent="codex",
    # It works with the provider alone. Where a login of ChatGPT's is renewed, its releases, plugins by git. `ab.chatgpt.com`, to
    # which it sends metrics, is better refused.
    optional=("auth.openai.com", "api.github.com", "github.com"),
)
