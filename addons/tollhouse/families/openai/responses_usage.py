"""What a response of the Responses API says of its usage: https://platform.openai.com/docs/api-reference/responses/object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tollhouse.families.formats.counts import is_uneven
from tollhouse.families.openai.paid import paid_alone, paid_of
from tollhouse.families.openai.tools import (
    CODE_INTERPRETER,
    FILE_SEARCH,
    WEB_SEARCH,
    X_SEARCH,
    Hosted,
)
from tollhouse.families.units import Charge, Units

WANTED: Final = ("id", "status", "usage", "tool_usage", "model", "service_tier", "error")
"""Members of a response that are read wherever they stand."""
_MOST_ITEMS: Final = 4_096
"""Uses of tools of one answer that are told apart."""
_MOST_MADE: Final = 1_000
"""Ids of one answer that are told: as many as one request may name."""
_CITED: Final = frozenset({"container_file_citation", "file_path"})
"""Annotations that name a file which the code interpreter has made."""
_CONTAINERS: Final = frozenset({"code_interpreter_call", "shell_call"})
HOSTED_CALLS: Final = frozenset(
    {"web_search_call", "file_search_call", "x_search_call", *_CONTAINERS}
)
"""Items of the output that are uses of a tool with a price."""


def count(value: object) -> int:
    """A count of the answer; 0 for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return int(value) if known and isinstance(value, int) else 0


def details(value: object) -> Callable[[str], int]:
    """Reads the counts of an object that may be null."""
    parts = value if isinstance(value, Mapping) else {}
    return lambda key: count(parts.get(key))


def usage_of(value: object) -> Units | None:
    """A response's ``usage`` in the one normal form. Details are parts of their totals and may be
    null. Zeros alone are no count: every request has input."""
    if not isinstance(value, Mapping) or value.get("input_tokens") is None:
        return None
    read, written = count(value.get("input_tokens")), count(value.get("output_tokens"))
    if not read and not written:
        return None
    of_input = details(value.get("input_tokens_details"))
    of_output = details(value.get("output_tokens_details"))
    reasoning = of_output("reasoning_tokens")
    # xAI: reasoning beside the output shows in the total.
    if reasoning and count(value.get("total_tokens")) == read + written + reasoning:
        written += reasoning
    return Units(
        input=read,
        output=written,
        cached=min(of_input("cached_tokens"), read),
        cache_write=min(of_input("cache_write_tokens"), read),
        reasoning=min(reasoning, written),
        input_audio=min(of_input("audio_tokens"), read),
        output_audio=min(of_output("audio_tokens"), written),
        requests=1,
    )


def error_code(value: object) -> str:
    """The code or type of an error, never its message (which may repeat the request); "" for null."""
    if not value:
        return ""
    if not isinstance(value, Mapping):
        return "error"
    name = value.get("code") or value.get("type") or "error"
    return str(name)[:64] if isinstance(name, str | int) and str(name).isprintable() else "error"


def id_of(value: object) -> str:
    """An id of an object, "" for what is none."""
    sound = isinstance(value, str) and 0 < len(value) <= 256
    return value if sound and isinstance(value, str) and value.isprintable() else ""


class _Use(NamedTuple):
    kind: str
    counts: bool = True
    """A search of the web was billed: opening a page and looking in it are free
    (https://platform.openai.com/docs/guides/tools-web-search, "Output and citations")."""
    container: str = ""


