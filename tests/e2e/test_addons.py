"""An operator's own addons through a running gateway, on each way in: what they change is judged, held and metered, and one
that fails refuses the call. The provider's own book says what left."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mitmproxy.http import HTTPFlow
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.demo.standin_script import Behaviour, Steps, reply

if TYPE_CHECKING:
    import httpx2

CHAT = "/v1/chat/completions"
HOST = "https://api.openai.com"
BODY: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 5,
}
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CALL_HOOKS = ("requestheaders", "request", "responseheaders", "response")
WAYS = ("own", "mitmproxy", "http2", "base_url")
"""HTTP/1 of ours and mitmproxy's, HTTP/2, and the base URL."""
SSE = ("content-type", "text/event-stream")

ADDON = '''
import asyncio, json, logging, time
from mitmproxy import ctx, http

class Switched:
    """Does what the request's header says. It has the hooks that tests ask for."""

    def does(self, hook, flow):
        words = flow.request.headers.get("x-do", "").split()
        return words[1] if words and words[0] == hook else ""

    def act(self, hook, flow):
        match self.does(hook, flow):
            case "raise":
                raise ValueError("sk-a-secret-of-the-operator")
            case "exit":
                raise SystemExit(3)
            case "kill":
                flow.kill()
            case "answer":
                flow.response = http.Response.make(418, b"tea", {"content-type": "text/plain"})

    def requestheaders(self, flow):
        self.act("requestheaders", flow)

    async def request(self, flow):
        self.act("request", flow)
        request = flow.request
        match self.does("request", flow):
            case "hang":
                while True:
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        pass
            case "credentials":
                for name in ("authorization", "x-api-key", "cookie", "proxy-authorization", "x-forwarded-for",
                             "openai-organization", "connection", "transfer-encoding", "api_key", "content-length"):
                    request.headers[name] = "sk-of-the-addon"
                request.headers["x-kept"] = "kept"
            case "host":
                request.host = "evil.test"
            case "header-host":
                request.headers["Host"] = "evil.test"
            case "port":
                request.port = 444
            case "method":
                request.method = "GET"
            case "path":
                request.path = "/v1/embeddings"
            case "closed":
                request.path = "/v1/organization/api_keys"
            case "dots":
                request.path = "/v1/../v1/chat/completions"
            case "keyed":
                request.path += "?key=sk-of-the-addon&a=b"
            case "crlf":
                request.headers["x-new"] = "a\\r\\nx-other: b"
            case "model":
                request.text = request.text.replace("gpt-4o", "gpt-4o-mini")
            case "unpriced":
                request.text = request.text.replace("gpt-4o", "nobodys-model")
            case "larger":
                asked = json.loads(request.text)
                asked["max_tokens"] = 10_000_000
                request.text = json.dumps(asked)
            case "huge":
                request.content = b"x" * 2_000_000
            case "slow":
                time.sleep(0.06)

    def responseheaders(self, flow):
        self.act("responseheaders", flow)
        match self.does("responseheaders", flow):
            case "stream":
                flow.response.stream = True
            case "upper":
                flow.response.stream = lambda data: data.upper()
            case "broken":
                flow.response.stream = lambda data: 1 / 0
            case "status":
                flow.response.status_code = 299
                flow.response.headers["x-new"] = "new"
                flow.response.headers["x-tollhouse-reason"] = "mine"

    def response(self, flow):
        self.act("response", flow)
        match self.does("response", flow):
            case "text":
                flow.response.text = flow.response.text.upper()
            case "away":
                flow.response = None
            case "crlf":
                flow.response.headers["x-new"] = "a\\r\\nx-other: b"
            case "seen":
                flow.response.headers["x-seen"] = json.dumps(sorted(flow.metadata))
                flow.response.headers["x-client"] = flow.client_conn.peername[0]
                flow.response.headers["x-server"] = str(flow.server_conn.address)

    def error(self, flow):
        logging.getLogger("operator").warning("error hook: %s", flow.error)
        self.act("error", flow)


class Heads:
    """Without a hook response."""

    def responseheaders(self, flow):
        flow.response.headers["x-heads"] = "seen"
'''


