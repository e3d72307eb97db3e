"""Samples of the companies that speak OpenAI's API in their own way."""

from __future__ import annotations

from typing import Any

from tests.families.samples.forms import FORM, form, wav
from tests.families.samples.kit import EVENTS, Exchange, Headers, Samples, sse
from tests.families.samples.openai import SPEAKS_OPENAI

from tollhouse.families.base import Family, Verdict
from tollhouse.families.units import Charge, Units
from tollhouse.providers import BUILT_IN, Provider

_PROVIDERS = {provider.name: provider for provider in BUILT_IN}
_ASKED = b'{"model":"m","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20}'
_STREAM = _ASKED[:-1] + b',"stream":true}'
_MALFORMED = (b"", b"[]", b'{"model":"m","model":"n"}', b'{"model":"m","Model":"n"}', b"{}")
_CHUNK = '{"model":"m-1","choices":[{"index":0,"delta":{"content":"%s"}}]}'
_TOLD = (
    '{"id":"resp_1","model":"m-1","status":"completed","output":[%s],'
    '"usage":{"input_tokens":9,"output_tokens":4,%s}}'
)
_X_SEARCH = '{"id":"xs_1","type":"x_search_call","status":"completed"}'
_X_ASKED = (
    b'{"model":"m","input":"Say hello.","tools":[{"type":"x_search"}],"max_output_tokens":20}'
)
_USAGE = '{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}'
_CHARGE = Charge("m-1", Units(input=9, output=4, requests=1))


def _paths(family: Family, prefix: str) -> tuple[tuple[str, str], ...]:
    """A request for each operation that ``family`` has."""
    below = [
        *(
            ("POST", path)
            for path in (
                *("chat/completions", "completions", "embeddings", "responses"),
                *("images/generations", "audio/speech", "audio/transcriptions"),
                *("files", "batches", "batches/b/cancel"),
            )
        ),
        *(
            ("GET", path)
            for path in ("models", "models/m", "files", "files/f", "files/f/content", "batches/b")
        ),
        ("DELETE", "files/f"),
        ("POST", "realtime/client_secrets"),
        ("PATCH", "organization/a/b/c/d/e/f/g/h"),
    ]
    every = dict.fromkeys(
        (method, f"{start}/{path}") for start in (prefix, "/v1") for method, path in below
    )
    return tuple(one for one in every if family.operation(*one) is not None)


def _samples(
    name: str,
    prefix: str,
    *,
    exchanges: tuple[Exchange, ...],
    verdicts: tuple[tuple[int, bytes, Verdict | None], ...] = (),
) -> Samples:
    provider: Provider = _PROVIDERS[name]
    return Samples(
        provider.family,
        _paths(provider.family, prefix),
        provider=name,
        exchanges=exchanges,
        malformed=_MALFORMED,
        verdicts=(*SPEAKS_OPENAI["verdicts"][:-1], *(verdicts or ((402, b"", "no_money"),))),
        dialect=provider.dialect,
    )


def _said(message: str) -> bytes:
    return b'{"error":{"message":"%b","code":402}}' % message.encode()


def _chat(
    name: str, path: str, answer: bytes, charges: tuple[Charge, ...], **more: Any
) -> Exchange:
    headers: Headers = EVENTS if answer.startswith((b"data:", b":")) else ()
    request = _STREAM if headers else _ASKED
    return Exchange(name, path, request, answer, charges, headers, **more)


def _response(
    name: str,
    path: str,
    usage: str,
    charges: tuple[Charge, ...],
    output: str = "",
    *,
    streamed: bool = False,
) -> Exchange:
    """Of the Responses API."""
    answer = (_TOLD % (output, usage)).encode()
    created = ("resp_1", "xs_1") if output else ("resp_1",)
    if not streamed:
        return Exchange(name, path, _X_ASKED, answer, charges, created=created)
    ended = f'{{"type":"response.completed","response":{answer.decode()}}}'
    request = _X_ASKED[:-1] + b',"stream":true}'
    return Exchange(name, path, request, sse(ended), charges, EVENTS, created=created)


