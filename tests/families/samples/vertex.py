"""Vertex's samples."""

from __future__ import annotations

import json

from tests.families.samples.google import ASKED, MODEL, answer, counts, crlf
from tests.families.samples.kit import EVENTS, Exchange, Samples, sse

from tollhouse.families.units import Charge, Units
from tollhouse.families.vertex import VERTEX

PLACE = "/v1/projects/p1/locations/us-central1"
PATH = f"{PLACE}/publishers/google/models/{MODEL}"
_VECTORS = {
    "predictions": [
        {"embeddings": {"values": [0.1], "statistics": {"token_count": 3, "truncated": False}}},
        {"embeddings": {"values": [0.1], "statistics": {"token_count": 2, "truncated": False}}},
    ],
    "metadata": {"billableCharacterCount": 11},
}
_TWO = b'{"instances":[{"content":"Say hello."},{"content":"a"}]}'
_CHAT = b'{"model":"mistral-small-2503","messages":[{"role":"user","content":"Say hello."}],"max_tokens":20%b}'
_MISTRAL = f"{PLACE}/publishers/mistralai/models/mistral-small-2503"
_CLAUDE = f"{PLACE}/publishers/anthropic/models/claude-sonnet-4-5@20250929"
_SAY = b'{"anthropic_version":"vertex-2023-10-16","max_tokens":20,"messages":[{"role":"user","content":"Say hello."}]%b}'
_USAGE = '"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}'

