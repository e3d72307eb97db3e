"""The body of a request for messages, read strictly, because what is metered must be what the
provider reads.

Anthropic itself, Foundry, Vertex and Bedrock take the same body. Where the path names the model, the
caller of `read` gives it.
"""

from __future__ import annotations

from typing import Any, Final

from tollhouse.families.anthropic.extras import Extras, can_reason, extras, least_cap
from tollhouse.families.anthropic.message_fields import (
    model_name,
    objects,
    optional,
    refuse_case_variants,
)
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.checked import whole
from tollhouse.families.formats.document import Document, parsed, refuse

MAX_OBJECTS: Final = 1_000
_LONG_LIVED: Final = frozenset({"cache_write_1h"})
_STANDARD: Final = {"standard_only": "standard"}
_MAX_ID: Final = 1_024


def read(request: Request, dialect: Dialect, model: str | None = None) -> Asked:
    """Raises Refused("bad_request") for a body that can't be read in exactly one way. ``model`` is
    that of the path, which goes before the body's.

    ``tier`` has the words of all that changes the price, joined by ``+``: ``standard``, ``fast``,
    and the place (``us``). A request without ``max_tokens`` has no cap; the provider refuses it.
    """
    document = parsed(request.body)
    asked = of_document(document, model)
    return asked._replace(kind=request.operation.kind)


def count(request: Request, dialect: Dialect) -> Asked:
    """The same for a request that only counts the tokens of another."""
    asked = read(request, dialect)
    return asked._replace(writes=False, reasons=False, stream=False, cap=None, document=None)


def of_document(document: Document, model: str | None = None) -> Asked:
    """`read` for a body that is parsed already."""
    tree = document.tree
    refuse_case_variants(tree)
    if model is None:
        if "model" not in tree:
            refuse('The body has no "model".')
        model = model_name(document.name(tree["model"]))
    cap = whole(tree, "max_tokens", 0)
    stream = optional(tree, "stream", bool, "true or false") or False
    optional(tree, "messages", list, "a list")
    optional(tree, "system", (str, list), "a string or a list")
    _refuse_other_payer(document)
    more = extras(document, cap)
    ids, long_lived = _named(document)
    others = [other.model for other in (*more.fallbacks, *more.advisors)]
    # A fallback may have a cap of its own.
    caps = [cap, *(other.cap for other in more.fallbacks if other.cap is not None)]
    return Asked(
        model,
        tuple(dict.fromkeys(name for name in others if name != model)),
        more.fallbacks_unknown,
        stream,
        cap=None if cap is None else max(found for found in caps if found is not None),
        tier=_tier(document, more),
        reasons=can_reason(document, (model, *others)),
        may=_LONG_LIVED if long_lived else frozenset(),
        objects=ids,
        least_cap=least_cap(document, cap),
        detail=more,
        document=document,
    )


def _tier(document: Document, more: Extras) -> str:
    tree = document.tree
    tier = document.name(optional(tree, "service_tier", str, "a string")) or ""
    speed = document.name(optional(tree, "speed", str, "a string"))
    place = document.name(optional(tree, "inference_geo", str, "a string")) or ""
    words = [_STANDARD.get(tier, tier), "fast" if speed == "fast" or more.fast else "", place]
    return "+".join(word for word in words if word)[:64]


def _refuse_other_payer(document: Document) -> None:
    policy = optional(document.tree, "billing_policy", dict, "an object") or {}
    payer = document.name(policy.get("bill_to"))
    if payer not in (None, "self"):
        refuse(
            'The body asks for another payer ("billing_policy"). The project pays for its calls: '
            "leave that field out."
        )


def _named(document: Document) -> tuple[tuple[str, ...], bool]:
    """The ids of objects that the provider keeps, and whether anything is to be kept in its cache
    for an hour."""
    tree = document.tree
    found: list[Any] = []
    long_lived = False
    container = optional(tree, "container", (str, dict), "a string or an object")
    if isinstance(container, dict):
        found.append(container.get("id"))
        # A skill of the provider's own belongs to nobody.
        found += [
            skill.get("skill_id")
            for skill in objects(container, "skills")
            if document.name(skill.get("type")) != "anthropic"
        ]
    else:
        found.append(container)
    for field in ("thread", "diagnostics"):
        held = optional(tree, field, dict, "an object") or {}
        found.append(held.get("previous_message_id"))
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found.append(node.get("file_id"))
            control = node.get("cache_control") or node.get("caching")
            if isinstance(control, dict) and document.name(control.get("ttl")) == "1h":
                long_lived = True
            node = node.values()
        waiting += [one for one in node if type(one) is dict or type(one) is list]
    ids = [document.name(value) for value in found if value is not None]
    if not all(isinstance(one, str) and 0 < len(one) <= _MAX_ID for one in ids):
        refuse("An id of a file, a container, a skill or a message must be a string.")
    if len(ids) > MAX_OBJECTS:
        refuse(f"The body names more than {MAX_OBJECTS} objects.")
    return tuple(dict.fromkeys(ids)), long_lived