_GROQ = "/openai/v1/chat/completions"
_LAST = f'{{"model":"m-1","choices":[],"usage":{_USAGE}}}'
_GROQ_LAST = (
    '{"model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    f'"x_groq":{{"id":"req_1","usage":{_USAGE}}}}}'
)
GROQ = _samples(
    "groq",
    "/openai/v1",
    exchanges=(
        _chat(
            "usage of its own frame",
            _GROQ,
            sse(_CHUNK % "Hello.", _GROQ_LAST, "[DONE]"),
            (_CHARGE,),
            text=len(sse(_CHUNK % "Hello.")),
        ),
        _chat(
            "usage twice",
            _GROQ,
            sse(
                _CHUNK % "Hello.",
                _GROQ_LAST,
                _LAST,
                "[DONE]",
            ),
            (_CHARGE,),
        ),
        _chat(
            "an error of its own frame",
            _GROQ,
            sse(_CHUNK % "Hel", '{"choices":[],"x_groq":{"error":"over_capacity"}}'),
            (),
            text=len(sse(_CHUNK % "Hel")),
            error="over_capacity",
        ),
        Exchange(
            "ten seconds at least",
            "/openai/v1/audio/transcriptions",
            form(("file", wav(3), "a.wav"), ("model", b"whisper-large-v3")),
            b'{"text":"Paid.","duration":3.0,"x_groq":{"id":"req_1"}}',
            (Charge("", Units(milliseconds=10_000, requests=1)),),
            sent=FORM,
        ),
    ),
)

DEEPSEEK = _samples(
    "deepseek",
    "",
    exchanges=(
        _chat(
            "blank lines before the answer",
            "/chat/completions",
            b'\n\n\n\n{"model":"m-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,'
            b'"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":3}}',
            (Charge("m-1", Units(input=9, cached=6, output=4, requests=1)),),
        ),
        _chat(
            "comments in a stream",
            "/beta/chat/completions",
            b": keep-alive\n\n" + sse(_CHUNK % "Hello.", _LAST, "[DONE]"),
            (_CHARGE,),
            passed=b": keep-alive\n\n" + sse(_CHUNK % "Hello.", "[DONE]"),
        ),
        _chat(
            "the other path",
            "/v1/chat/completions",
            b'{"model":"m-1","usage":%b}' % _USAGE.encode(),
            (_CHARGE,),
        ),
    ),
    verdicts=((402, b'{"error":{"message":"Insufficient Balance"}}', "no_money"),),
)

XAI = _samples(
    "xai",
    "/v1",
    exchanges=(
        _chat(
            "reasoning beside the answer, and the cost",
            "/v1/chat/completions",
            b'{"model":"m-1","usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":13,'
            b'"completion_tokens_details":{"reasoning_tokens":3},"num_sources_used":2,'
            b'"cost_in_usd_ticks":12341}}',
            (Charge("m-1", Units(input=9, output=4, reasoning=3, requests=1), paid=1_235),),
        ),
        _chat(
            "reasoning in the answer",
            "/v1/chat/completions",
            b'{"model":"m-1","usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,'
            b'"completion_tokens_details":{"reasoning_tokens":3}}}',
            (Charge("m-1", Units(input=9, output=4, reasoning=3, requests=1)),),
        ),
        _response(
            "the cost of a response covers its tools",
            "/v1/responses",
            '"cost_in_usd_ticks":50012341',
            (_CHARGE._replace(paid=5_001_235),),
            _X_SEARCH,
        ),
        _response(
            "the cost of a streamed response",
            "/v1/responses",
            '"cost_in_usd_ticks":12341',
            (_CHARGE._replace(paid=1_235),),
            streamed=True,
        ),
        _response(
            "a search of posts without a cost",
            "/v1/responses",
            '"total_tokens":13',
            (_CHARGE, Charge("x_search", Units(requests=1))),
            _X_SEARCH,
        ),
    ),
    verdicts=(
        (403, b'{"code":"c","error":"You have run out of credits or need more."}', "no_money"),
        (
            403,
            b'{"code":"c","error":"Your team t has either used all available credits or"}',
            "no_money",
        ),
        (
            429,
            b'{"code":"c","error":"Your team t has either used all available credits or"}',
            "no_money",
        ),
        (403, b'{"code":"c","error":"The caller does not have permission."}', None),
    ),
)

