"""The status page: who sees what, and that nothing of a workload becomes markup."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from tests.support.inproc import PROJECT, TENANT, Inside, open_inside

from tollhouse.demo.standin import StandIn
from tollhouse.site.access import MOST_SESSIONS
from tollhouse.site.page import ago, left, usd

OTHER, FOREIGN = "proj_other", "proj_foreign"
ASKED = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello."}],
    "max_completion_tokens": 20,
}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    settings: dict[str, dict[str, Any]] = {
        "admin": {"unsafe_open_metrics": False},
        f"projects.{OTHER}": {"tenant": TENANT, "limits": ["1 usd/day"]},
        f"projects.{FOREIGN}": {"tenant": "globex", "limits": ["0.000001 usd/day"]},
        "tenants.acme": {"limits": ["50 usd/month"]},
    }
    with open_inside(tmp_path_factory.mktemp("page"), settings) as inside:
        call(inside, PROJECT, {"x-session-id": HOSTILE})
        call(inside, OTHER)
        assert call(inside, FOREIGN) == 402
        # What was refused is told Redis by the gateway's next turn.
        inside.do(inside.gateway.uncharged.flush())
        yield inside


def token(inside: Inside, *projects: str) -> str:
    made = inside.do(
        inside.gateway.operations.perform("token_create", {"projects": list(projects)})
    )
    return str(made["token"])


def viewer(inside: Inside, tenant: str = "") -> str:
    made = inside.do(inside.gateway.operations.perform("viewer_create", {"tenant": tenant}))
    return str(made["token"])


def call(inside: Inside, project: str, headers: dict[str, str] | None = None) -> int:
    answer = httpx2.post(
        f"http://{inside.gateway.addresses['base_url']}/v1/chat/completions",
        json=ASKED,
        headers={"Authorization": f"Bearer {token(inside, project)}", **(headers or {})},
        trust_env=False,
    )
    return answer.status_code


def site(inside: Inside, bearer: str = "") -> httpx2.Client:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return httpx2.Client(
        base_url=f"http://{inside.gateway.addresses['admin']}", headers=headers, trust_env=False
    )


def seen(inside: Inside, bearer: str, path: str = "/") -> str:
    with site(inside, bearer) as client:
        answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_everything(shared: Inside) -> None:
    """Spend, budgets with what is left, refusals with what to do, calls, keys and the gateway itself."""
    text = seen(shared, viewer(shared))
    for name in (PROJECT, OTHER, FOREIGN, "tenant:acme", "openai/gpt-4o-mini", "budget_exceeded"):
        assert name in text
    assert "Lower the output cap" in text
    assert "50 usd/month" in text
    assert "infrastructure/openai" in text or "No call has needed a key" in text
    assert "Breakers, closed" in text
    charged = sum(Decimal(line["cost_usd"]) for line in shared.lines())
    assert charged > 0
    assert f"Spend: {usd(charged)} USD" in text


def test_a_project_sees_itself_alone(shared: Inside) -> None:
    """Neither other projects, nor what the tenant has spent, nor keys."""
    text = seen(shared, token(shared, OTHER))
    assert OTHER in text
    for name in (PROJECT, FOREIGN, "tenant:acme", "budget_exceeded", "Providers", "Breakers"):
        assert name not in text


def test_a_tenant_sees_itself_alone(shared: Inside) -> None:
    text = seen(shared, viewer(shared, TENANT))
    assert PROJECT in text
    assert "tenant:acme" in text
    for name in (FOREIGN, "budget_exceeded", "Breakers"):
        assert name not in text


def test_nothing_of_a_workload_is_markup(shared: Inside) -> None:
    """A session named `<script>` is shown as its text, and the policy would not run it."""
    with site(shared, viewer(shared)) as client:
        answer = client.get("/")
    assert HOSTILE not in answer.text
    assert "&lt;script&gt;" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r" (style|on\w+)=", answer.text)


@pytest.mark.parametrize("path", ["/", "/metrics", "/live"])
@pytest.mark.parametrize("kind", ["none", "unknown", "malformed", "revoked"])
def test_who_may_not_look(shared: Inside, kind: str, path: str) -> None:
    """Nothing is shown to anybody else; a browser is asked to log in."""
    bearer = {"none": "", "unknown": "gate_" + "0" * 49, "malformed": "x"}.get(kind)
    if bearer is None:
        made = shared.do(shared.gateway.operations.perform("viewer_create", {}))
        shared.do(shared.gateway.operations.perform("token_revoke", {"token_id": made["id"]}))
        bearer = made["token"]
    with site(shared, bearer) as client:
        answer = client.get(path)
    wanted = {"/": 401 if bearer else 303, "/metrics": 401, "/live": 204}[path]
    assert answer.status_code == wanted
    assert PROJECT not in answer.text


def test_the_metrics_are_for_who_sees_all(shared: Inside) -> None:
    assert "tollhouse_calls_total" in seen(shared, viewer(shared), "/metrics")
    for bearer in (token(shared, PROJECT), viewer(shared, TENANT)):
        with site(shared, bearer) as client:
            answer = client.get("/metrics")
        assert answer.status_code == 403
        assert "tollhouse token create --view" in answer.text


def test_a_token_for_looking_charges_nothing(shared: Inside) -> None:
    """It is for no project, whatever the call names."""
    before = len(shared.standin.snapshot())
    for headers in ({}, {"x-tollhouse-project": PROJECT}):
        answer = httpx2.post(
            f"http://{shared.gateway.addresses['base_url']}/v1/chat/completions",
            json=ASKED,
            headers={"Authorization": f"Bearer {viewer(shared)}", **headers},
            trust_env=False,
        )
        assert answer.status_code in (400, 403)
    assert len(shared.standin.snapshot()) == before


def test_a_session(shared: Inside) -> None:
    """Log in, look, and log out; a wrong token is told so; the cookie is no token, and no page of others has it sent."""
    with site(shared) as client:
        wrong = client.post("/login", data={"token": "gate_wrong"})
        assert (wrong.status_code, "not valid" in wrong.text) == (401, True)
        bearer = viewer(shared)
        answer = client.post("/login", data={"token": bearer})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert bearer not in cookie
        assert PROJECT in client.get("/?days=7").text
        assert PROJECT in client.get(f"/?days={'9' * 5000}").text
        foreign = client.post("/logout", headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 303
        assert client.get("/").status_code == 303


def test_forms_that_are_none(shared: Inside) -> None:
    """They are refused in plain words; one token's sessions push out no other's."""
    with site(shared) as client:
        form = {"content-type": "application/x-www-form-urlencoded"}
        for headers, body, status in (
            (form, b"token=%ff\xff", 400),
            ({"content-type": form["content-type"] + "; charset=nothing"}, b"token=x", 400),
            ({"content-type": "multipart/form-data; boundary=x"}, b"--y", 415),
            ({**form, "content-encoding": "deflate"}, zlib.compress(b"token=x"), 415),
        ):
            assert client.post("/login", content=body, headers=headers).status_code == status
    with site(shared) as first, site(shared) as second:
        first.post("/login", data={"token": viewer(shared)})
        bearer = viewer(shared)
        for _ in range(MOST_SESSIONS // 20):
            second.post("/login", data={"token": bearer})
        assert first.get("/").status_code == 200


def test_a_refusal_is_a_page_to_a_browser(shared: Inside) -> None:
    """And JSON to a program; either says what to do."""
    with site(shared) as client:
        page = client.get("/nothing", headers={"accept": "text/html,*/*"})
        told = client.get("/nothing")
    assert (page.status_code, told.status_code) == (404, 404)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "nothing at this path" in page.text
    assert "nothing at this path" in told.json()["error"]


def test_a_session_ends_with_its_token(shared: Inside) -> None:
    made = shared.do(shared.gateway.operations.perform("viewer_create", {}))
    with site(shared) as client:
        client.post("/login", data={"token": made["token"]})
        assert client.get("/").status_code == 200
        shared.do(shared.gateway.operations.perform("token_revoke", {"token_id": made["id"]}))
        assert client.get("/").status_code == 303


def test_live(shared: Inside) -> None:
    """What the page shows comes again when something has happened."""
    bearer = viewer(shared)
    with site(shared, bearer) as client, client.stream("GET", "/live?days=1") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.iter_lines()
        first = _event(lines)
        assert "By project" in first
        assert call(shared, PROJECT) == 200
        done = shared.lines()[-1]["call_id"]
        for _ in range(20):
            if done in _event(lines):
                break
        else:
            pytest.fail("the call was not shown")


def _event(lines: Iterator[str]) -> str:
    found = []
    for line in lines:
        if not line:
            break
        found.append(line.removeprefix("data: "))
    return "\n".join(found)


def test_a_token_in_the_clear(tmp_path: Any) -> None:
    """From another host a token is not taken without TLS; probes are answered."""
    with open_inside(
        tmp_path, {"listen": {"admin": "0.0.0.0:0", "base_url_hosts": ["localhost"]}}
    ) as inside:
        port = inside.gateway.addresses["admin"].rpartition(":")[2]
        for host, wanted in (("127.0.0.1", 303), (_own_address(), 403)):
            if host == "":
                continue
            with httpx2.Client(trust_env=False) as client:
                answer = client.get(f"http://{host}:{port}/")
                assert answer.status_code == wanted
                assert client.get(f"http://{host}:{port}/livez").status_code == 200
                if wanted == 403:
                    assert "[admin] tls" in json.loads(answer.text)["error"]


def _own_address() -> str:
    """An address of this machine that is not a loopback one; empty if it has none."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        host = str(one.getsockname()[0])
    return "" if host.startswith("127.") else host


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0"),
        ("12.346", "12.35"),
        ("1234.5", "1,234.50"),
        ("0.5", "0.5000"),
        ("0.00000012", "under 0.0001"),
    ],
)
def test_dollars(amount: str, shown: str) -> None:
    assert usd(amount) == shown


@pytest.mark.parametrize(
    ("amount", "limit", "shown"),
    [
        ("0.354202", "1 usd/day", "0.3542 usd"),
        ("18630", "200000 tokens/day", "18,630 tokens"),
        ("8", "8 concurrent", "8"),
    ],
)
def test_what_is_left(amount: str, limit: str, shown: str) -> None:
    assert left(amount, limit) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, ""), (3, "3 s"), (61, "1 min"), (7_200, "2 h"), (200_000, "2 d")]
)
def test_a_time_span(seconds: float | None, shown: str) -> None:
    assert ago(seconds) == shown


def test_the_standin_is_not_asked(shared: Inside) -> None:
    """Looking calls no provider."""
    before = len(shared.standin.snapshot())
    seen(shared, viewer(shared))
    assert isinstance(shared.standin, StandIn)
    assert len(shared.standin.snapshot()) == before
