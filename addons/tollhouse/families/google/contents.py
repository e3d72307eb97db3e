"""What a request's contents and tools hold: their tokens, their media, the objects that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tollhouse.denial import Refused
from tollhouse.families.formats.document import Document, refuse
from tollhouse.families.formats.rendered import rendered_most
from tollhouse.families.formats.text_tokens import text_tokens
from tollhouse.families.google import inline_media, spelled
from tollhouse.families.google.kept_names import asked_for, file_of
from tollhouse.families.google.models import version
from tollhouse.families.google.spelled import known, members
from tollhouse.families.google.usage import MAPS, SEARCH, UNCOUNTED
from tollhouse.families.openai.estimate import (
    TEMPLATE_MOST,
    TOKENS_PER_FUNCTION,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_MESSAGE_MOST,
    TOKENS_PER_PART_MOST,
    TOOLS_MOST,
)
from tollhouse.families.openai.media import Data

CONTENT: Final = known("role", "parts")
PART: Final = known(
    *("text", "inlineData", "fileData", "functionCall", "functionResponse", "videoMetadata"),
    *("mediaResolution", "executableCode", "codeExecutionResult", "thought", "thoughtSignature"),
)
_BLOB: Final = known("mimeType", "data", "displayName")
_FILE: Final = known("mimeType", "fileUri", "displayName")
_VIDEO: Final = known("fps", "startOffset", "endOffset")
_LEVEL: Final = known("level", "numTokens")
_RESPONSE: Final = known("id", "name", "response", "parts", "willContinue", "scheduling")
_TOOL: Final = known(
    *("functionDeclarations", "googleSearch", "googleSearchRetrieval", "googleMaps", "urlContext"),
    *("fileSearch", "codeExecution", "computerUse", "enterpriseWebSearch", "retrieval"),
    *("mcpServers", "parallelAiSearch", "exaAiSearch"),
)
_STORES: Final = known("fileSearchStoreNames", "metadataFilter", "topK")
_SEARCHES: Final = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch")
_OF_CLIENT: Final = frozenset({"functionDeclarations", "computerUse"})
"""Tools that the client itself runs. Any other one brings in what it finds, as tokens of a prompt
of its own (``toolUsePromptTokenCount``)."""
_ALL_MEDIA: Final = frozenset({"input_audio", "cached_audio", "input_image"})
_MAY: Final = {
    "image": frozenset({"input_image"}),
    "video": frozenset({"input_audio", "input_image"}),
    "audio": frozenset({"input_audio"}),
    "text": frozenset[str](),
}


class InputSums(NamedTuple):
    """Sums of a request. ``unseen``: it brings in input that is somewhere else. ``hidden``: the same,
    and only the worst of it can't be known. ``video``: it has, or may have, moving pictures."""

    typical: int
    worst: int
    unseen: bool
    hidden: bool
    video: bool
    asks: frozenset[str]
    may: frozenset[str]
    objects: tuple[str, ...]
    tools: frozenset[str]


