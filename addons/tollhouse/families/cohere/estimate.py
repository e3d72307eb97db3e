"""What a request may use. Tokens are counted as of OpenAI's format (`openai.estimate`): a message is the same, and any other field
counts as text. What Cohere bills has no template in it, and is less."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode
from tollhouse.families.cohere.request import Writing
from tollhouse.families.formats.document import Document
from tollhouse.families.formats.text_tokens import text_tokens
from tollhouse.families.openai.estimate import FIRST_SLICE_TOKENS, estimate_input_tokens
from tollhouse.families.units import Estimate, Units

SEARCHES: Final = 8
"""Of one connector in one answer. Cohere publishes no bound; a message is split into a few queries:
https://docs.cohere.com/v1/docs/retrieval-augmented-generation-rag."""
DOCUMENTS_A_UNIT: Final = 100
"""A search unit is a query with up to so many documents: https://cohere.com/pricing."""
CHUNK: Final = 500
"""Tokens, the query's with them. A longer document is split, and each part counts as a document: the same page."""
DOCUMENT_MOST: Final = 4_096
"""Tokens of a document that are read, if ``max_tokens_per_doc`` says no more: https://docs.cohere.com/reference/rerank."""
IMAGE_TOKENS: Final = 4_096
"""``typical``: an image of 2,458,624 pixels, which a larger one is made to, has fewer in patches of 28 x 28:
https://docs.cohere.com/docs/embeddings#image-embeddings."""
MAX_PAGES: Final = 1_000
USUAL_PAGES: Final = 100
"""Of a document to parse. Cohere publishes no bound."""
_BY_TOKENS: Final = re.compile(r"embed-v(?:[4-9]|\d\d)")
_BY_IMAGES: Final = re.compile(r"embed-.*v3|embed-v3")
"""embed-v4.0 counts an image's tokens, v3 counts images: https://cohere.com/pricing."""
_NO_INPUT: Final = frozenset(
    {
        "thinking", "priority", "truncate", "input_type", "embedding_types", "output_dimension", "safety_mode",
        "citation_options", "citation_quality", "prompt_truncation", "k", "p", "num_generations",
        "return_likelihoods", "strict_tools", "stop_sequences", "end_sequences", "raw_prompting",
        "search_queries_only", "max_input_tokens",
    }
)  # fmt: skip


def estimate_text(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    worst = mode == "worst"
    talk: Writing = asked.detail
    tree = {key: value for key, value in asked.document.tree.items() if key not in _NO_INPUT}
    tokens = estimate_input_tokens(
        Document(tree, asked.document.long),
        worst=worst,
        models=(asked.model,),
        context=limits.context,
        answer=limits.answer,
    )
    if talk.searches:
        tokens = max(tokens, limits.context)
    slices = asked.writes and asked.stream and asked.cap is None and not worst
    each = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    return Estimate(
        Units(
            input=tokens,
            output=(each + talk.thinks) * asked.choices,
            searches=talk.searches * SEARCHES,
            requests=1,
        ),
        grows=slices,
    )


def estimate_embed(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    tree = asked.document.tree
    worst = mode == "worst"
    texts = [*(tree.get("texts") or []), *_of_inputs(tree.get("inputs"), "text")]
    images = len(tree.get("images") or []) + sum(
        1 for _ in _of_inputs(tree.get("inputs"), "image_url")
    )
    tokens = sum(
        min(max(_tokens(text, asked.document, worst), 1), limits.context) for text in texts
    )
    # Of what is no list of texts nobody knows the size.
    tokens = max(tokens, 1) if texts or images else limits.context
    by_tokens = _BY_TOKENS.search(asked.model) is not None
    by_images = _BY_IMAGES.search(asked.model) is not None
    of_images = (
        0
        if by_images
        else images * (limits.context if worst else min(IMAGE_TOKENS, limits.context))
    )
    return Estimate(
        Units(
            input=tokens + of_images,
            input_image=of_images,
            images=0 if by_tokens else images,
            requests=1,
        )
    )


def estimate_rerank(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """The query takes no more than half of a part."""
    tree = asked.document.tree
    worst = mode == "worst"
    query = _tokens(tree["query"], asked.document, worst)
    room = CHUNK - min(query, CHUNK // 2)
    most = max(tree.get("max_tokens_per_doc") or 0, DOCUMENT_MOST)
    parts = sum(
        max(math.ceil(min(_tokens(text, asked.document, worst), most) / room), 1)
        for text in tree["documents"]
    )
    return Estimate(Units(searches=max(math.ceil(parts / DOCUMENTS_A_UNIT), 1), requests=1))


def estimate_classify(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Each input is a classification, which is counted as a request."""
    return Estimate(Units(requests=max(len(asked.document.tree.get("inputs") or []), 1)))


def estimate_parse(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    return Estimate(Units(pages=MAX_PAGES if mode == "worst" else USUAL_PAGES, requests=1))


def _tokens(value: Any, document: Document, worst: bool) -> int:
    """Of all strings in ``value``; ``worst`` takes a byte for a token, as `openai.estimate` does."""
    if isinstance(value, str):
        long = document.long.get(value) if document.long else None
        if worst:
            return len(value.encode("utf-8", "replace")) if long is None else long.bytes
        return math.ceil(text_tokens(value) if long is None else long.tokens)
    if isinstance(value, dict):
        return sum(_tokens(one, document, worst) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return sum(_tokens(one, document, worst) for one in value)
    return 1


def _of_inputs(inputs: Any, kind: str) -> Iterator[Any]:
    for one in inputs if isinstance(inputs, list) else ():
        content = one.get("content") if isinstance(one, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get(kind) is not None:
                yield part[kind]
