"""The tools that the provider runs itself: which of them a request may use, what they are called in the
table of prices, and how much of each one answer may use.

Prices are for one use: https://platform.openai.com/docs/pricing#built-in-tools. A search of the web
or of files is one use. A container is one use for each GB of its memory, because its price is in
proportion to that (1, 4, 16, 64 GB). An image is charged by its tokens, at the image model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.asked import Limits
from tollhouse.families.formats.document import Document
from tollhouse.families.units import Charge, Units

WEB_SEARCH: Final = "web_search"
WEB_SEARCH_PREVIEW: Final = "web_search_preview"
FILE_SEARCH: Final = "file_search"
CODE_INTERPRETER: Final = "code_interpreter"
X_SEARCH: Final = "x_search"
"""Of xAI: https://docs.x.ai/docs/guides/tools/search-tools."""

CALLS_LIKELY: Final = 10
"""Uses of tools in one answer without ``max_tool_calls``: deep research apart, answers have fewer."""
CALLS_MOST: Final = 128
"""``worst``: the same. OpenAI names no bound (https://platform.openai.com/docs/api-reference/responses/create,
``max_tool_calls``). Deep research has been seen with more than 50:
https://github.com/openai/openai-java/issues/600."""
DEFAULT_IMAGE_MODEL: Final = "gpt-image-2.6-sunburst"
"""Of the image generation tool: openai-python `types/responses/tool.py`."""
IMAGE_TOKENS: Final = 6_240
"""An image of 1536 x 1024 in high quality; a larger one in proportion to its pixels:
https://platform.openai.com/docs/guides/image-generation, "Cost and latency"."""
_IMAGE_PIXELS: Final = 1536 * 1024
_LARGEST_PIXELS: Final = 3840 * 2160
"""openai-python `types/responses/tool.py`, ``size``."""
_FINER: Final = 4
"""``worst``: qualities above high (xhigh, max), of which OpenAI tells no number of tokens."""
PARTIAL_IMAGE_TOKENS: Final = 100
"""Each partial image: same guide, "Streaming"."""
_GIF_FRAMES: Final = 9
"""openai-python `types/responses/tool.py`, ``frame_count``."""
IMAGE_INPUT: Final = 8_000 + 16 * 6_240
"""What the image model reads: a prompt of 32,000 characters and 16 images, the most of an edit
(https://platform.openai.com/docs/api-reference/images/createEdit), each at most as dear as one that
it makes."""

_OF_CLIENT: Final = frozenset(
    {
        *("function", "custom", "local_shell", "apply_patch"),
        *("computer", "computer_use_preview", "computer-preview"),
    }
)
"""The client runs these, and sends their results as items of its next request."""
_SEARCH: Final = re.compile(r"web_search(?:_\d{4}_\d{2}_\d{2}|_ga)?")
_PREVIEW: Final = re.compile(r"web_search_preview(?:_\d{4}_\d{2}_\d{2})?")
_MEMORY: Final = {"1g": 1, "4g": 4, "16g": 16, "64g": 64}
_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")
_CHAT_PREVIEW: Final = re.compile(r"(?:.*/)?gpt-4o(?:-mini)?-search-preview")
_CHAT_SEARCH: Final = re.compile(r"(?:.*/)?gpt-[5-9][.\d]*-search-api")


class Hosted(NamedTuple):
    """What a request lets the provider run. ``gigabytes`` is of the largest container, 0 for none.
    ``calls`` is the request's own bound."""

    rounds: bool = False
    """The provider runs something, and the model reads its whole context again afterwards."""
    unknown: bool = False
    """Tools stand in a prompt that the provider keeps."""
    search: str = ""
    files: bool = False
    gigabytes: int = 0
    image_model: str = ""
    image_tokens: int = 0
    """Of one image, at most."""
    svg_model: str = ""
    calls: int | None = None
    posts: bool = False
    """Posts at X are searched."""

    def most_calls(self, *, worst: bool) -> int:
        if not self.rounds and not (self.unknown and worst):
            return 0
        if worst:
            return CALLS_MOST if self.calls is None else self.calls
        return CALLS_LIKELY if self.calls is None else min(self.calls, CALLS_LIKELY)

    def most(self, limits: Limits, *, worst: bool) -> tuple[Charge, ...]:
        """Upper bounds of what the tools cost beside the model's own tokens."""
        calls = self.most_calls(worst=worst)
        if not calls:
            return ()
        guessed = self.unknown and worst
        found = []
        if self.search or guessed:
            found.append(Charge(self.search or WEB_SEARCH, Units(requests=calls)))
        if self.files or guessed:
            found.append(Charge(FILE_SEARCH, Units(requests=calls)))
        if self.posts:
            found.append(Charge(X_SEARCH, Units(requests=calls)))
        if self.gigabytes or guessed:
            containers = calls if worst else 1
            found.append(
                Charge(CODE_INTERPRETER, Units(requests=max(self.gigabytes, 1) * containers))
            )
        images = calls if worst else 1
        if self.image_model:
            tokens = self.image_tokens * (_FINER if worst else 1) * images
            read = IMAGE_INPUT * images
            units = Units(
                input=read, input_image=read, output=tokens, output_image=tokens, requests=images
            )
            found.append(Charge(self.image_model, units))
        if self.svg_model:
            units = Units(
                input=limits.context * images,
                output=limits.answer * images,
                reasoning=limits.answer * images,
                requests=images,
            )
            found.append(Charge(self.svg_model, units))
        return tuple(found)


