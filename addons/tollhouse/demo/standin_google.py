"""The stand-in's answers as Google gives them: the Gemini API and Vertex AI. Pure.

Framing: https://ai.google.dev/api/generate-content. A text is ``len(utf-8) // 4 + 1`` tokens, and an
answer has one for each of its words. Each answer has `THOUGHTS` tokens of thoughts beside that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Final

from tollhouse.demo.standin_answers import text_tokens
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Behaviour

Answer = tuple[int, list[tuple[str, str]], Iterable[bytes]]

HOSTS: Final = ("generativelanguage.googleapis.com", "aiplatform.googleapis.com")
THOUGHTS: Final = 7
IMAGE_TOKENS: Final = 258
_METHOD: Final = re.compile(r"/(?:v1|v1beta|v1alpha|v1beta1)/(?:.*/)?models/([^/:]+):(\w+)")
_MODELS: Final = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-embedding-001")


def speaks(received: Received) -> bool:
    """Whether the request is one to Google."""
    return received.get("host").partition(":")[0].endswith(HOSTS)


def judge(received: Received, behaviour: Behaviour, keys: Set[str]) -> Answer:
    """Status, headers and body of the answer to a request to Google."""
    path, _, query = received.target.partition("?")
    given = received.get("x-goog-api-key") or received.get("authorization").removeprefix("Bearer ")
    if given not in keys:
        return _error(400, "API key not valid.", "INVALID_ARGUMENT", "API_KEY_INVALID")
    if received.method == "GET" and path.endswith("/models"):
        return _whole({"models": [{"name": f"models/{name}"} for name in _MODELS]})
    match = _METHOD.fullmatch(path)
    if received.method != "POST" or match is None:
        return _error(404, f"{path} is not found.", "NOT_FOUND")
    try:
        document = received.document()
    except (ValueError, TypeError):
        return _error(400, "Invalid JSON payload received.", "INVALID_ARGUMENT")
    model, method = match.groups()
    if method == "countTokens":
        return _whole({"totalTokens": prompt_tokens(document)})
    if method == "batchEmbedContents":
        requests = document.get("requests", [])
        tokens = sum(_tokens(one.get("content")) for one in requests)
        vectors = [{"values": [0.25] * 8}] * len(requests)
        return _whole({"embeddings": vectors, "usageMetadata": {"promptTokenCount": tokens}})
    words = _words(document, behaviour.text)
    if method == "generateContent":
        part = _called(document, behaviour.text) or {"text": "".join(words)}
        return _whole(_piece(document, model, part, len(words), True))
    if method == "streamGenerateContent":
        sse = "alt=sse" in query.split("&")
        pieces = list(_pieces(document, model, words, _called(document, behaviour.text)))
        kind = "text/event-stream" if sse else "application/json; charset=UTF-8"
        return 200, [("content-type", kind)], _events(pieces) if sse else _array(pieces)
    return _error(404, f"{method} is not found.", "NOT_FOUND")


def prompt_tokens(document: Mapping[str, Any]) -> int:
    return sum(map(_tokens, document.get("contents", ())))


def answer_text(document: Mapping[str, Any], text: str | None = None) -> str:
    return "".join(_words(document, text))


def answer_tokens(document: Mapping[str, Any], text: str | None = None) -> int:
    """Of the text, without the thoughts."""
    return len(_words(document, text))


def _tokens(content: Any) -> int:
    parts = content.get("parts", ()) if isinstance(content, Mapping) else ()
    return sum(
        IMAGE_TOKENS if "inlineData" in part else text_tokens(part.get("text", ""))
        for part in parts
    )


def _words(document: Mapping[str, Any], text: str | None) -> list[str]:
    said = "The toll is paid, and the road is open." if text is None else text
    words = re.findall(r"\s*\S+", said)
    cap = document.get("generationConfig", {}).get("maxOutputTokens")
    return words if cap is None else words[: max(cap - THOUGHTS, 1)]


def _piece(
    document: Mapping[str, Any], model: str, part: Mapping[str, Any], so_far: int, last: bool
) -> dict[str, Any]:
    """A whole answer or a piece of one. The counts are running totals."""
    prompt = prompt_tokens(document)
    candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": so_far,
            "totalTokenCount": prompt + so_far + THOUGHTS,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
            "thoughtsTokenCount": THOUGHTS,
        },
        "modelVersion": model,
        "responseId": "standin",
    }


def _called(document: Mapping[str, Any], text: str | None) -> dict[str, Any] | None:
    """The call of the first function, if the request has one and the script does not say the text."""
    functions = [
        function
        for tool in document.get("tools", ())
        for function in tool.get("functionDeclarations", ())
    ]
    if not functions or text is not None:
        return None
    return {"functionCall": {"name": functions[0]["name"], "args": {"place": "the bridge"}}}


def _pieces(
    document: Mapping[str, Any], model: str, words: list[str], call: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    for number, word in enumerate(words, 1):
        yield _piece(document, model, call or {"text": word}, number, number == len(words))


def _events(pieces: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"data: " + json.dumps(piece).encode() + b"\r\n\r\n"


def _array(pieces: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    begin = b"["
    for piece in pieces:
        yield begin + json.dumps(piece, indent=2).encode()
        begin = b",\r\n"
    yield b"]"


def _whole(document: Mapping[str, Any], status: int = 200) -> Answer:
    body = json.dumps(document, indent=2).encode()
    headers = [
        ("content-type", "application/json; charset=UTF-8"),
        ("content-length", str(len(body))),
    ]
    return status, headers, [body]


def _error(status: int, text: str, name: str, reason: str = "") -> Answer:
    error: dict[str, Any] = {"code": status, "message": text, "status": name}
    if reason:
        info = "type.googleapis.com/google.rpc.ErrorInfo"
        error["details"] = [{"@type": info, "reason": reason, "domain": "googleapis.com"}]
    return _whole({"error": error}, status)
