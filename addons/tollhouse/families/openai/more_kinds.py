"""How the operations of `routes_more` are read and metered."""

from __future__ import annotations

from typing import Final

from tollhouse.families.formats.kinds import Kind
from tollhouse.families.openai.audio import HEARD, SPEECH
from tollhouse.families.openai.decisions import DECISIONS
from tollhouse.families.openai.images import IMAGES
from tollhouse.families.openai.kept_objects import CONTAINER, FREE, OBJECTS, SEARCH, SHUT
from tollhouse.families.openai.later import BATCHES

MORE_KINDS: Final[dict[str, Kind]] = {
    "images": IMAGES,
    "speech": SPEECH,
    "transcriptions": HEARD,
    "decisions": DECISIONS,
    "file_search": SEARCH,
    "containers": CONTAINER,
    "batches": BATCHES,
    **dict.fromkeys(("objects", "jobs"), OBJECTS),
    "moderations": FREE,
    **dict.fromkeys(("sessions", "account"), SHUT),
}
