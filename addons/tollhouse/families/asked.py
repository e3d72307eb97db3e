"""What a request says, as its family reads it, and what the family reads it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tollhouse.families.operation import Operation
from tollhouse.headers import Headers

if TYPE_CHECKING:
    from tollhouse.families.formats.multipart import Form

Mode = Literal["typical", "worst"]
"""``worst`` is the most that a call can use; ``typical`` is the likely most."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider's speech differs from its family's. It is data of the provider's entry."""

    usage_in_stream: Literal["on_request", "always"] = "always"
    """``on_request``: a stream tells its usage only if the request asks for it."""
    own_rules: bool = False
    """The company whose API this is serves the models itself. So its published rules hold for
    models of these names."""
    least_seconds: int = 0
    """Sound that is written down is charged for so many seconds at least."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most tokens that a call's models read (``context``) and write (``answer``). Of several
    models that the call can reach, the largest counts."""

    context: int
    answer: int


class Request(NamedTuple):
    """What `Family.read` gets: a request whose body has come whole."""

    operation: Operation
    path: str
    headers: Headers
    body: bytes = b""
    """b"" where the operation reads none."""
    query: str = ""
    host: str = ""
    model: str = ""
    """The model that the path names, and that counts whatever the body says. The family itself sets
    it, for readers that its paths share with others."""
    form: Form | None = None
    """The fields of a multipart body that was read as it came. ``body`` is b"" then."""


class Asked(NamedTuple):
    """What a request says."""

    model: str = ""
    other_models: tuple[str, ...] = ()
    """The models beside ``model`` that the provider may use instead."""
    models_unknown: bool = False
    """The request names further models in a way that can't be read."""
    stream: bool = False
    cap: int | None = None
    """Tokens of output that each choice may have; None is no cap."""
    writes: bool = True
    """The answer has tokens of output."""
    choices: int = 1
    tier: str = ""
    """The service tier that is asked for."""
    reasons: bool = True
    """The model and the request can reason in silence."""
    asks: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    """Token parts, as in `Estimate`."""
    asks_for_usage: bool = False
    """`Family.rewrite` makes the request ask for usage, and the meter takes the added bytes out of
    the answer."""
    lowered_to: int | None = None
    """`Family.rewrite` lowers the cap of each choice to this."""
    kind: str = ""
    """That of the operation."""
    objects: tuple[str, ...] = ()
    """Ids of objects that the provider keeps, as far as the body names them."""
    least_cap: int = 1
    """The cap of each choice is not lowered below this."""
    detail: Any = None
    """What the family's own meter has to know of the request. Nobody else looks at it."""
    document: Any = None
    """The parsed body, for `Family.estimate` and `Family.sent_headers`. It is dropped after them,
    before anything is waited for: it takes many times the memory of the body's bytes."""
    deployment: str = ""
    """The name by which the request calls its model, where the provider's entry maps that name to
    ``model``. No family sets it."""
    keeps: bool | None = None
    """Whether the provider keeps the answer as an object, where the request itself says it. None:
    the operation says it."""