OPENROUTER = _samples(
    "openrouter",
    "/api/v1",
    exchanges=(
        _chat(
            "the cost",
            "/api/v1/chat/completions",
            b'{"model":"m-1","usage":{"prompt_tokens":9,"completion_tokens":4,"cost":0.0000123456,'
            b'"is_byok":false,"cost_details":{"upstream_inference_cost":null}}}',
            (_CHARGE._replace(paid=12_346),),
        ),
        _chat(
            "the cost of a key of one's own",
            "/api/v1/chat/completions",
            b'{"model":"m-1","usage":{"prompt_tokens":9,"completion_tokens":4,"cost":0.00001,'
            b'"is_byok":true,"cost_details":{"upstream_inference_cost":0.0002}}}',
            (_CHARGE._replace(paid=210_000),),
        ),
        _chat(
            "a stream that waits",
            "/api/v1/chat/completions",
            b": OPENROUTER PROCESSING\n\n"
            + sse(
                _CHUNK % "Hello.",
                '{"model":"m-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,'
                '"cost":0,"is_byok":false}}',
                "[DONE]",
            ),
            (_CHARGE._replace(paid=0),),
        ),
        _chat(
            "an error in a stream",
            "/api/v1/chat/completions",
            sse(
                _CHUNK % "Hel",
                '{"error":{"code":502,"message":"m"},"model":"m-1",'
                '"choices":[{"delta":{"content":""},"finish_reason":"error"}]}',
            ),
            (),
            text=len(sse(_CHUNK % "Hel")),
            error="502",
        ),
        _response(
            "the cost of a response",
            "/api/v1/responses",
            '"cost":0.0000123456,"is_byok":false',
            (_CHARGE._replace(paid=12_346),),
        ),
    ),
    verdicts=(
        (402, _said("Insufficient credits"), "no_money"),
        (
            402,
            _said(
                "This request requires more credits, or fewer max_tokens. "
                "You requested up to 65536 tokens, but can only afford 3395. To increase"
            ),
            "request",
        ),
        (
            402,
            _said(
                "This request requires more credits, or fewer max_tokens. "
                "You requested up to 32000 tokens, but can only afford 0. To increase"
            ),
            "no_money",
        ),
        (
            402,
            _said(
                "More credits are required to run this request. "
                "128000 token capacity required, 19484 available."
            ),
            "request",
        ),
        (402, _said("Prompt tokens limit exceeded: 230799 > 91442."), "request"),
        (403, _said("Key limit exceeded (total limit)."), "no_money"),
        (403, _said("Your input was flagged"), None),
    ),
)

_LIMIT = b'{"id":"1","error":{"message":"m","type":"credit_limit","param":null,"code":null}}'
TOGETHER = _samples(
    "together",
    "/v1",
    exchanges=(
        _chat(
            "a prompt in the answer",
            "/v1/chat/completions",
            b'{"id":"1","prompt":[],"model":"m-1","choices":[],"usage":%b}' % _USAGE.encode(),
            (_CHARGE,),
        ),
        Exchange(
            "images by the piece",
            "/v1/images/generations",
            b'{"model":"black-forest-labs/FLUX.1-schnell","prompt":"A bar.","n":2}',
            b'{"model":"flux","data":[{"url":"https://a/1"},{"url":"https://a/2"}]}',
            (Charge("flux", Units(images=2, requests=1)),),
        ),
    ),
    verdicts=((402, _LIMIT, "no_money"), (429, _LIMIT, "no_money")),
)

FIREWORKS = _samples(
    "fireworks",
    "/inference/v1",
    exchanges=(
        _chat(
            "usage in each chunk",
            "/inference/v1/chat/completions",
            sse(
                _CHUNK.replace("]}", "]%s}") % ("Hel", ',"usage":null'),
                _CHUNK.replace("]}", "]%s}") % ("lo.", f',"usage":{_USAGE}'),
                "[DONE]",
            ),
            (_CHARGE,),
        ),
    ),
    verdicts=(
        (
            412,
            b'{"error":{"message":"Account a is suspended, possibly due to reaching the monthly '
            b'spending limit","code":"PRECONDITION_FAILED"}}',
            "no_money",
        ),
        (412, b'{"error":{"message":"The model is not ready"}}', None),
        (402, b"", "no_money"),
    ),
)

PERPLEXITY = _samples(
    "perplexity",
    "",
    exchanges=(
        _chat(
            "the cost with its search",
            "/chat/completions",
            b'{"model":"m-1","citations":["https://a"],"usage":{"prompt_tokens":9,'
            b'"completion_tokens":4,"cost":{"input_tokens_cost":0.000009,"request_cost":0.005,'
            b'"total_cost":0.005013}}}',
            (_CHARGE._replace(paid=5_013_000),),
        ),
        _response(
            "the cost of a response",
            "/v1/responses",
            '"cost":{"currency":"USD","input_cost":0.000009,"total_cost":0.005013}',
            (_CHARGE._replace(paid=5_013_000),),
        ),
    ),
    verdicts=(
        (401, b'{"error":{"message":"m","type":"insufficient_quota","code":401}}', "no_money"),
        (401, b'{"error":{"message":"m","type":"invalid_api_key","code":401}}', "refused"),
    ),
)

SAMPLES = (GROQ, DEEPSEEK, XAI, OPENROUTER, TOGETHER, FIREWORKS, PERPLEXITY)
