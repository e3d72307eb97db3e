"""Gemini CLI 0.61.0, seen on 2026-11-28."""

from tollhouse.companions.companion import Companions

# It works with the provider alone. `play.googleapis.com`, to which it sends telemetry, is better refused: two tries.
GEMINI_CLI = Companions(agent="gemini-cli")