def hosted(body: Document, model: str, calls: int | None) -> Hosted:
    """What a request to the Responses API lets the provider run. A tool whose type is not known
    runs at the provider."""
    found = Hosted(unknown=body.tree.get("prompt") is not None, calls=calls)
    if body.name(body.tree.get("tool_choice")) == "none":
        return found._replace(unknown=False)
    for tool in _tools(body.tree):
        found = _with_tool(found, body, tool, model)
    return found


def _tools(tree: Mapping[str, Any]) -> Iterator[Any]:
    """Those of the request, and those that an item of the input adds."""
    yield from _listed(tree.get("tools"))
    for item in _listed(tree.get("input")):
        if isinstance(item, dict) and item.get("type") != "mcp_list_tools":
            yield from _listed(item.get("tools"))


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def runs_at_client(tool: Any, body: Document) -> bool:
    """Whether the client itself runs ``tool``."""
    if not isinstance(tool, dict):
        return False
    kind = body.name(tool.get("type"))
    if kind == "namespace":
        return all(runs_at_client(one, body) for one in _listed(tool.get("tools")))
    if kind == "shell":
        environment = tool.get("environment")
        return environment is None or (
            isinstance(environment, dict) and body.name(environment.get("type")) == "local"
        )
    return isinstance(kind, str) and kind in _OF_CLIENT


def _with_tool(found: Hosted, body: Document, tool: Any, model: str) -> Hosted:
    if runs_at_client(tool, body):
        return found
    found = found._replace(rounds=True)
    if not isinstance(tool, dict):
        return found
    kind = body.name(tool.get("type"))
    if not isinstance(kind, str):
        return found
    if _PREVIEW.fullmatch(kind):
        return found._replace(search=WEB_SEARCH_PREVIEW)
    if _SEARCH.fullmatch(kind):
        return found._replace(search=found.search or WEB_SEARCH)
    if kind == X_SEARCH:
        return found._replace(posts=True)
    if kind == "file_search":
        return found._replace(files=True)
    if kind in ("code_interpreter", "shell"):
        container = tool.get("container" if kind == "code_interpreter" else "environment")
        limit = body.name(container.get("memory_limit")) if isinstance(container, dict) else None
        size = _MEMORY.get(limit, 1) if isinstance(limit, str) else 1
        return found._replace(gigabytes=max(found.gigabytes, size))
    if kind == "image_generation":
        return _with_images(found, body, tool, model)
    return found


def _with_images(found: Hosted, body: Document, tool: Mapping[str, Any], model: str) -> Hosted:
    named = body.name(tool.get("model"))
    size = body.name(tool.get("size"))
    sides = _SIZE.fullmatch(size) if isinstance(size, str) else None
    pixels = int(sides[1]) * int(sides[2]) if sides else _IMAGE_PIXELS
    tokens = -(-IMAGE_TOKENS * max(min(pixels, _LARGEST_PIXELS), _IMAGE_PIXELS) // _IMAGE_PIXELS)
    form = body.name(tool.get("output_format"))
    frames = tool.get("frame_count")
    if form == "gif":
        tokens *= frames if type(frames) is int and frames > 0 else _GIF_FRAMES
    partial = tool.get("partial_images")
    if type(partial) is int and partial > 0:
        tokens += PARTIAL_IMAGE_TOKENS * min(partial, 3)
    svg = tool.get("svg")
    author = body.name(svg.get("model")) if isinstance(svg, dict) else None
    return found._replace(
        image_model=named if isinstance(named, str) and named else DEFAULT_IMAGE_MODEL,
        image_tokens=max(found.image_tokens, tokens),
        svg_model=(author if isinstance(author, str) and author else model)
        if form == "svg"
        else found.svg_model,
    )


def chat_search(model: str, asked_for: object) -> str:
    """The tool that each chat completion is charged for, "" for none. ``asked_for`` says whether the request asks for a search,
    or names another tool. Models of a search search the web before each answer, and no count of it is in the answer:
    https://platform.openai.com/docs/guides/tools-web-search?api-mode=chat."""
    if isinstance(asked_for, str):
        return asked_for
    if _CHAT_PREVIEW.match(model):
        return WEB_SEARCH_PREVIEW
    if _CHAT_SEARCH.match(model) or asked_for:
        return WEB_SEARCH
    return ""