def place(directory: Path, text: str, name: str = "own.py") -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    file = directory / name
    file.write_text(text)
    file.chmod(0o644)
    return file


def settings(load: str, *, way: str = "own", **addons: Any) -> dict[str, dict[str, Any]]:
    return {
        "listen": {"http1": "mitmproxy" if way == "mitmproxy" else "own"},
        "limits": {"max_body_bytes": 1_000_000},
        f"projects.{PROJECT}": {"limits": ["10 usd/day", "5000 requests/minute"]},
        "addons": {"load": [load], "timeout_s": 0.5, **addons},
    }


@contextlib.contextmanager
def with_addon(
    directory: Path, load: str = "own.py:Switched", text: str = ADDON, way: str = "own", **more: Any
) -> Iterator[Inside]:
    place(directory, text)
    with open_inside(directory, settings(load, way=way, **more)) as inside:
        yield inside


@pytest.fixture(scope="module", params=WAYS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Inside, str]]:
    with with_addon(tmp_path_factory.mktemp("addons"), way=request.param) as inside:
        yield inside, request.param


class Asked:
    """One test's client, by one way in."""

    def __init__(self, inside: Inside, way: str) -> None:
        self.inside = inside
        self.way = way
        inside.standin.clear()
        self._seen = len(inside.lines())

    def client(self) -> httpx2.Client:
        import httpx2

        inside = self.inside
        if self.way == "base_url":
            port = inside.gateway.addresses["base_url"].rpartition(":")[2]
            return httpx2.Client(
                base_url=f"http://localhost:{port}",
                headers={"authorization": f"Bearer {inside.token}"},
                trust_env=False,
            )
        return httpx2.Client(
            base_url=HOST,
            proxy=inside.proxy_url,
            verify=inside.context,
            http2=self.way == "http2",
            trust_env=False,
        )

    def post(
        self, do: str = "", body: Any = BODY, path: str = CHAT, **more: str
    ) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-do": do, **more}
        with self.client() as client:
            got = client.post(path, content=content, headers=headers)
        assert got.http_version == ("HTTP/2" if self.way == "http2" else "HTTP/1.1")
        return got

    def line(self) -> dict[str, Any]:
        """The only line since this began."""
        seen = self._seen
        self.inside.until(lambda gateway: not gateway.journey.under_way)
        lines = self.inside.lines()[seen:]
        assert len(lines) == 1
        return lines[0]

    def refused(self, got: httpx2.Response, status: int, code: str) -> dict[str, Any]:
        """Refused so, and nothing left."""
        assert (got.status_code, got.headers["x-tollhouse-reason"]) == (status, code), got.text
        assert self.inside.standin.snapshot() == []
        line = self.line()
        assert (line["status"], line["reason"], line["cost_usd"]) == (status, code, "0")
        assert self.inside.held() == []
        return line


@pytest.fixture
def asked(shared: tuple[Inside, str]) -> Asked:
    return Asked(*shared)


@pytest.mark.parametrize("what", ["raise", "exit"])
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_one_that_fails_refuses(asked: Asked, hook: str, what: str) -> None:
    """Nothing leaves. The workload is told which addon it was, and not the exception's text."""
    got = asked.post(f"{hook} {what}")
    line = asked.refused(got, 503, "addon_failed")
    assert (line["gate"], line["decision"], line["project"]) == ("addons", "deny", PROJECT)
    assert "own.py:Switched" in got.text
    assert "sk-a-secret" not in got.text
    assert got.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("hook", ["responseheaders", "response"])
def test_one_that_fails_on_the_answer(asked: Asked, hook: str) -> None:
    """The client gets none of the answer, which is charged as the provider counted it."""
    got = asked.post(f"{hook} raise")
    assert (got.status_code, got.headers["x-tollhouse-reason"]) == (503, "addon_failed")
    line = asked.line()
    assert (line["decision"], line["gate"], line["reason"]) == ("fail", "addons", "addon_failed")
    assert line["cost_usd"] != "0"
    assert asked.inside.held() == []


