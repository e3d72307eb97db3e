"""What agents contact beside their provider: data, one file an agent. Nothing of it passes unless the configuration says so.

companion    `Companions`
claude_code  Claude Code
codex        Codex
gemini_cli   Gemini CLI
opencode     opencode
passable     the hosts that pass, these and those of one's own
"""

from typing import Final

from tollhouse.companions.claude_code import CLAUDE_CODE
from tollhouse.companions.codex import CODEX
from tollhouse.companions.companion import Choice, Companions
from tollhouse.companions.gemini_cli import GEMINI_CLI
from tollhouse.companions.opencode import OPENCODE
from tollhouse.companions.passable import EVERY_PROJECT, Passable, PassableHost

AGENTS: Final = (CLAUDE_CODE, CODEX, GEMINI_CLI, OPENCODE)

__all__ = ["AGENTS", "EVERY_PROJECT", "Choice", "Companions", "Passable", "PassableHost"]
