"""opencode 1.18.33, seen on 2026-11-28."""

from tollhouse.companions.companion import Companions

OPENCODE = Companions(
    agent="opencode",
    # It works with the provider alone. The list of models, its own update.
    optional=("models.opencode.ai", "registry.npmjs.org"),
)