def test_one_that_fails_at_the_end(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """The hook error of a call that a later gate refuses is called, and changes nothing when it fails."""
    got = asked.post("error raise", {**BODY, "model": "nobodys-model"})
    asked.refused(got, 403, "model_unpriced")
    assert "failed in its hook error" in caplog.text
    assert "error hook: No price is known" in caplog.text


def test_one_that_never_returns(asked: Asked) -> None:
    """The call is refused after timeout_s, though the hook does not heed its cancellation."""
    got = asked.post("request hang")
    asked.refused(got, 503, "addon_failed")
    assert "did not return within 0.5 s" in got.text


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_kill(asked: Asked, hook: str) -> None:
    """flow.kill() refuses the call: it is a decision, and no failure."""
    asked.refused(asked.post(f"{hook} kill"), 403, "addon_refused")


def test_kill_of_an_answer(asked: Asked) -> None:
    """The answer is charged, and the client gets none of it."""
    got = asked.post("response kill")
    assert (got.status_code, got.headers["x-tollhouse-reason"]) == (403, "addon_refused")
    assert asked.line()["charged_by"] == "usage"


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_an_answer_of_its_own(asked: Asked, hook: str) -> None:
    """No call leaves, nothing is charged; the line says who answered."""
    got = asked.post(f"{hook} answer")
    assert (got.status_code, got.content, got.headers["content-type"]) == (
        418,
        b"tea",
        "text/plain",
    )
    assert got.headers["content-length"] == "3"
    assert asked.inside.standin.snapshot() == []
    line = asked.line()
    assert (line["decision"], line["reason"], line["gate"]) == ("allow", "addon", "addons")
    assert (line["status"], line["cost_usd"], line["charged_by"]) == (418, "0", "none")
    assert line["call_id"] == got.headers["x-tollhouse-call-id"]
    assert asked.inside.held() == []


def test_what_it_changes_is_sent_and_metered(asked: Asked) -> None:
    """Another model: its price is charged, it stands in the line, and the body has its length."""
    assert asked.post("request model").status_code == 200
    [received] = asked.inside.standin.snapshot()
    assert received.document()["model"] == "gpt-4o-mini"
    assert received.get("content-length") == str(len(received.body))
    line = asked.line()
    assert (line["model"], line["charged_by"]) == ("gpt-4o-mini", "usage")


def test_what_it_changes_is_judged(asked: Asked) -> None:
    """A model without a price is refused as if the client had asked for it."""
    asked.refused(asked.post("request unpriced"), 403, "model_unpriced")


def test_what_it_changes_is_held(asked: Asked) -> None:
    """The output cap that it wrote is what is held."""
    line = asked.refused(asked.post("request larger"), 402, "budget_exceeded")
    assert line["gate"] == "budget"


def test_a_body_that_is_too_large(asked: Asked) -> None:
    asked.refused(asked.post("request huge"), 413, "body_too_large")


def test_credentials_are_stripped(asked: Asked) -> None:
    """Only our key is sent, and nothing that ends at this hop; other headers are."""
    assert asked.post("request credentials").status_code == 200
    [received] = asked.inside.standin.snapshot()
    assert received.get_all("authorization") == [f"Bearer {asked.inside.standin.key}"]
    assert b"sk-of-the-addon" not in received.everything()
    assert received.get("x-kept") == "kept"
    assert received.get_all("content-length") == [str(len(received.body))]


@pytest.mark.parametrize("what", ["host", "header-host", "port", "method", "crlf"])
def test_what_must_stay(asked: Asked, what: str) -> None:
    """Host, port and method were judged; a header can't become two."""
    asked.refused(asked.post(f"request {what}"), 503, "addon_failed")


def test_another_path(asked: Asked) -> None:
    """It is judged as a path that the client had asked for."""
    got = asked.post("request path", {"model": "text-embedding-3-small", "input": "hi"})
    assert got.status_code == 200
    [received] = asked.inside.standin.snapshot()
    assert received.target == "/v1/embeddings"
    assert asked.line()["path"] == "/v1/embeddings"


def test_a_credential_in_another_path(asked: Asked) -> None:
    asked.post("request keyed")
    [received] = asked.inside.standin.snapshot()
    assert received.target == f"{CHAT}?a=b"


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [("closed", 403, "path_not_allowed"), ("dots", 400, "bad_request")],
)
def test_a_path_that_is_closed(asked: Asked, what: str, status: int, code: str) -> None:
    got = asked.post(f"request {what}")
    assert got.headers["x-tollhouse-reason"] in (code, "endpoint_forbidden")
    assert got.status_code == status
    assert asked.inside.standin.snapshot() == []