SAMPLES = (
    Samples(
        VERTEX,
        (
            ("POST", f"{PATH}:generateContent"),
            ("POST", f"/v1beta1/publishers/google/models/{MODEL}:generateContent"),
            ("POST", f"{PATH}:streamGenerateContent"),
            ("POST", f"{PLACE}/endpoints/123:generateContent"),
            ("POST", f"{PLACE}/publishers/google/models/gemini-embedding-001:embedContent"),
            ("POST", f"{PATH}:countTokens"),
            ("POST", f"{PATH}:computeTokens"),
            ("POST", f"{PLACE}/publishers/google/models/imagegeneration@006:predict"),
            ("POST", f"{PLACE}/publishers/google/models/text-embedding-005:predict"),
            ("POST", f"{PLACE}/publishers/google/models/veo-3.1:predictLongRunning"),
            ("POST", f"{PLACE}/publishers/google/models/veo-3.1:fetchPredictOperation"),
            ("GET", f"{PLACE}/publishers/google/models/veo-3.1/operations/op1"),
            ("GET", f"{PLACE}/operations/op1"),
            ("GET", "/v1beta1/publishers/google/models"),
            ("GET", f"/v1/publishers/google/models/{MODEL}"),
            ("POST", f"{PLACE}/endpoints/openapi/chat/completions"),
            ("POST", f"{_MISTRAL}:rawPredict"),
            ("POST", f"{_CLAUDE}:rawPredict"),
            ("POST", f"{PLACE}/publishers/anthropic/models/count-tokens:rawPredict"),
            ("POST", f"{PLACE}/cachedContents"),
            ("GET", f"{PLACE}/cachedContents"),
            ("GET", f"{PLACE}/cachedContents/c1"),
            ("DELETE", f"{PLACE}/cachedContents/c1"),
            ("POST", f"{PLACE}/batchPredictionJobs"),
            ("GET", f"{PLACE}/batchPredictionJobs"),
            ("GET", f"{PLACE}/batchPredictionJobs/1"),
            ("DELETE", f"{PLACE}/batchPredictionJobs/1"),
            ("POST", f"{PLACE}/tuningJobs"),
            ("GET", f"{PLACE}/tuningJobs"),
            ("GET", f"{PLACE}/tuningJobs/1"),
            ("DELETE", f"{PLACE}/tuningJobs/1"),
            ("POST", f"{PLACE}/interactions"),
            ("GET", f"{PLACE}/interactions/i1"),
            ("POST", f"{PLACE}/interactions/i1/cancel"),
        ),
        sockets=("/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",),
        provider="vertex",
        exchanges=(
            Exchange(
                "generate",
                f"{PATH}:generateContent",
                ASKED,
                answer("Hello.", **counts(9, 4, trafficType="ON_DEMAND_PRIORITY")).encode(),
                (Charge(MODEL, Units(input=9, output=4, requests=1), "priority"),),
            ),
            Exchange(
                "throughput that was bought",
                f"{PATH}:generateContent",
                ASKED,
                answer("Hello.", **counts(9, 4, trafficType="PROVISIONED_THROUGHPUT")).encode(),
                (Charge(MODEL, Units(input=9, output=4, requests=1), paid=0),),
            ),
            Exchange(
                "stream",
                f"{PATH}:streamGenerateContent",
                ASKED,
                crlf(
                    answer("Hel", usageMetadata={"trafficType": "ON_DEMAND"}),
                    answer("lo.", **counts(9, 4, trafficType="ON_DEMAND")),
                ),
                (Charge(MODEL, Units(input=9, output=4, requests=1)),),
                EVENTS,
                query="alt=sse",
            ),
            Exchange(
                "vectors by tokens",
                f"{PLACE}/publishers/google/models/gemini-embedding-001:predict",
                _TWO,
                json.dumps(_VECTORS).encode(),
                (Charge("", Units(input=5, requests=1)),),
            ),
            Exchange(
                "vectors by characters",
                f"{PLACE}/publishers/google/models/text-embedding-005:predict",
                _TWO,
                json.dumps(_VECTORS).encode(),
                (Charge("", Units(characters=11, requests=1)),),
            ),
            Exchange(
                "a cache",
                f"{PLACE}/cachedContents",
                b'{"model":"projects/p1/locations/us-central1/publishers/google/models/gemini-2.5-flash",'
                b'"contents":[{"parts":[{"text":"' + b"Long. " * 500 + b'"}]}]}',
                b'{"name":"projects/7/locations/us-central1/cachedContents/c1","usageMetadata":{"totalTokenCount":700}}',
                (
                    Charge("", Units(input=700, cache_write=700, requests=1)),
                    Charge("cache_storage", Units(requests=1)),
                ),
                created=("cachedContents/c1",),
            ),
            Exchange(
                "an operation is named",
                f"{PLACE}/publishers/google/models/veo-3.1:fetchPredictOperation",
                b'{"operationName":"projects/p1/locations/us-central1/publishers/google/models/veo-3.1/operations/op1"}',
                b"{}",
                (),
                objects=("publishers/google/models/veo-3.1/operations/op1",),
            ),
            Exchange(
                "claude",
                f"{_CLAUDE}:rawPredict",
                _SAY % b"",
                b'{"type":"message","model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":"Hello."}],'
                b'"usage":{"input_tokens":9,"cache_read_input_tokens":3,"output_tokens":4}}',
                (
                    Charge(
                        "claude-sonnet-4-5-20250929",
                        Units(input=12, output=4, cached=3, requests=1),
                    ),
                ),
            ),
            Exchange(
                "claude streams",
                f"{_CLAUDE}:streamRawPredict",
                _SAY % b',"stream":true',
                b'event: message_start\ndata: {"type":"message_start","message":{"type":"message",'
                b'"model":"claude-sonnet-4-5-20250929","usage":{"input_tokens":9,"output_tokens":4}}}\n\n'
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
                b'"delta":{"type":"text_delta","text":"Hello."}}\n\n'
                b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":4}}\n\n'
                b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
                (Charge("claude-sonnet-4-5-20250929", Units(input=9, output=4, requests=1)),),
                EVENTS,
            ),
            Exchange(
                "mistral",
                f"{_MISTRAL}:rawPredict",
                _CHAT % b"",
                b'{"model":"mistral-small-2503","choices":[{"message":{"content":"Hello."}}],'
                + _USAGE.encode()
                + b"}",
                (Charge("mistral-small-2503", Units(input=9, output=4, requests=1)),),
            ),
            Exchange(
                "mistral streams",
                f"{_MISTRAL}:streamRawPredict",
                _CHAT % b',"stream":true',
                sse(
                    '{"model":"mistral-small-2503","choices":[{"delta":{"content":"Hello."}}]}',
                    '{"model":"mistral-small-2503","choices":[{"delta":{"content":""}}],'
                    + _USAGE
                    + "}",
                    "[DONE]",
                ),
                (Charge("mistral-small-2503", Units(input=9, output=4, requests=1)),),
                EVENTS,
            ),
        ),
        malformed=(
            b"",
            b'{"contents":[],"contents":[]}',
            b'{"cachedContent":"c1"}',
            b'{"systemInstruction":{},"system_instruction":{}}',
        ),
        verdicts=(
            (401, b"", "refused"),
            (429, b'[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]', None),
        ),
    ),
)
