"""Which answer a request gets: the table of the stand-in's endpoints. It is pure, but for the files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Final

from tollhouse.demo import standin_answers as answers
from tollhouse.demo import standin_anthropic, standin_files, standin_google
from tollhouse.demo import standin_responses as responses
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Behaviour

LOGINS_HOST: Final = "chatgpt.com"
HELLOS: Final = frozenset({"/api/hello", "/v1/oauth/hello"})
"""Claude Code asks for them at its first start, without a key."""


def judge(
    received: Received, behaviour: Behaviour, keys: Set[str], files: standin_files.Files
) -> tuple[int, list[tuple[str, str]], Iterable[bytes]]:
    """Status, headers and body of the answer: the scripted one, an error, or the endpoint's."""
    if behaviour.reply is not None:
        body = behaviour.reply.body
        given = list(behaviour.reply.headers)
        if not isinstance(body, bytes):
            return behaviour.reply.status, given, body
        if not any(name.lower() == "content-length" for name, _ in given):
            given.append(("content-length", str(len(body))))
        return behaviour.reply.status, given, [body]
    if received.method == "GET" and received.target.partition("?")[0] in HELLOS:
        return _whole(received, 200, b'{"message":"hello"}')
    if standin_google.speaks(received):
        return standin_google.judge(received, behaviour, keys)
    if standin_anthropic.speaks(received):
        return standin_anthropic.judge(received, behaviour, keys)
    credential = received.get("authorization").removeprefix("Bearer ")
    if credential not in keys or len(received.get_all("authorization")) != 1:
        return _whole(received, 401, answers.wrong_key(credential))
    path = received.target.partition("?")[0]
    if received.get("host").partition(":")[0] == LOGINS_HOST:
        # Codex with a login: no host has the endpoints of the other.
        if path == "/backend-api/wham/accounts/check":
            return _whole(received, 200, answers.accounts_json(received.get("chatgpt-account-id")))
        path = path.replace("/backend-api/codex/", "/v1/") if "codex" in path else "/"
    match received.method, path:
        case "GET", "/v1/models":
            return _whole(received, 200, answers.models_json())
        case "GET", _ if path.startswith("/v1/models/"):
            name = path.removeprefix("/v1/models/")
            model = answers.model_json(name)
            if model is not None:
                return _whole(received, 200, model)
            missing = f"The model '{name}' does not exist or you do not have access to it."
            return _whole(
                received,
                404,
                answers.error_json(missing, "invalid_request_error", "model_not_found", "model"),
            )
        case _ if path.startswith(("/v1/completions", "/v1/responses", "/v1/conversations")):
            return _response(received, behaviour, path)
        case _ if path == standin_files.PATH or path.startswith(f"{standin_files.PATH}/"):
            if (found := files.answer(received)) is not None:
                status, content_type, body = found
                return _whole(received, status, body, content_type)
        case "POST", "/v1/chat/completions" | "/v1/embeddings":
            try:
                document = received.document()
            except (ValueError, TypeError):
                return _broken(received)
            if path == "/v1/embeddings":
                return _whole(
                    received, 200, answers.embeddings_json(document, usage=behaviour.usage)
                )
            if document.get("stream") is True:
                frames = answers.chat_frames(
                    document, behaviour.text, usage=behaviour.usage, done=behaviour.done
                )
                return (
                    200,
                    [("content-type", "text/event-stream; charset=utf-8"), *_common(received)],
                    frames,
                )
            return _whole(
                received, 200, answers.chat_json(document, behaviour.text, usage=behaviour.usage)
            )
    return _unknown(received, path)


def _response(
    received: Received, behaviour: Behaviour, path: str
) -> tuple[int, list[tuple[str, str]], Iterable[bytes]]:
    try:
        document = received.document() if received.body else {}
    except (ValueError, TypeError):
        return _broken(received)
    found = responses.find(
        received.method,
        path,
        document,
        behaviour.text,
        usage=behaviour.usage,
        done=behaviour.done,
    )
    if found is None:
        return _unknown(received, path)
    status, body, streamed = found
    if streamed:
        stream = ("content-type", "text/event-stream; charset=utf-8")
        return status, [stream, *_common(received)], body
    return _whole(received, status, b"".join(body))


def _broken(received: Received) -> tuple[int, list[tuple[str, str]], Iterator[bytes]]:
    broken = "We could not parse the JSON body of your request."
    return _whole(received, 400, answers.error_json(broken, "invalid_request_error", None))


def _unknown(received: Received, path: str) -> tuple[int, list[tuple[str, str]], Iterator[bytes]]:
    unknown = f"Invalid URL ({received.method} {path})"
    return _whole(received, 404, answers.error_json(unknown, "invalid_request_error", None))


def _common(received: Received) -> list[tuple[str, str]]:
    """What OpenAI's edge adds to each answer; a gateway has to take cookies and Alt-Svc out again."""
    return [
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", "12"),
        ("x-request-id", received.request_id),
        ("server", "cloudflare"),
        (
            "set-cookie",
            f"__cf_bm=standin-{received.number}; path=/; domain=.api.openai.com; HttpOnly; Secure",
        ),
        ("alt-svc", 'h3=":443"; ma=86400'),
    ]


def _whole(
    received: Received, status: int, body: bytes, content_type: str = "application/json"
) -> tuple[int, list[tuple[str, str]], Iterator[bytes]]:
    headers = [
        ("content-type", content_type),
        ("content-length", str(len(body))),
        *_common(received),
    ]
    return status, headers, iter([body])
