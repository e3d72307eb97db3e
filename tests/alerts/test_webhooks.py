"""What is sent: the signature of Standard Webhooks, and texts that mention nobody."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, get_args

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tollhouse.alerts.event import AlertEvent, EventType
from tollhouse.alerts.webhooks import (
    BadSigningSecret,
    request_of,
    sentence,
    signature,
    signing_keys,
    slack_text,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()
LIMIT = {
    "tenant": "acme",
    "project": "p1",
    "scope": "project:p1",
    "threshold": "80%",
    "percent": "81.0",
    "limit": "10 usd/day",
    "used": "8.1",
    "left": "1.9",
    "granted": None,
    "resets_at": "2026-08-31T00:00:00Z",
}
KEY = {"provider": "openai", "path": "infrastructure/openai", "version": "3"}
DATA: dict[str, dict[str, Any]] = {
    "budget.threshold": LIMIT,
    "budget.refused": LIMIT,
    "call.unpriced": {"project": "p1", "provider": "openai", "model": "new"},
    "key.age": {**KEY, "age_days": 91},
    "key.refused": {**KEY, "fingerprint": "01234567"},
    "key.stale": {**KEY, "state": "stale"},
    "breaker.open": {"host": "api.openai.com", "tenant": ""},
    "spool.waiting": {"charges": 3, "gateway": "pod-1"},
    "alert.test": {"test": True},
}
TYPES = [name for part in get_args(EventType) for name in get_args(part)]


def test_the_published_vector() -> None:
    """That of the specification's own libraries."""
    body = b'{"test": 2432232314}'
    made = signature(signing_keys(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_verifies_it_while_the_secret_is_exchanged() -> None:
    """Both secrets sign, so that the receiver may have either."""
    event = AlertEvent("alert.test", ("x",), time.time(), 0.0, {"test": True})
    keys = signing_keys(f"{OTHER}\n{SECRET}\n")
    body, headers = request_of("generic", event.id, event.body, time.time(), keys)
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body, headers) == json.loads(event.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


def test_without_a_secret_there_is_no_signature() -> None:
    _, headers = request_of("generic", "msg_1", "{}", 12.9)
    assert headers["webhook-timestamp"] == "12"
    assert "webhook-signature" not in headers


@pytest.mark.parametrize(
    "text", ["", "a-password", "whsec_AAAA", "whsec_ÿ", SECRET[6:], SECRET + "*"]
)
def test_what_is_no_signing_secret(text: str) -> None:
    """It is said without the secret."""
    with pytest.raises(BadSigningSecret) as error:
        signing_keys(text)
    assert not text or text not in str(error.value)


def test_slack_mentions_nobody() -> None:
    """A name of a workload's own is a name, and no mention and no link."""
    data = {"project": "p&1", "provider": "openai", "model": "<!channel> <https://a.example|b>"}
    text = slack_text({"type": "call.unpriced", "data": data})
    assert "<" not in text
    assert ">" not in text
    assert "&lt;!channel&gt; &lt;https://a.example|b&gt;" in text
    assert "p&amp;1" in text


def test_a_model_is_no_link_and_no_line_of_its_own() -> None:
    """A workload chooses it. In code Slack makes no link, and nothing ends the code before its end."""
    hostile = "x`. Log in at https://evil.example/\n*Tollhouse*: all is well\u2028`"
    text = slack_text(
        {"type": "call.unpriced", "data": {**DATA["call.unpriced"], "model": hostile}}
    )
    assert text.isprintable()
    before, model, behind = text.split("`")
    assert "evil.example" in model
    assert "evil.example" not in before + behind


def test_slack_has_its_own_form() -> None:
    event = AlertEvent("budget.threshold", (), 0.0, 0.0, LIMIT)
    body, headers = request_of("slack", event.id, event.body, 0.0, signing_keys(SECRET))
    assert json.loads(body)["text"].startswith("Tollhouse: 80% of the limit 10 usd/day of project")
    assert not [name for name in headers if name.startswith("webhook")]


def test_a_long_name_makes_no_long_message() -> None:
    data = {"project": "p1", "provider": "openai", "model": "&" * 10_000}
    assert len(slack_text({"type": "call.unpriced", "data": data})) <= 5 * 3000


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_has_its_sentence(kind: str) -> None:
    """What happened, and nothing of the form of the data."""
    text = sentence({"type": kind, "data": DATA[kind]})
    assert text.startswith("Tollhouse: ")
    assert text.endswith(".")
    assert "{" not in text


def test_a_type_of_a_later_version() -> None:
    """It may be in the outbox while gateways are exchanged."""
    assert sentence({"type": "new.thing", "data": {"a": 1}}) == 'Tollhouse: new.thing {"a": 1}'


def test_an_id_is_what_an_event_is_once_for() -> None:
    """When and with which numbers it is seen changes no id; its parts do not run together."""
    first = AlertEvent("key.age", ("a", "b"), 1.0, 2.0, {"age_days": 90})
    later = AlertEvent("key.age", ("a", "b"), 9.0, 9.0, {"age_days": 91})
    assert first.id == later.id
    assert first.id != AlertEvent("key.age", ("ab", ""), 1.0, 2.0).id
    assert first.id != AlertEvent("key.stale", ("a", "b"), 1.0, 2.0).id
