"""What a span and a metric say of a call. Nothing of a prompt or an answer, no header, no path, and no address of a client.

A workload chooses its model's name and its session's: the line has cut both. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tollhouse.telemetry.conventions import Names, Version, operation
from tollhouse.telemetry.handed import Handed

Value = str | int | float | bool | list[str]
OWN: Final = ("tenant", "project", "identity", "decision", "reason", "gate", "charged_by")
"""Fields of the line that a span has as ``tollhouse.NAME``."""


def sound(text: str) -> str:
    """``text`` as protobuf takes it: JSON can name lone surrogates, and one in a model's name would lose the spans of others."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def operation_of(call: Handed) -> str:
    return operation(call.kind, metered=call.metered, writes=call.writes)


def error_type(record: Mapping[str, Any]) -> str:
    """``error.type``: the code of our refusal, else the status. "" for a call that went well, and for one whose client left."""
    status, reason = record["status"], record["reason"]
    if record["decision"] != "allow":
        return str(reason) or "_OTHER"
    if reason == "stopped":
        return "stopped"
    return str(status) if status >= 400 else ""


def span_name(call: Handed) -> str:
    return sound(f"{operation_of(call)} {call.record['model']}".rstrip())


def of_target(call: Handed) -> dict[str, Value]:
    """What is known when a call begins, and samplers go by."""
    record = call.record
    found: dict[str, Value] = {
        "gen_ai.operation.name": operation_of(call),
        "gen_ai.provider.name": call.provider,
        "server.address": sound(record["host"]),
        "server.port": call.port,
    }
    if record["model"]:
        found["gen_ai.request.model"] = sound(record["model"])
    return found


def of_span(call: Handed, names: Names, version: Version) -> dict[str, Value]:
    """What a call was found to be, beside `of_target`."""
    record = call.record
    found: dict[str, Value] = {
        "http.request.method": sound(record["method"]),
        "tollhouse.call_id": record["call_id"],
        "tollhouse.provider": record["provider"],
        "tollhouse.attempts": len(record["attempts"]),
        "tollhouse.cost_usd": record["cost_usd"],
    }
    for name in OWN:
        if value := record[name]:
            found[f"tollhouse.{name}"] = sound(value)
    if record["overhead_ms"] is not None:
        found["tollhouse.overhead_s"] = record["overhead_ms"] / 1000
    if record.get("fallback_from"):
        found["tollhouse.fallback_from"] = record["fallback_from"]
    if record["status"]:
        found["http.response.status_code"] = record["status"]
    if error := error_type(record):
        found["error.type"] = error
    if record["session"]:
        found["gen_ai.conversation.id"] = sound(record["session"])
    if record["model_served"]:
        found["gen_ai.response.model"] = sound(record["model_served"])
    if record["stream"]:
        found["gen_ai.request.stream"] = True
        if record["ttft_ms"] is not None:
            found["gen_ai.response.time_to_first_chunk"] = record["ttft_ms"] / 1000
    if call.cap is not None:
        found["gen_ai.request.max_tokens"] = call.cap
    if call.choices != 1:
        found["gen_ai.request.choice.count"] = call.choices
    found.update(_usage(record["tokens"], names, version))
    return found


_PARTS: Final = {
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cached": "gen_ai.usage.cache_read.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}
_BY_MODALITY: Final = {
    "input_audio": "gen_ai.usage.audio.input_tokens",
    "output_audio": "gen_ai.usage.audio.output_tokens",
    "cached_audio": "gen_ai.usage.audio.cache_read.input_tokens",
    "input_image": "gen_ai.usage.image.input_tokens",
    "output_image": "gen_ai.usage.image.output_tokens",
}
"""Not in 1.41."""


def _usage(
    tokens: Mapping[str, int], names: Names, version: Version
) -> Iterator[tuple[str, Value]]:
    for part, count in tokens.items():
        if part == "cache_write":
            yield names.cache_write, count
        elif name := _PARTS.get(part) or (version != "1.41" and _BY_MODALITY.get(part)):
            yield name, count


def of_attempt(call: Handed, outcome: str, number: int) -> dict[str, Value]:
    """Of the HTTP client's span of one of several attempts, counted from 0
    (https://opentelemetry.io/docs/specs/semconv/http/http-spans/)."""
    found: dict[str, Value] = {
        "http.request.method": sound(call.record["method"]),
        "server.address": sound(call.record["host"]),
        "server.port": call.port,
    }
    if number:
        found["http.request.resend_count"] = number
    if outcome.isdigit():
        found["http.response.status_code"] = int(outcome)
    if not outcome.isdigit() or int(outcome) >= 400:
        found["error.type"] = outcome
    return found


def input_by_modality(call: Handed) -> dict[str, int]:
    return _split(call, "input")


def output_by_modality(call: Handed) -> dict[str, int]:
    return _split(call, "output")


def _split(call: Handed, whole: str) -> dict[str, int]:
    """Tokens by ``gen_ai.token.modality``. What is no sound and no image is text, unless the call may have sound or images that
    the provider has not counted apart."""
    tokens: Mapping[str, int] = call.record["tokens"]
    parts = {
        modality: count
        for modality in ("audio", "image")
        if (count := tokens.get(f"{whole}_{modality}", 0))
    }
    rest = tokens.get(whole, 0) - sum(parts.values())
    if rest > 0 or not parts:
        known_text = bool(tokens) and (bool(parts) or not call.media)
        parts["text" if known_text else "unknown"] = max(rest, 0)
    return parts
