"""An event as it is sent: the body in the receiver's form, and the headers. Pure.

The generic form is that of Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
Slack's is that of its incoming webhooks (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from tollhouse import __version__

Form = Literal["generic", "slack"]

PREFIX: Final = "whsec_"
_LONGEST: Final = 3000
"""Characters of a message to Slack, which takes 4,000."""


class BadSigningSecret(ValueError):
    """What should sign is no secret of Standard Webhooks. Its text holds nothing of it."""


def signing_keys(text: str) -> tuple[bytes, ...]:
    """The keys in ``text``: one secret, or several with spaces or line ends between them. Raises `BadSigningSecret`."""
    found = []
    for word in text.split():
        try:
            key = base64.b64decode(word.removeprefix(PREFIX), validate=True)
        except ValueError:
            key = b""
        if not word.startswith(PREFIX) or not 24 <= len(key) <= 64:
            raise BadSigningSecret(
                "The signing secret has not the form of one: whsec_ and 24 to 64 bytes in base64."
            )
        found.append(key)
    if not found:
        raise BadSigningSecret(
            "The signing secret is empty: write whsec_ and 24 to 64 bytes in base64."
        )
    return tuple(found)


def signature(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one for each key, with spaces between them."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys
    )


def request_of(
    form: Form, message_id: str, body: str, now: float, keys: Sequence[bytes] = ()
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one attempt at ``now``, in seconds since the epoch. ``body`` is `AlertEvent.body`. Without ``keys``
    there is no signature; Slack verifies none."""
    headers = {"content-type": "application/json", "user-agent": f"tollhouse/{__version__}"}
    if form == "slack":
        message = {"text": slack_text(json.loads(body)), "unfurl_links": False}
        return json.dumps(message).encode(), headers
    sent, timestamp = body.encode(), int(now)
    headers |= {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if keys:
        headers["webhook-signature"] = signature(keys, message_id, timestamp, sent)
    return sent, headers


def escaped(text: str) -> str:
    """``text`` as Slack shows it: no mention, no link (https://docs.slack.dev/messaging/formatting-message-text)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_text(payload: Mapping[str, Any]) -> str:
    return escaped(sentence(payload)[:_LONGEST])


def sentence(payload: Mapping[str, Any]) -> str:
    """What happened and what to do, for a person."""
    said = _SENTENCES.get(str(payload["type"]))
    data: Mapping[str, Any] = payload["data"]
    if said is None:
        return f"Tollhouse: {payload['type']} {json.dumps(data)}"
    return f"Tollhouse: {said(data)}"


def _whose(data: Mapping[str, Any]) -> str:
    return f"{str(data['scope']).replace(':', ' ', 1)} of tenant {data['tenant']}"


def _resets(data: Mapping[str, Any]) -> str:
    return f" It resets at {data['resets_at']}." if data["resets_at"] else " It never resets."


def _threshold(data: Mapping[str, Any]) -> str:
    unit = str(data["limit"]).partition(" ")[2].partition("/")[0]
    granted = f" and {data['granted']} granted" if data.get("granted") else ""
    return (
        f"{data['threshold']} of the limit {data['limit']}{granted} of {_whose(data)} are used "
        f"({data['used']} {unit}, {data['percent']}%).{_resets(data)}"
    )


def _refused(data: Mapping[str, Any]) -> str:
    return (
        f"calls of {_whose(data)} are refused, because the limit {data['limit']} has not enough left ({data['left']})."
        f"{_resets(data)} A higher limit, or `tollhouse budget grant`, lets them go on."
    )


def _unpriced(data: Mapping[str, Any]) -> str:
    # A workload chooses it, and could have people read a link or a line of its own. In code Slack makes neither.
    model = "".join(c if c.isprintable() and c != "`" else " " for c in str(data["model"]))
    return (
        f"no price is known for the model `{model}` of {data['provider']}, which project {data['project']} calls: such "
        "calls are refused where a limit is in money, and else charged nothing. Give it a price under [prices]."
    )


def _key_age(data: Mapping[str, Any]) -> str:
    return (
        f"the key of {data['provider']} at {data['path']} (version {data['version']}) is {data['age_days']} days old: "
        "put a new one there."
    )


def _key_refused(data: Mapping[str, Any]) -> str:
    return (
        f"{data['provider']} refuses the key {data['fingerprint']} at {data['path']}, and the store has no other: "
        "put a new one there."
    )


def _key_stale(data: Mapping[str, Any]) -> str:
    return (
        f"the key of {data['provider']} at {data['path']} can't be read again, and is {data['state']}: "
        "see why by `tollhouse key list`."
    )


def _breaker(data: Mapping[str, Any]) -> str:
    whose = f"of tenant {data['tenant']}" if data["tenant"] else "of all tenants"
    return (
        f"calls {whose} to {data['host']} are paused, because too many of them failed: one is tried again after some seconds, "
        "and `tollhouse top` shows when they go on."
    )


def _spool(data: Mapping[str, Any]) -> str:
    return (
        f"{data['charges']} charges wait on the disk of {data['gateway']}, because Redis could not be told of them: "
        "see its log."
    )


def _test(_: Mapping[str, Any]) -> str:
    return "this is a test of alerts. Nothing has happened."


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "budget.threshold": _threshold,
    "budget.refused": _refused,
    "call.unpriced": _unpriced,
    "key.age": _key_age,
    "key.refused": _key_refused,
    "key.stale": _key_stale,
    "breaker.open": _breaker,
    "spool.waiting": _spool,
    "alert.test": _test,
}
