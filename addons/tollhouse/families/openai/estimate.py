"""How many input tokens a request will take, before it is sent. An estimate is held; usage is what is charged.

There is no tokenizer. ``typical`` counts text by its script (`formats.text`). ``worst`` counts a
token for each byte, and takes the largest known number for everything that a provider may add, so
that no more input is charged than was held. `media` counts images, audio and files. A field that
this file does not know counts as text, with all of its bytes. Input that is not in the request
itself (`_UNSEEN`, ids and URLs) counts as the model's context limit. The constants, and where they
come from:
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode
from tollhouse.families.formats.document import Document, LongString, named
from tollhouse.families.formats.rendered import rendered_most
from tollhouse.families.formats.text_tokens import text_tokens
from tollhouse.families.openai import media
from tollhouse.families.openai.known_fields import NOT_INPUT
from tollhouse.families.openai.tools import chat_search
from tollhouse.families.units import Charge, Estimate, Units

# ``worst`` takes a byte for a token: the tokenizers of the models in use split UTF-8 into bytes and join them, so that random
# text comes to a token a byte, and none covers less (tiktoken's README, https://github.com/openai/tiktoken, "What is BPE anyway?":
# it is reversible, and works on arbitrary text; SentencePiece's ``byte_fallback`` the same). Not covered are those that write the
# text anew first (NFC: Qwen; NFKC: XLM-R), by which a few rare characters become longer, 3 times at most with NFC:
# https://unicode.org/faq/normalization.html. An unpaired surrogate is 3 bytes, as U+FFFD is that stands for it.

TOKENS_PER_MESSAGE: Final = 4
"""3 a message and 1 for a name: OpenAI cookbook, "How to count tokens with tiktoken"."""
TOKENS_PER_REPLY: Final = 3
"""The answer is primed with three tokens: same source."""
TOKENS_PER_FUNCTION: Final = 12
"""7 to 10 a function and 3 each for its parts: same source, section on tool calls. Its JSON counts as text beside
that."""

TOKENS_PER_MESSAGE_MOST: Final = 16
"""``worst``: the role and the special tokens around it. Of the published chat templates gpt-oss' has the most, 8 for a
message to a channel (https://cookbook.openai.com/articles/openai-harmony); a template may close and open a turn."""
TOKENS_PER_PART_MOST: Final = 4
"""``worst``: the tokens around a part of a message, such as an image."""
TEMPLATE_MOST: Final = 1_024
"""``worst``: the text that a provider itself puts before the messages. The system message of
gpt-oss has about 70 tokens, the dates of Llama 3.1 have 25."""
TOOLS_MOST: Final = 1_024
"""``worst``: the same for tools or a schema of the answer. Anthropic's has 264 to 804 tokens:
https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview#pricing."""
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_TOOLS: Final = frozenset({"tools", "functions", "response_format"})

_UNSEEN: Final = frozenset(
    {
        # Kept by the provider: conversations, prompts, files, caches.
        "previous_response_id", "conversation", "conversation_id", "thread_id", "prompt_id", "file_id", "file_ids",
        "vector_store_id", "vector_store_ids", "cached_content", "cachedContent",
        # Fetched or searched by the provider: OpenAI, Azure, xAI, OpenRouter.
        "web_search_options", "data_sources", "search_parameters", "plugins",
        # vLLM: a template of the caller's own, and how many pixels of an image and frames of a video are read.
        "chat_template", "mm_processor_kwargs", "media_io_kwargs",
    }
)  # fmt: skip
"""Fields of a request that bring in input from elsewhere."""
_LINKS: Final = frozenset(
    {"url", "uri", "image_url", "video_url", "audio_url", "file_url", "document_url", "fileUri"}
)
"""Fields of a part with a URL that the provider fetches, unless it is a ``data:`` URL."""
_SEARCHES: Final = re.compile(r"-search-|-search$|:online$")
"""Models that search the web before each answer: https://platform.openai.com/docs/guides/tools-web-search
(gpt-4o-search-preview, gpt-5-search-api), https://openrouter.ai/docs/features/web-search."""
_OF_CLIENT: Final = ("function", "custom")
_DEFINES: Final = frozenset({"function", "custom", "name"})
"""The client itself runs tools with one of the types `_OF_CLIENT` and one of these fields: their
results are messages. All other tools run at the provider."""


FIRST_SLICE_TOKENS: Final = 2_048
"""The output that is held at first for each choice of a stream without a cap. The hold grows as the
stream goes on (`budget.growth`). Most answers of a chat are shorter and need no more."""


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Never raises, whatever the client sends. For a stream without a cap ``worst`` holds the
    longest answer: a slice could be too small, because the time gone by does not bound the
    tokens."""
    worst = mode == "worst"
    tokens = estimate_input_tokens(
        asked.document,
        worst=worst,
        models=(asked.model, *asked.other_models),
        context=limits.context,
        answer=limits.answer,
        openai=dialect.own_rules and not asked.models_unknown,
    )
    if not asked.writes:
        return Estimate(Units(input=tokens, requests=1))
    slices = asked.stream and asked.cap is None and not worst
    each = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    search = chat_search(asked.model, asked.detail)
    return Estimate(
        Units(input=tokens, output=each * asked.choices, requests=1),
        asked.asks,
        asked.may,
        predicted=estimate_prediction_tokens(asked.document, worst=worst) * asked.choices,
        beside=(Charge(search, Units(requests=1)),) if search else (),
        grows=slices,
    )


def estimate_input_tokens(
    document: Document,
    *,
    worst: bool = False,
    models: Sequence[str] | None = None,
    context: int = 128_000,
    answer: int = 16_384,
    openai: bool = False,
) -> int:
    """The input tokens of a chat completion or an embeddings request, from its parsed JSON. Never
    raises, whatever the client sends: a field of another type than the API's counts as text.

    ``models`` are those that the request can reach (its own ``model`` if None). ``context`` and
    ``answer`` are the most tokens that one of them reads and writes. ``openai`` says that OpenAI
    itself is asked.
    """
    request = document.tree
    if models is None:
        model = request.get("model")
        models = (model if isinstance(model, str) else "",)
    return (Worst if worst else Typical)(models, context, answer, openai, document.long).request(
        request
    )


def estimate_prediction_tokens(document: Document, *, worst: bool = False) -> int:
    """The output tokens that a ``prediction`` may add to each answer: what of it is not used is charged as output
    (``rejected_prediction_tokens``), https://platform.openai.com/docs/guides/predicted-outputs#limitations."""
    prediction = document.tree.get("prediction")
    if prediction is None:
        return 0
    content = prediction.get("content") if isinstance(prediction, dict) else None
    return _up(
        (Worst if worst else Typical)((), 0, 0, False, document.long).text(
            prediction if content is None else content
        )
    )


class Typical:
    """Counts one request. ``_unseen`` is true when a part was found whose size nobody can know."""

    worst = False
    per_reply = TOKENS_PER_REPLY
    per_message = TOKENS_PER_MESSAGE
    per_part = 0
    per_function = TOKENS_PER_FUNCTION
    per_tools = 0
    per_input = 0

    def __init__(
        self,
        models: Sequence[str],
        context: int,
        answer: int,
        openai: bool,
        long: Mapping[str, LongString],
    ) -> None:
        self._models = models
        self._context = context
        self._answer = answer
        self._openai = openai
        self._long = long
        self._unseen = False
        self._earlier = 0

    def request(self, request: Mapping[str, Any]) -> int:
        embeddings = "messages" not in request and "input" in request
        total = 0.0 if embeddings else float(self.per_reply)
        if not _TOOLS.isdisjoint(request):
            total += self.per_tools
        for key, value in request.items():
            if key == "messages" and isinstance(value, list):
                total += sum(map(self.message, value))
            elif key == "input" and embeddings:
                total += self.embeddings(value)
            elif key == "tools" and isinstance(value, list):
                total += sum(map(self.tool, value))
            elif key == "functions" and isinstance(value, list):
                total += self.per_function * len(value) + self.rendered(value)
            elif key not in NOT_INPUT:
                if value is not None and (
                    key in _UNSEEN or (key == "extra_body" and self._refers(value))
                ):
                    self._unseen = True
                total += self.rendered(value)
        if not embeddings and any(_SEARCHES.search(model) for model in self._models):
            self._unseen = True
        seen = _up(total)
        return max(
            seen, self._context if self._unseen else min(seen + self._earlier, self._context), 1
        )

    def embeddings(self, value: Any) -> int:
        """The input of an embeddings request: a string, tokens, a list of either, or a part as of a
        message. If there are several, each has a context of its own."""
        if isinstance(value, str):
            return _up(self.text(value)) + self.per_input
        if isinstance(value, list):
            if all(isinstance(item, int) for item in value):
                return len(value) + self.per_input
            return sum(max(self.embeddings(item), 1) for item in value)
        if isinstance(value, dict):
            before, self._unseen = self._unseen, False
            tokens = _up(self.part(value))
            if self._unseen:
                tokens = max(tokens, self._context)
            self._unseen = before
            return tokens + self.per_input
        return _up(self.rendered(value)) + self.per_input

    def message(self, message: Any) -> float:
        if not isinstance(message, dict):
            return self.per_message + self.text(message)
        total = float(self.per_message)
        for key, value in message.items():
            if key == "role" and isinstance(value, str) and value in _ROLES:
                continue
            if isinstance(value, str):
                total += self.text(value)
            elif key == "content" and isinstance(value, list):
                total += sum(map(self.part, value))
            elif key == "audio" and isinstance(value, dict) and isinstance(value.get("id"), str):
                # An earlier answer cannot have been longer than an answer may be, and all of them are in one context.
                self._earlier += self._answer
            else:
                total += self.rendered(value)
            if key in _UNSEEN and value is not None:
                self._unseen = True
        return total

    def part(self, part: Any) -> float:
        if not isinstance(part, dict):
            return self.per_part + self.text(part)
        kind = named(part.get("type"), self._long)
        if kind == "text":
            return self.per_part + self.text(part.get("text")) + self._rest(part, "text")
        if kind == "image_url":
            image = media.image_tokens(
                self._models, part.get(kind), self.look, worst=self.worst, openai=self._openai
            )
            return self._known(image) + self._rest(part, kind)
        if kind == "input_audio" and isinstance(part.get(kind), dict):
            return self._known(
                media.audio_tokens(part[kind], self.look, worst=self.worst)
            ) + self._rest(part, kind)
        if kind == "file" and isinstance(part.get(kind), dict):
            return self._known(
                media.file_tokens(part[kind], self.look, worst=self.worst)
            ) + self._rest(part, kind)
        self._unseen = self._unseen or self._refers(part)
        return self.per_part + self.rendered(part)

    def tool(self, tool: Any) -> float:
        """A tool that the provider runs brings in what it finds."""
        if isinstance(tool, dict) and (
            tool.get("type", "function") not in _OF_CLIENT or _DEFINES.isdisjoint(tool)
        ):
            self._unseen = True
        return self.per_function + self.rendered(tool)

    def text(self, value: Any) -> float:
        """Counts every string in ``value``, keys too, by its script. A number, a constant or a pair
        of brackets is one token."""
        if isinstance(value, str):
            long = self._long.get(value) if self._long else None
            return text_tokens(value) if long is None else long.tokens
        if isinstance(value, dict):
            return 1.0 + sum(map(self.text, value)) + sum(map(self.text, value.values()))
        if isinstance(value, list):
            return 1.0 + sum(map(self.text, value))
        return 0.0 if value is None else 1.0

    def rendered(self, value: Any) -> float:
        """Counts a value that the provider itself writes as text for the model."""
        return self.text(value)

    def look(self, value: Any) -> media.Data | None:
        if not isinstance(value, str):
            return None
        long = self._long.get(value)
        return media.Data(value, len(value)) if long is None else media.Data(long.head, long.bytes)

    def _refers(self, value: Any) -> bool:
        """Whether anything in ``value`` stands for input that is somewhere else."""
        if isinstance(value, list):
            return any(map(self._refers, value))
        if not isinstance(value, dict):
            return False
        return any(
            (key in _UNSEEN and item not in (None, False, "", []))
            or (key in _LINKS and self._is_link(item))
            or self._refers(item)
            for key, item in value.items()
        )

    def _is_link(self, item: Any) -> bool:
        data = self.look(item)
        return data is not None and data.head != "" and data.head[:5].lower() != "data:"

    def _known(self, tokens: float | None) -> float:
        if tokens is None:
            self._unseen = True
            return 0.0
        return tokens + self.per_part

    def _rest(self, part: Mapping[str, Any], known: str) -> float:
        if len(part) == 2 and known in part:
            return 0.0
        return sum(
            self.rendered(value) for key, value in part.items() if key not in ("type", known)
        )


class Worst(Typical):
    worst = True
    per_reply = TEMPLATE_MOST
    per_message = TOKENS_PER_MESSAGE_MOST
    per_part = TOKENS_PER_PART_MOST
    per_function = TOKENS_PER_MESSAGE_MOST
    per_tools = TOOLS_MOST
    per_input = TOKENS_PER_MESSAGE_MOST

    def text(self, value: Any) -> float:
        if not isinstance(value, str):
            return self.rendered(value)
        long = self._long.get(value) if self._long else None
        if long is not None:
            return float(long.bytes)
        return float(len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")))

    def rendered(self, value: Any) -> float:
        if value is None:
            return 0.0
        return float(rendered_most(value, self._long))


def _up(value: float) -> int:
    return int(-(-value // 1))
