"""A call as an event of OCSF: API Activity (6003) with the profiles ai_operation and security_control.

https://schema.ocsf.io/1.8.0/classes/api_activity. Prompts and answers are in no field, for no record has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from tollhouse import __version__
from tollhouse.exports.record import Record

VERSION: Final = "1.8.0"
_ACTIVITIES: Final = {"POST": 1, "GET": 2, "HEAD": 2, "PUT": 3, "PATCH": 3, "DELETE": 4}
"""Create, Read, Update, Delete; any other method is 99, Other."""
_OF_IDENTITY: Final = (
    "identity_",
    "project_",
    "host_",
    "port_",
    "path_",
    "endpoint_",
    "authority_",
    "plain_http",
)
"""Beginnings of the reasons that call a person: somebody is where nobody may be."""
_INFORMATIONAL, _MEDIUM, _HIGH = 1, 3, 4
_UNMAPPED: Final = (
    *("cost_usd", "held_usd", "notional_usd", "charged_by", "price", "tier", "attempts"),
    *("attempts_unknown", "breaker", "key_version", "clamped", "fallback_from", "subject", "bytes"),
    *(
        "tokens",
        "units",
        "charges",
        "unsafe_fail_open",
        "record_id",
        "settled_by",
        "corrects_usd",
        "cut",
    ),
)
"""Fields of the line for which OCSF has no place."""


def event(record: Record) -> dict[str, Any]:
    """One event. What the record does not know is left out."""
    line = record.line()
    method = line["method"]
    activity = _ACTIVITIES.get(method, 99)
    began, duration_ms = _milliseconds(line["ts"]) or int(record.at * 1000), line["duration_ms"]
    allowed = line["decision"] != "deny"
    succeeded = line["decision"] == "allow" and line["status"] < 400
    found: dict[str, Any] = {
        "category_uid": 6,
        "class_uid": 6003,
        "activity_id": activity,
        "type_uid": 600_300 + activity,
        "severity_id": _severity(line),
        "time": began,
        "start_time": began,
        "status_id": 1 if succeeded else 2,
        "status_code": str(line["status"]) if line["status"] else "",
        "status_detail": line["reason"],
        "message": line.get("why", ""),
        "metadata": {
            "version": VERSION,
            "product": {"name": "Tollhouse", "vendor_name": "Tollhouse", "version": __version__},
            "profiles": ["ai_operation", "security_control"],
            "uid": record.uid,
            "correlation_uid": line["trace_id"],
            "tenant_uid": line["tenant"],
            "log_name": record.stream,
        },
        "actor": {
            "app_uid": line["project"] or "unknown",
            "user": _user(line),
            "session": {"uid": line["session"]} if line["session"] else {},
        },
        "api": _api(line),
        "src_endpoint": {"ip": line["client_ip"], "name": "" if line["client_ip"] else "unknown"},
        "dst_endpoint": {"hostname": line["host"], "svc_name": line["provider"]},
        "http_request": _request(line),
        "http_response": {"code": line["status"]} if line["status"] else {},
        "ai_model": _model(line),
        "message_context": _context(line),
        "action_id": 1 if allowed else 2,
        "disposition_id": 1 if allowed else 2,
        "firewall_rule": {"name": line["gate"]} if line["gate"] else {},
        "unmapped": {
            name: line[name] for name in _UNMAPPED if line.get(name) not in (None, "", [], {})
        },
    }
    if duration_ms is not None:
        found |= {"duration": round(duration_ms), "end_time": began + round(duration_ms)}
    whole: dict[str, Any] = _without_empty(found)
    return whole


def _severity(line: Mapping[str, Any]) -> int:
    if line.get("unsafe_fail_open"):
        return _HIGH
    refused = line["decision"] == "deny" and line["reason"].startswith(_OF_IDENTITY)
    return _MEDIUM if refused else _INFORMATIONAL


def _user(line: Mapping[str, Any]) -> dict[str, Any]:
    """99: the identity of a program, by no directory's account type."""
    if not line["identity"]:
        return {}
    return {
        "uid": line["identity"],
        "name": line.get("subject", ""),
        "type_id": 99,
        "type": "Workload",
    }


def _api(line: Mapping[str, Any]) -> dict[str, Any]:
    answered = {
        "code": line["status"],
        "error": line["reason"],
        "error_message": line.get("why", ""),
    }
    return {
        "operation": " ".join(part for part in (line["method"], line["path"]) if part)
        or "handshake",
        "service": {"name": line["provider"]},
        "request": {"uid": line["call_id"]},
        "response": answered if line["status"] or line["reason"] else {},
        # 7: an API token or key.
        "token": {"uid": line["identity"], "type_id": 7} if line["identity"] else {},
    }


def _request(line: Mapping[str, Any]) -> dict[str, Any]:
    if not line["method"]:
        return {}
    url = {"hostname": line["host"], "path": line["path"], "scheme": "https"}
    return {
        "http_method": line["method"],
        "url": url if line["path"] else {},
        "uid": line["call_id"],
    }


def _model(line: Mapping[str, Any]) -> dict[str, Any]:
    name = line["model_served"] or line["model"]
    return {"ai_provider": line["provider"], "name": name} if name and line["provider"] else {}


def _context(line: Mapping[str, Any]) -> dict[str, Any]:
    """2: the assistant's part."""
    tokens = line["tokens"]
    if not (tokens and line["provider"]):
        return {}
    prompt, completion = tokens.get("input", 0), tokens.get("output", 0)
    return {
        "service": {"name": line["provider"]},
        "ai_role_id": 2,
        "uid": line["session"],
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _milliseconds(moment: str) -> int | None:
    return round(datetime.fromisoformat(moment).timestamp() * 1000) if moment else None


def _without_empty(value: Any) -> Any:
    """Without empty texts, objects and nulls: an OCSF attribute is there with a value, or not at all."""
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _without_empty(item) for name, item in value.items()}
    return {name: item for name, item in kept.items() if item not in (None, "", {})}
