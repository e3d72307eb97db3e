"""What may be asked of an API: a family's operations, and the routes on which they are asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Cost = Literal["metered", "free", "job", "mints", "account"]
"""``metered``: the answer tells the usage. ``free``: it costs nothing. ``job``: the cost comes later,
elsewhere. ``mints``: it makes a credential or a session that would go around the gateway.
``account``: it administrates the account. The last two are refused always."""
Objects = Literal["", "makes", "lists", "deletes"]
"""What a request does with objects that the provider keeps, beside using them. ``makes``: the answer
has the id of a new one, or of what has come of an earlier request. ``lists``: the answer
shows those of everybody who has the key."""
Upload = Literal["", "form", "bytes"]
"""Whether a body may be a file, and so larger than bodies are that are kept. ``form``: a multipart
body may be one; its fields are read as it comes. ``bytes``: nothing of the body is read."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a request asks the API to do. ``kind`` is the family's own word: ``chat``, ``embeddings``, ``models``."""

    kind: str
    cost: Cost
    reads_body: bool = False
    """The body is read and judged before anything is held. Without it a body is refused."""
    objects: Objects = ""
    keyless: bool = False
    """It goes out without a key."""
    shows_usage: bool = False
    """The answer may tell the usage of an answer that was asked for earlier. The first object of the
    path is its id (`Later`)."""
    upload: Upload = ""
    creates: bool | None = None
    """Whether a second request would make or change something a second time. None: a method with
    that effect (POST, PATCH: RFC 9110 9.2.2) does, unless the operation is metered and keeps no
    object."""
    socket: bool = False
    """It is a WebSocket: the request asks for an upgrade. `Family.dialogue` reads its messages."""

    @property
    def metered(self) -> bool:
        """Whether the answer tells a usage that is charged."""
        return self.cost == "metered"

    def created_by(self, method: str, keeps: bool | None) -> bool:
        """``keeps`` is that of `Asked`."""
        if method not in ("POST", "PATCH"):
            return False
        if self.creates is not None:
            return self.creates
        if not self.metered:
            return True
        return self.objects == "makes" if keeps is None else keeps


class Matched(NamedTuple):
    """What a route says of a request. ``objects`` are the ids in its path."""

    operation: Operation
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. ``path`` has to fit the whole path, without the query. ``hosts`` has to
    fit the whole host, and ``query`` the whole query; None stands for every one. Groups of ``path`` whose names begin with
    ``object`` are ids of objects that the provider keeps."""

    method: str
    path: re.Pattern[str]
    operation: Operation
    hosts: re.Pattern[str] | None = None
    query: re.Pattern[str] | None = None


MODELS: Final = Operation("models", "free")


def model_list(path: str, one: str = r"[A-Za-z0-9._:-]+") -> tuple[Route, Route]:
    """The routes of a free list of models at ``path`` (a pattern), and of a single model, whose
    name ``one`` matches."""
    return Route("GET", re.compile(path), MODELS), Route("GET", re.compile(f"{path}/{one}"), MODELS)