class ResponseTold:
    """What was read of one response. Counts replace those before, and null changes nothing.
    ``kept``: the provider keeps the response and its items."""

    def __init__(
        self,
        tools: Hosted = Hosted(),  # noqa: B008 - it is immutable
        *,
        kept: bool = False,
    ) -> None:
        self.created: tuple[str, ...] = ()
        """Ids of what the provider keeps from now on. It is made anew only when one is added."""
        self.usage: Units | None = None
        self.error = ""
        self.id = ""
        self.status = ""
        self._tools = tools
        self._kept = kept
        self._singly = 0
        self._made: dict[str, None] = {}
        self._model = ""
        self._tier = ""
        self._paid: int | None = None
        self._uneven = False
        self._uses: dict[str, _Use] = {}
        self._svg: dict[str, Charge] = {}
        self._searched: int | None = None
        self._images: Units | None = None

    def read(self, response: Mapping[str, Any]) -> None:
        """Takes a response, or those members of it that could be read."""
        usage = usage_of(response.get("usage")) or paid_alone(response.get("usage"))
        if usage is not None:
            self.usage, self._paid = usage, paid_of(response.get("usage"))
            total = details_of(response.get("usage")).get("total_tokens")
            self._uneven = is_uneven(total, usage.tokens)
        self.id = id_of(response.get("id")) or self.id
        if self._kept:
            self._note(self.id)
        self.status = id_of(response.get("status")) or self.status
        model, tier = response.get("model"), response.get("service_tier")
        if isinstance(model, str) and model and model.isascii() and model.isprintable():
            self._model = model[:256]
        if isinstance(tier, str):
            self._tier = tier[:32]
        self.error = error_code(response.get("error")) or self.error
        self._read_tools(response.get("tool_usage"))
        for number, item in enumerate(_listed(response.get("output"))):
            # An item without an id can't be known again.
            if not self._singly or id_of(details_of(item).get("id")):
                self.read_item(item, number)

    def read_single(self, item: object) -> None:
        """Takes an item that comes by itself, before the response that has them all."""
        self._singly += 1
        self.read_item(item, self._singly)

    def read_item(self, item: object, number: int) -> None:
        """Takes an item of the output, ``number`` in its order."""
        if not isinstance(item, Mapping):
            return
        self.note_item(item)
        kind = item.get("type")
        key = id_of(item.get("id")) or f"#{number}"
        if kind == "image_generation_call":
            self._read_svg(key, item.get("svg_usage"))
        if not isinstance(kind, str) or kind not in HOSTED_CALLS:
            return
        action, container = item.get("action"), id_of(item.get("container_id"))
        if kind == "shell_call":
            environment = item.get("environment")
            container = id_of(details_of(environment).get("container_id"))
            if not container:
                # The client has run it.
                return
        searched = details_of(action).get("type") in (None, "search")
        if key in self._uses or len(self._uses) < _MOST_ITEMS:
            self._uses[key] = _Use(kind, kind != "web_search_call" or searched, container)

    def note_item(self, item: object) -> None:
        """Takes what an item has made. A later request may name the item by its id."""
        if not isinstance(item, Mapping):
            return
        if self._kept:
            self._note(id_of(item.get("id")))
        # A container lives on by itself, and so do the files in it.
        self._note(id_of(item.get("container_id")))
        self._note(id_of(details_of(item.get("environment")).get("container_id")))
        for part in _listed(item.get("content")):
            for cited in _listed(details_of(part).get("annotations")):
                if details_of(cited).get("type") in _CITED:
                    self._note(id_of(cited.get("file_id")))
                    self._note(id_of(cited.get("container_id")))

    def _note(self, made: str) -> None:
        if made and made not in self._made and len(self._made) < _MOST_MADE:
            self._made[made] = None
            self.created = tuple(self._made)

    def charges(self) -> tuple[Charge, ...]:
        """The model's own charge, then those of the tools. Nothing before there is a usage: tools
        alone would look like the whole bill. What the answer itself says is paid covers the tools."""
        if self.usage is None:
            return ()
        if self._paid is not None:
            return (Charge(self._model, self.usage, self._tier, self._paid, uneven=self._uneven),)
        searches = sum(use.counts for use in self._uses.values() if use.kind == "web_search_call")
        if self._searched is not None:
            searches = self._searched
        found = [Charge(self._model, self.usage, self._tier, uneven=self._uneven)]
        used = (
            (self._tools.search or WEB_SEARCH, searches),
            (FILE_SEARCH, self._uses_of("file_search_call")),
            (X_SEARCH, self._uses_of("x_search_call")),
            (CODE_INTERPRETER, self._containers() * max(self._tools.gigabytes, 1)),
        )
        found += [Charge(name, Units(requests=uses)) for name, uses in used if uses]
        if self._images is not None:
            found.append(Charge(self._tools.image_model, self._images))
        return (*found, *self._svg.values())

    def _uses_of(self, kind: str) -> int:
        return sum(use.kind == kind for use in self._uses.values())

    def _containers(self) -> int:
        """Containers that were used. A call that names none is counted as one."""
        used = [use.container for use in self._uses.values() if use.kind in _CONTAINERS]
        return len({one for one in used if one}) + used.count("")

    def _read_tools(self, value: object) -> None:
        used = details_of(value)
        searches = used.get("web_search")
        if isinstance(searches, Mapping) and searches.get("num_requests") is not None:
            self._searched = count(searches["num_requests"])
        images = used.get("image_gen")
        if isinstance(images, Mapping):
            self._images = _image_units(images) or self._images

    def _read_svg(self, key: str, value: object) -> None:
        model = id_of(details_of(value).get("model"))
        of = details(value)
        if model and (key in self._svg or len(self._svg) < _MOST_ITEMS):
            written = of("output_tokens")
            units = Units(
                input=of("input_tokens"),
                output=written,
                reasoning=min(of("reasoning_tokens"), written),
                requests=1,
            )
            self._svg[key] = Charge(model, units)


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def details_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _image_units(value: Mapping[str, Any]) -> Units | None:
    """Tokens of the image model. Output without details is all of images."""
    read, written = count(value.get("input_tokens")), count(value.get("output_tokens"))
    if not read and not written:
        return None
    of_input = details(value.get("input_tokens_details"))
    told = value.get("output_tokens_details")
    drawn = details(told)("image_tokens") if isinstance(told, Mapping) else written
    return Units(
        input=read,
        output=written,
        cached=min(count(value.get("cached_tokens")), read),
        input_image=min(of_input("image_tokens"), read),
        output_image=min(drawn, written),
        requests=1,
    )