def test_a_coded_body_is_given_plain(asked: Asked) -> None:
    """Unchanged it is sent as it came; changed it is sent plain. A charset that stands for a coding is refused."""
    coded = gzip.compress(json.dumps(BODY).encode())
    # The stand-in reads no gzip.
    asked.inside.standin.script(reply(200, b"{}"))
    assert asked.post("", coded, **{"content-encoding": "gzip"}).status_code == 200
    assert asked.post("request model", coded, **{"content-encoding": "gzip"}).status_code == 200
    same, changed = asked.inside.standin.snapshot()
    assert (same.body, same.get("content-encoding")) == (coded, "gzip")
    assert changed.document() == {**BODY, "model": "gpt-4o-mini"}
    assert changed.get("content-encoding") == ""
    odd = asked.post("", coded, **{"content-type": "application/json; charset=gzip"})
    assert (odd.status_code, odd.headers["x-tollhouse-reason"]) == (400, "bad_request")


def test_a_changed_answer(asked: Asked) -> None:
    """The client gets what the addon made; the count is of what the provider sent."""
    got = asked.post("response text")
    assert "CHAT.COMPLETION" in got.text
    assert got.headers["content-length"] == str(len(got.content))
    line = asked.line()
    assert line["charged_by"] == "usage"
    assert line["tokens"]["input"] > 0


def test_status_and_headers(asked: Asked) -> None:
    """They are the addon's; ours can't be forged."""
    got = asked.post("responseheaders status")
    assert (got.status_code, got.headers["x-new"]) == (299, "new")
    assert "x-tollhouse-reason" not in got.headers
    assert asked.line()["status"] == 299


@pytest.mark.parametrize("what", ["away", "crlf"])
def test_an_answer_that_is_none(asked: Asked, what: str) -> None:
    got = asked.post(f"response {what}")
    assert (got.status_code, got.headers["x-tollhouse-reason"]) == (503, "addon_failed")


def test_an_answer_that_is_too_long(asked: Asked) -> None:
    """A hook response has all of it; more than max_body_bytes is refused, and charged."""
    asked.inside.standin.script(reply(200, b"x" * 1_100_000))
    got = asked.post()
    assert (got.status_code, got.headers["x-tollhouse-reason"]) == (503, "addon_failed")
    assert "max_body_bytes" in got.text
    assert asked.inside.held() == []


def test_whose_call_it_is(asked: Asked) -> None:
    got = asked.post("response seen")
    assert json.loads(got.headers["x-seen"]) == [
        f"tollhouse.{name}"
        for name in ("call_id", "identity", "operation", "project", "provider", "tenant")
    ]
    assert got.headers["x-client"] == "127.0.0.1"
    assert got.headers["x-server"] == "('api.openai.com', 443)"


def streamed(asked: Asked, do: str) -> tuple[int, bytes]:
    got = asked.post(do, {**BODY, "stream": True})
    return got.status_code, got.content