class InputCount:
    """Counts one request. Raises `Refused` for what can be read in two ways."""

    def __init__(self, document: Document, model: str, resolution: str = "") -> None:
        self.objects: list[str] = []
        self._document = document
        self._third = not 0 < version(model) < 3
        self._resolution = resolution
        self._typical = 0.0
        self._worst = float(TEMPLATE_MOST)
        self._unseen = self._hidden = self._video = False
        self._asks: set[str] = set()
        self._may: set[str] = set()
        self._tools: set[str] = set()

    def found(self) -> InputSums:
        return InputSums(
            max(_up(self._typical), 1),
            _up(self._worst),
            self._unseen,
            self._hidden,
            self._video,
            frozenset(self._asks),
            frozenset(self._may),
            tuple(dict.fromkeys(self.objects)),
            frozenset(self._tools),
        )

    def content(self, content: Any, where: str) -> None:
        """A content, or the text that an SDK takes for one."""
        self._typical += TOKENS_PER_MESSAGE
        self._worst += TOKENS_PER_MESSAGE_MOST
        if isinstance(content, str):
            self.text(content)
            return
        if not isinstance(content, dict):
            refuse(f'"{where}" must be an object.')
        for part in spelled.objects(members(content, CONTENT, where + "."), "parts", where + "."):
            self.part(part)

    def contents(self, values: Mapping[str, Any], name: str) -> None:
        value = values.get(name)
        if isinstance(value, str):
            self.content(value, name)
            return
        for content in spelled.objects(values, name):
            self.content(content, name)

    def part(self, part: Mapping[str, Any]) -> None:
        values = members(part, PART, "part.")
        self._worst += TOKENS_PER_PART_MOST
        for name, value in values.items():
            if name == "text":
                if not isinstance(value, str):
                    refuse('"part.text" must be a string.')
                self.text(value)
            elif name == "inlineData":
                self._inline(spelled.obj(values, name) or {}, values)
            elif name == "fileData":
                self._file(spelled.obj(values, name) or {})
            elif name == "functionResponse":
                self._response(spelled.obj(values, name) or {})
            elif name not in ("videoMetadata", "mediaResolution", "thought"):
                self.rendered(value)
        for name, value in part.items():
            if name.replace("_", "").lower() not in PART:
                self.rendered({name: value})

    def tools(self, values: Mapping[str, Any]) -> None:
        tools = spelled.objects(values, "tools")
        if tools:
            self._worst += TOOLS_MOST
        for tool in tools:
            self.rendered(tool)
            found = members(tool, _TOOL, "tool.")
            for name in found:
                if name in _SEARCHES:
                    self._tools.add(SEARCH)
                elif name == "googleMaps":
                    self._tools.add(MAPS)
                elif name in UNCOUNTED:
                    self._tools.add(UNCOUNTED[name])
                elif name == "fileSearch":
                    self._stores(spelled.obj(found, name) or {})
                elif name == "functionDeclarations":
                    functions = spelled.objects(found, name)
                    self._typical += TOKENS_PER_FUNCTION * len(functions)
                    self._worst += TOKENS_PER_MESSAGE_MOST * len(functions)
            ran = [
                name for name in tool if _TOOL.get(name.replace("_", "").lower()) not in _OF_CLIENT
            ]
            self._unseen = self._unseen or bool(ran)

    def cached(self, name: Any) -> None:
        """The cache that the request builds upon."""
        value = self._document.name(name)
        self.objects.append(asked_for(value if isinstance(value, str) else "", "cachedContent"))
        self._unseen = True
        self._may |= _ALL_MEDIA

    def elsewhere(self) -> None:
        """Something of the request is not in it."""
        self._unseen = True
        self._may |= _ALL_MEDIA

    def text(self, value: str) -> None:
        long = self._document.long.get(value)
        if long is not None:
            self._typical += long.tokens
            self._worst += long.bytes
        else:
            self._typical += text_tokens(value)
            self._worst += (
                len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
            )

    def rendered(self, value: Any) -> None:
        """A value that Google writes as text for the model."""
        if value is None:
            return
        self._typical += self._inside(value)
        self._worst += rendered_most(value, self._document.long)

    def store(self, name: str) -> None:
        """A store of files in which is searched."""
        self.objects.append(asked_for(name, "fileSearch.fileSearchStoreNames"))

    def use(self, tool: str) -> None:
        self._tools.add(tool)
        self._unseen = True

    def media(self, mime: str, data: Data, resolution: str = "", fps: float = 1.0) -> None:
        self._kind(mime)
        typical, worst = inline_media.tokens(
            mime, data, resolution or self._resolution, self._third, fps
        )
        self._typical += typical
        self._worst += worst or 0.0
        self._hidden = self._hidden or worst is None

    def link(self, uri: str, mime: str) -> None:
        self._unseen = True
        if mime:
            self._kind(mime)
        else:
            self._may |= _ALL_MEDIA
            self._video = True
        if name := file_of(uri):
            self.objects.append(name)

    def look(self, value: Any) -> Data | None:
        if not isinstance(value, str):
            return None
        long = self._document.long.get(value)
        return Data(value, len(value)) if long is None else Data(long.head, long.bytes)

    def _kind(self, mime: str) -> None:
        kind = mime.lower().partition("/")[0].strip()
        if kind == "audio":
            self._asks.add("input_audio")
        self._may |= _MAY.get(kind, _ALL_MEDIA)
        self._video = self._video or kind == "video"

    def _inline(self, blob: Mapping[str, Any], part: Mapping[str, Any]) -> None:
        values = members(blob, _BLOB, "inlineData.")
        data = self.look(values.get("data"))
        if data is None:
            refuse('"inlineData.data" must be a string of base64.')
        video = members(spelled.obj(part, "videoMetadata") or {}, _VIDEO, "videoMetadata.")
        fps = video.get("fps", 1)
        if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps <= 1_000:
            refuse('"videoMetadata.fps" must be a number above 0.')
        level = members(spelled.obj(part, "mediaResolution") or {}, _LEVEL, "mediaResolution.")
        self.media(
            spelled.text(values, "mimeType", self._document, "inlineData."),
            data,
            spelled.text(level, "level", self._document, "mediaResolution.").upper(),
            float(fps),
        )

    def _file(self, file: Mapping[str, Any]) -> None:
        values = members(file, _FILE, "fileData.")
        uri = self.look(values.get("fileUri"))
        if uri is None:
            refuse('"fileData.fileUri" must be a string.')
        self.link(uri.head, spelled.text(values, "mimeType", self._document, "fileData."))

    def _response(self, response: Mapping[str, Any]) -> None:
        """The result of a function may hold media."""
        values = members(response, _RESPONSE, "functionResponse.")
        for part in spelled.objects(values, "parts", "functionResponse."):
            self.part(part)
        self.rendered({key: value for key, value in response.items() if key != "parts"})

    def _stores(self, search: Mapping[str, Any]) -> None:
        values = members(search, _STORES, "fileSearch.")
        for name in spelled.words(values, "fileSearchStoreNames", self._document, "fileSearch."):
            self.store(name)

    def _inside(self, value: Any) -> float:
        if isinstance(value, str):
            long = self._document.long.get(value)
            return text_tokens(value) if long is None else long.tokens
        if isinstance(value, dict):
            return 1.0 + sum(map(self._inside, value)) + sum(map(self._inside, value.values()))
        if isinstance(value, list):
            return 1.0 + sum(map(self._inside, value))
        return 0.0 if value is None else 1.0


def refuse_video(video: bool, what: str) -> None:
    """Video has a price of its own where vectors are made of it or where it is the answer, and the
    table of prices has no unit for it: https://ai.google.dev/gemini-api/docs/pricing."""
    if video:
        raise Refused("model_unpriced", f"No price is known for video {what}.")


def _up(value: float) -> int:
    return int(-(-value // 1))
