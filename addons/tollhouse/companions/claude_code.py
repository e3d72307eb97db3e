"""Claude Code 2.1.332, seen on 2026-11-28."""

from tollhouse.companions.companion import Companions

CLAUDE_CODE = Companions(
    agent="claude-code",
    # Its first interactive start asks `GET /v1/oauth/hello` there, and ends without an answer of 200. `claude -p` never asks. A
    # login is renewed there as well.
    needed=("platform.claude.com",),
    # The catalogue of models and plugins, the changelog, plugins by git, its own update.
    optional=(
        "downloads.claude.ai",
        "raw.githubusercontent.com",
        "github.com",
        "registry.npmjs.org",
    ),
)