def test_streams(asked: Asked) -> None:
    """Kept whole for a hook response; passed on where responseheaders says so, through a callable if it gives one."""
    status, plain = streamed(asked, "")
    assert (status, plain[-14:]) == (200, b"data: [DONE]\n\n")
    _, passed = streamed(asked, "responseheaders stream")
    assert passed.count(b"data:") == plain.count(b"data:")
    _, upper = streamed(asked, "responseheaders upper")
    assert b"DATA: [DONE]" in upper
    assert b"data:" not in upper
    asked.inside.until(lambda gateway: not gateway.journey.under_way)
    for line in asked.inside.lines()[-3:]:
        assert (line["charged_by"], line["stream"], line["reason"]) == ("usage", True, "")


def test_a_callable_that_fails_cuts_the_stream(asked: Asked) -> None:
    import httpx2

    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        asked.post("responseheaders broken", {**BODY, "stream": True})
    line = asked.line()
    assert (line["reason"], line["decision"]) == ("addon_failed", "fail")


def test_one_that_is_slow_is_said_once(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """It holds up all calls. It is counted each time."""
    addons = asked.inside.gateway.addons
    assert addons is not None
    before = addons.slow["own.py:Switched"]
    assert asked.post("request slow").status_code == 200
    assert asked.post("request slow").status_code == 200
    assert addons.slow["own.py:Switched"] == before + 2
    assert caplog.text.count("held up all calls") == (0 if before else 1)
    with asked.client() as client:
        host = asked.inside.gateway.addresses["admin"]
        shown = client.get(f"http://{host}/metrics").text if asked.way == "base_url" else ""
    if shown:
        assert 'tollhouse_addon_slow_hooks_total{addon="own.py:Switched"}' in shown
        assert 'tollhouse_addon_failures_total{addon="own.py:Switched"}' in shown


def test_the_key_is_never_on_a_flow(tmp_path: Path) -> None:
    """Neither in the request that an addon sees nor in an answer that repeats the key."""
    text = """
import json
class Spy:
    def response(self, flow):
        seen = json.dumps([flow.get_state(), flow.response.text], default=str)
        open(__file__ + ".seen", "a").write(seen)
"""
    with with_addon(tmp_path, "own.py:Spy", text) as inside:
        asked = Asked(inside, "own")
        inside.standin.script(
            reply(200, f"you sent {inside.standin.key}".encode(), [("x-k", inside.standin.key)])
        )
        assert "[redacted" in asked.post().text
        seen = (tmp_path / "own.py.seen").read_text()
        assert "[redacted" in seen
        clean = inside.standin.key not in seen and inside.token not in seen
        assert clean


def test_only_responseheaders_leaves_a_stream(tmp_path: Path) -> None:
    """Each event is with the client before the next one is sent."""
    with with_addon(tmp_path, "own.py:Heads") as inside:
        asked, steps = Asked(inside, "own"), Steps()
        inside.standin.script(Behaviour(steps=steps))
        steps.release()
        with (
            asked.client() as client,
            client.stream("POST", CHAT, json={**BODY, "stream": True}) as got,
        ):
            assert got.headers["x-heads"] == "seen"
            pieces = got.iter_raw()
            assert next(pieces).startswith(b"data:")
            steps.release_all()
            assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


def test_nothing_is_made_without_addons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No flow, and no gate. With an addon there is one flow a call."""
    made: list[HTTPFlow] = []
    begin: Callable[..., None] = HTTPFlow.__init__

    def counted(self: HTTPFlow, *arguments: Any, **more: Any) -> None:
        made.append(self)
        begin(self, *arguments, **more)

    monkeypatch.setattr(HTTPFlow, "__init__", counted)
    (tmp_path / "without").mkdir()
    with open_inside(tmp_path / "without") as inside:
        for way in ("own", "http2"):
            assert Asked(inside, way).post().status_code == 200
        assert made == []
        assert "addons" not in [gate.name for gate in inside.gateway.journey.gates]
    with with_addon(tmp_path / "with", "own.py:Heads") as inside:
        assert Asked(inside, "own").post().status_code == 200
        assert len(made) == 1


@pytest.mark.parametrize("way", WAYS)
def test_the_example_that_masks(tmp_path: Path, way: str) -> None:
    """docs/examples/mask_email.py: no address leaves, in a plain body or a compressed one; what is no JSON does not leave."""
    text = (EXAMPLES / "mask_email.py").read_text()
    said = {
        **BODY,
        "messages": [{"role": "user", "content": "write to jo.doe+x@mail.example.com!"}],
    }
    with with_addon(tmp_path, "own.py:MaskEmail", text, way) as inside:
        asked = Asked(inside, way)
        assert asked.post("", said).status_code == 200
        coded = gzip.compress(json.dumps(said).encode())
        assert asked.post("", coded, **{"content-encoding": "gzip"}).status_code == 200
        escaped = json.dumps(said).replace("@", "\\u0040").encode()
        assert asked.post("", escaped).status_code == 200
        for received in inside.standin.snapshot():
            assert received.document()["messages"][0]["content"] == "write to [e-mail]!"
        assert asked.post("", b"{jo@example.com").headers["x-tollhouse-reason"] == "addon_failed"
        assert len(inside.standin.snapshot()) == 3


@pytest.mark.parametrize("way", WAYS)
def test_the_example_that_audits(tmp_path: Path, way: str) -> None:
    """docs/examples/audit_header.py: its option is set, the provider gets the header, and the client its own."""
    text = (EXAMPLES / "audit_header.py").read_text()
    options = {"options": {"audit_header": "X-Company-Audit"}}
    with with_addon(tmp_path, "own.py:AuditHeader", text, way, **options) as inside:
        asked = Asked(inside, way)
        got = asked.post()
        [received] = inside.standin.snapshot()
        assert received.get("x-company-audit") == f"{PROJECT} {got.headers['x-tollhouse-call-id']}"
        assert got.headers["x-company-audit"] == "said"


def test_their_life(tmp_path: Path) -> None:
    """load, configure, running and done, in mitmproxy's order, async or not."""
    text = """
from mitmproxy import ctx
told = open(__file__ + ".told", "a", buffering=1)
class Living:
    def load(self, loader):
        loader.add_option("greeting", str, "hello", "A greeting.")
        loader.add_command("greet", lambda: None)
        print("load", file=told)
    def configure(self, updated):
        print("configure", "greeting" in updated, ctx.options.greeting, file=told)
    async def running(self):
        print("running", file=told)
    async def request(self, flow):
        print("request", file=told)
    def websocket_message(self, flow): ...
    async def done(self):
        print("done", file=told)
"""
    options = {"options": {"greeting": "good day"}}
    with with_addon(tmp_path, "own.py:Living", text, **options) as inside:
        assert Asked(inside, "own").post().status_code == 200
    assert (tmp_path / "own.py.told").read_text().splitlines() == [
        "load",
        "configure True good day",
        "running",
        "request",
        "done",
    ]


@pytest.mark.parametrize(
    ("do", "ends"),
    [
        ("", "refused"),
        ("responseheaders stream", "told"),
        ("responseheaders upper", "told"),
        ("responseheaders halves", "cut"),
    ],
)
def test_a_stream_whose_budget_ends(tmp_path: Path, do: str, ends: str) -> None:
    """Its client is told in a last event, where an event has ended; of a kept answer it gets a refusal and no byte."""
    import httpx2

    text = ADDON.replace(
        'case "upper":',
        """case "halves":
                flow.response.stream = lambda data: data + b"data: half"
            case "upper":""",
    )
    place(tmp_path, text)
    more = settings("own.py:Switched")
    more[f"projects.{PROJECT}"] = {"limits": ["0.025 usd/day"]}
    with open_inside(tmp_path, more) as inside:
        asked, got = Asked(inside, "own"), b""
        inside.standin.script(Behaviour(text=" word" * 6000))
        body = {"model": "gpt-4o", "messages": BODY["messages"], "stream": True}
        context = (
            contextlib.nullcontext() if ends != "cut" else pytest.raises(httpx2.TransportError)
        )
        with (
            asked.client() as client,
            client.stream("POST", CHAT, json=body, headers={"x-do": do}) as answer,
            context,
        ):
            for piece in answer.iter_raw():
                got += piece
        assert answer.status_code == (402 if ends == "refused" else 200)
        assert (b"The budget does not cover" in got) == (ends != "cut")
        assert (b"[DONE]" in got) is False
        assert asked.line()["reason"] == "budget_exceeded"
        assert inside.held() == []


def test_a_client_that_leaves_during_a_hook(tmp_path: Path) -> None:
    """The hook is cancelled, nothing leaves, and the hook error is told."""
    text = """
import asyncio
class Waits:
    async def request(self, flow):
        note("waits")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note("cancelled")
            raise
    def error(self, flow):
        note(str(flow.error))
def note(text):
    with open(__file__ + ".told", "a") as told:
        print(text, file=told)
"""
    with with_addon(tmp_path, "own.py:Waits", text, timeout_s=30) as inside:
        import httpx2

        told = tmp_path / "own.py.told"
        asked = Asked(inside, "own")
        with asked.client() as client, pytest.raises(httpx2.ReadTimeout):
            client.post(CHAT, json=BODY, timeout=httpx2.Timeout(30, read=0.5))
        line = asked.line()
        assert (line["reason"], line["status"], line["cost_usd"]) == ("client_gone", 0, "0")
        assert told.read_text().splitlines() == ["waits", "cancelled", "client_gone"]
        assert inside.standin.snapshot() == []


def test_answers_without_a_body(asked: Asked) -> None:
    """An empty answer passes the hooks; one that a hook fills has a length."""
    asked.inside.standin.script(reply(204), reply(200, b""), reply(200, b""))
    with asked.client() as client:
        prefix = "/openai" if asked.way == "base_url" else ""
        url = f"{prefix}/v1/models"
        got = client.get(url, headers={"x-do": "response seen"})
        assert (got.status_code, got.content, "x-seen" in got.headers) == (204, b"", True)
        got = client.get(url)
        assert (got.status_code, got.content) == (200, b"")
        got = client.get(url, headers={"x-do": "response text"})
        assert got.status_code == 200


def test_a_provider_that_cuts_its_answer(asked: Asked) -> None:
    """An answer that is kept is refused whole, and the addon is told."""
    asked.inside.standin.script(Behaviour(cut_after=1, text="a b c d e f"))
    got = asked.post("", {**BODY, "stream": True})
    assert (got.status_code, got.headers["x-tollhouse-reason"]) == (502, "upstream_bad_answer")


def test_the_path_on_the_flow_is_the_one_that_is_sent(tmp_path: Path) -> None:
    """At the base URL without its prefix, everywhere without the token in the query."""
    text = """
class Shows:
    def responseheaders(self, flow):
        flow.response.headers["x-url"] = flow.request.pretty_url
"""
    with with_addon(tmp_path, "own.py:Shows", text) as inside:
        for way, path in (("base_url", "/openai/v1/models?a=b"), ("http2", "/v1/models?a=b")):
            with Asked(inside, way).client() as client:
                got = client.get(f"{path}&key={inside.token}")
            assert got.headers["x-url"] == "https://api.openai.com/v1/models?a=b"


def test_many_calls_at_once(shared: tuple[Inside, str]) -> None:
    """Each call has a flow of its own, and the one that fails is refused alone."""
    from concurrent.futures import ThreadPoolExecutor

    inside, way = shared
    asked = Asked(inside, way)
    does = ["request raise", "request answer", "response text", "", "responseheaders upper"] * 8
    with ThreadPoolExecutor(8) as pool:
        found = [got.status_code for got in pool.map(asked.post, does)]
    assert found == [503, 418, 200, 200, 200] * 8
    assert len(inside.standin.snapshot()) == 24
    inside.until(lambda gateway: not gateway.journey.under_way)
    assert inside.held() == []
    assert inside.gateway.bodies.kept_bytes == 0
