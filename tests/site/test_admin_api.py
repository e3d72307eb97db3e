"""The admin API through a running gateway: what it takes, what it refuses and how, and what the audit log has of it."""

from __future__ import annotations

import gzip
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.support.inproc import PROJECT, TENANT, Inside, open_inside

from tollhouse.site.api_document import document
from tollhouse.site.api_endpoints import ENDPOINTS, PARAMETERS
from tollhouse.site.login_attempts import BURST

PREFIX = "/api/v1"
SETTINGS = {"tenant": TENANT, "limits": ["5 usd/day"]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    settings: dict[str, dict[str, Any]] = {
        "admin": {"api": True, "unsafe_open_metrics": False},
        "tenants.globex": {"limits": ["50 usd/month"]},
    }
    with open_inside(tmp_path_factory.mktemp("api"), settings) as inside:
        yield inside


def perform(inside: Inside, name: str, **arguments: Any) -> Any:
    return inside.do(inside.gateway.operations.perform(name, arguments))


class Client:
    """Each answer is judged by the document."""

    def __init__(self, inside: Inside, bearer: str | None = None, **headers: str) -> None:
        if bearer is None:
            bearer = perform(inside, "admin_create", label="terraform")["token"]
        self.token = bearer
        self.http = httpx2.Client(
            base_url=f"http://{inside.gateway.addresses['admin']}{PREFIX}",
            headers={**({"Authorization": f"Bearer {bearer}"} if bearer else {}), **headers},
            trust_env=False,
        )

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        if body is not None:
            more["json"] = body
        answer = self.http.request(method, path, **more)
        judged(method, path.partition("?")[0], answer)
        return answer


def judged(method: str, path: str, answer: httpx2.Response) -> None:
    whole = document()
    kind = answer.headers["content-type"].partition(";")[0]
    found = next((e for e in ENDPOINTS if e.method == method and fits(e.path, path)), None)
    if found is None:
        schema: dict[str, Any] = {"$ref": "#/components/schemas/ProblemTold"}
    else:
        told = whole["paths"][found.path][method.lower()]["responses"][str(answer.status_code)]
        schema = told["content"][kind]["schema"]
    Draft202012Validator({**schema, "components": whole["components"]}).validate(answer.json())


def fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def problem(answer: httpx2.Response, status: int, code: str) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["type"]) == (status, f"urn:tollhouse:problem:{code}")
    return told


@pytest.fixture(scope="module")
def api(shared: Inside) -> Client:
    return Client(shared)


def changes(api: Client) -> list[Any]:
    """The whole audit log, page by page."""
    found: list[Any] = []
    after: str | None = ""
    while after is not None:
        answer = api("GET", f"/audit?count=20&after={after}")
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        after = answer.json()["next"]
    return found


def test_the_document_is_sound(shared: Inside, api: Client) -> None:
    """OpenAPI 3.1 by its own schema, and it is shown without a token."""
    served = Client(shared, "").http.get("/openapi.json").json()
    assert served == document()
    OpenAPIV31SpecValidator(served).validate()
    assert served["openapi"].startswith("3.1")
    names = {re.findall(r"\{(\w+)\}", path)[0] for path in served["paths"] if "{" in path}
    assert names <= PARAMETERS.keys()


def test_a_project_as_terraform_keeps_it(api: Client) -> None:
    """Made, read, put again, changed, listed and removed; each may be done twice."""
    path = "/projects/tf-one"
    problem(api("GET", path), 404, "not-found")
    made = api("PUT", path, SETTINGS)
    assert made.status_code == 201
    assert made.json() == api("GET", path).json()
    assert made.json()["source"] == "stored"
    again = api("PUT", path, SETTINGS)
    assert (again.status_code, again.json()) == (200, made.json())
    changed = api("PUT", path, {**SETTINGS, "limits": ["7 usd/day"], "models": ["gpt-4o*"]})
    assert (changed.json()["limits"], changed.json()["models"]) == (["7 usd/day"], ["gpt-4o*"])
    back = api("PUT", path, {"tenant": TENANT}).json()
    assert (back["limits"], back["models"]) == ([], [])
    scopes = [s["scope"] for s in api("GET", f"{path}/budget").json()["scopes"]]
    assert scopes == [f"tenant:{TENANT}", "project:tf-one"]
    token = api("POST", "/tokens", {"projects": ["tf-one"]}).json()
    gone = {"project": "tf-one", "revoked": [token["id"]]}
    assert api("DELETE", path).json() == gone
    assert api("DELETE", path).json() == {**gone, "revoked": []}
    assert api("GET", f"/tokens/{token['id']}").json()["revoked_at"] is not None


def test_pages(api: Client) -> None:
    """Each project once, in order, however many there are in a page."""
    for number in range(5):
        api("PUT", f"/projects/page-{number}", SETTINGS)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = api("GET", f"/projects?count=2&after={after}").json()
        assert len(page["items"]) <= 2
        found += [each["project"] for each in page["items"]]
        after = page["next"]
    assert found == sorted(set(found))
    assert {PROJECT, *(f"page-{number}" for number in range(5))} <= set(found)


def test_what_the_file_names_is_read_only(api: Client) -> None:
    assert api("GET", f"/projects/{PROJECT}").json()["source"] == "file"
    for answer in (
        api("PUT", f"/projects/{PROJECT}", SETTINGS),
        api("DELETE", f"/projects/{PROJECT}"),
        api("PUT", "/tenants/globex", {"limits": ["1 usd/day"]}),
        api("DELETE", "/tenants/globex"),
    ):
        told = problem(answer, 409, "of-the-file")
        assert "tollhouse reload" in told["action"]
    assert api("GET", f"/projects/{PROJECT}").json()["limits"][0] == "10 usd/day"


def test_a_token_is_shown_once_and_works(shared: Inside, api: Client) -> None:
    """Its calls are let in until it is revoked here, and no other answer has it."""
    made = api("POST", "/tokens", {"projects": [PROJECT], "label": "ci", "expires_in_s": 600})
    assert made.status_code == 201
    token = made.json()["token"]
    path = f"/tokens/{made.json()['id']}"
    assert call(shared, token) == 200
    shown = api("GET", path)
    assert shown.json()["kind"] == "gate"
    moved = api("PUT", f"{path}/expiry", {"expires_in_s": 1200}).json()
    assert moved["expires_at"] > shown.json()["expires_at"]
    rotated = api("POST", f"{path}/rotations", {"overlap_s": 60}).json()
    assert rotated["replaces"] == made.json()["id"]
    assert call(shared, rotated["token"]) == 200
    for _ in range(2):
        assert api("DELETE", path).json()["revoked_at"] is not None
    assert call(shared, token) == 401
    listed = api("GET", f"/tokens?project={PROJECT}&count=200")
    logged = api("GET", "/audit?count=200")
    assert made.json()["id"] in {each["id"] for each in listed.json()["items"]}
    for answer in (shown, listed, logged):
        assert token not in answer.text
        assert rotated["token"] not in answer.text


def call(inside: Inside, token: str, project: str | None = None) -> int:
    return httpx2.post(
        f"http://{inside.gateway.addresses['base_url']}/v1/chat/completions",
        json={
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "Hi."}],
            "max_completion_tokens": 5,
        },
        headers={
            "Authorization": f"Bearer {token}",
            **({"X-Coreason-Project-ID": project} if project else {}),
        },
        trust_env=False,
    ).status_code


def test_limits_of_a_tenant_and_a_grant(api: Client) -> None:
    problem(api("GET", "/tenants/new"), 404, "not-found")
    for _ in range(2):
        put = api("PUT", "/tenants/new", {"limits": ["9 usd/month"]})
        assert put.json() == {"tenant": "new", "limits": ["9 usd/month"], "source": "stored"}
    assert api("GET", "/tenants/new").json() == put.json()
    assert api("DELETE", "/tenants/new").json()["limits"] == []
    problem(api("GET", "/tenants/new"), 404, "not-found")
    api("PUT", "/projects/granted", SETTINGS)
    path, wanted = "/projects/granted/grants/g1", {"amount": "2 usd", "reason": "a demo"}
    first, again = api("PUT", path, wanted), api("PUT", path, wanted)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["repeated"] is True
    problem(api("PUT", path, {**wanted, "amount": "3 usd"}), 409, "refused")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "pointer"),
    [
        ("PUT", "/projects/x", {"tenant": TENANT, "limit": []}, 422, "not-valid", "/limit"),
        ("PUT", "/projects/x", {"tenant": "a/b"}, 422, "not-valid", "/tenant"),
        ("PUT", "/projects/x", {"tenant": TENANT, "limits": ["5 eur/day"]}, 422, "not-valid", ""),
        ("PUT", "/projects/x", {"tenant": TENANT, "models": ["no/x"]}, 422, "not-valid", "/models"),
        ("PUT", "/projects/x", {"tenant": TENANT, "limits": [5]}, 422, "not-valid", "/limits/0"),
        ("PUT", "/projects/x", [], 422, "not-valid", ""),
        ("PUT", "/projects/a%2Fb", SETTINGS, 422, "not-valid", ""),
        ("PUT", "/projects/x", {"tenant": "x" * 70_000}, 413, "too-large", ""),
        ("PUT", "/tenants/x", {"limits": []}, 422, "not-valid", "/limits"),
        ("POST", "/tokens", {"projects": []}, 422, "not-valid", "/projects"),
        ("POST", "/tokens", {"projects": ["none"]}, 404, "not-found", ""),
        ("POST", "/tokens", {"kind": "admin"}, 422, "not-valid", "/kind"),
        ("POST", "/tokens", {"kind": "view", "projects": ["p"]}, 422, "not-valid", "/projects"),
        ("GET", "/tokens/tok_0", None, 422, "not-valid", ""),
        ("GET", "/tokens/tok_" + "0" * 16, None, 404, "not-found", ""),
        ("GET", "/projects?count=1000", None, 422, "not-valid", "/count"),
        ("GET", "/projects?count=1&count=2", None, 422, "not-valid", ""),
        ("GET", "/projects?page=2", None, 422, "not-valid", "/page"),
        ("GET", "/projects/x?y=1", None, 422, "not-valid", ""),
        ("GET", "/audit?since=yesterday", None, 422, "not-valid", "/since"),
        ("GET", "/audit?after=x", None, 422, "not-valid", ""),
        ("GET", "/audit?after=" + "9" * 20, None, 422, "not-valid", ""),
        ("GET", "/nothing", None, 404, "not-found", ""),
        ("PATCH", "/projects/x", {}, 405, "method", ""),
        ("POST", "/projects/x", {}, 405, "method", ""),
    ],
)
def test_refusals(
    api: Client, method: str, path: str, body: Any, status: int, code: str, pointer: str
) -> None:
    """Each says what is wrong, and where in the body it is."""
    before = changes(api)
    told = problem(api(method, path, body), status, code)
    if pointer:
        assert pointer in [error["pointer"] for error in told["errors"]]
    assert changes(api) == before


def test_what_is_no_json(api: Client) -> None:
    path = "/projects/x"
    json = {"Content-Type": "application/json"}
    problem(api("PUT", path, content=b"{", headers=json), 400, "not-json")
    problem(api("PUT", path, content=b"[" * 60_000, headers=json), 400, "not-json")
    problem(api("PUT", path, data={"tenant": TENANT}), 415, "content-type")
    packed = {**json, "Content-Encoding": "gzip"}
    sent = gzip.compress(b'{"tenant": "acme"}')
    problem(api("PUT", path, content=sent, headers=packed), 415, "content-type")


def test_who_may_not(shared: Inside, api: Client) -> None:
    """No token, one that only looks, a gate token, one that was revoked; and no cookie is ever taken for one."""
    asked = ("PUT", "/projects/x", SETTINGS)
    none = Client(shared, "")(*asked)
    assert "Bearer" in none.headers["www-authenticate"]
    problem(none, 401, "no-token")
    viewer = perform(shared, "viewer_create")["token"]
    for bearer in (viewer, shared.token):
        for method, path, body in (asked, ("GET", "/projects", None)):
            told = problem(Client(shared, bearer)(method, path, body), 403, "not-admin")
            assert "--admin" in told["action"]
    made = perform(shared, "admin_create")
    perform(shared, "token_revoke", token_id=made["id"])
    problem(Client(shared, made["token"])(*asked), 401, "token")
    browser = httpx2.Client(base_url=api.http.base_url.join("/"), trust_env=False)
    entered = browser.post("/login", data={"token": api.token})
    assert entered.status_code == 303
    assert "Budgets" in browser.get("/").text
    refused = browser.put(f"{PREFIX}/projects/x", json=SETTINGS)
    problem(refused, 401, "no-token")
    problem(api("GET", "/projects/x"), 404, "not-found")


def test_an_admin_token_lives_no_longer_by_the_api(shared: Inside, api: Client) -> None:
    own = perform(shared, "admin_create", expires_s=600.0)["id"]
    problem(api("PUT", f"/tokens/{own}/expiry", {"expires_in_s": 9e9}), 409, "admin-token")
    problem(api("POST", f"/tokens/{own}/rotations", {}), 409, "admin-token")
    assert api("DELETE", f"/tokens/{own}").json()["revoked_at"] is not None


def test_an_admin_token_charges_nothing(shared: Inside, api: Client) -> None:
    assert call(shared, api.token) == 400
    assert call(shared, api.token, PROJECT) == 403


def test_another_host_and_the_clear(shared: Inside) -> None:
    """A page that DNS rebinding leads here gets a problem as well."""
    problem(Client(shared, Host="evil.example")("GET", "/projects"), 421, "host")


def test_guessing_is_slowed_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After some failures no more are judged, and a token that was good a moment ago goes on. From another host no token is
    taken in the clear."""
    settings: dict[str, dict[str, Any]] = {
        "admin": {"api": True},
        "listen": {"admin": "0.0.0.0:0"},
    }
    with open_inside(tmp_path_factory.mktemp("guessing"), settings) as inside:
        good, wrong = Client(inside), Client(inside, "gate_wrong")
        assert good("GET", "/projects").status_code == 200
        answers = [wrong("GET", "/projects") for _ in range(BURST + 5)]
        assert answers[0].status_code == 401
        assert int(answers[-1].headers["retry-after"]) > 0
        problem(answers[-1], 429, "too-many-logins")
        assert good("GET", "/projects").status_code == 200
        later = Client(inside)
        problem(later("GET", "/projects"), 429, "too-many-logins")
        if own := _own_address():
            port = inside.gateway.addresses["admin"].rpartition(":")[2]
            clear = httpx2.get(f"http://{own}:{port}{PREFIX}/projects", trust_env=False)
            assert "[admin] tls" in problem(clear, 403, "unencrypted")["detail"]


def _own_address() -> str:
    """An address of this machine that is not a loopback one; empty if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        host = str(one.getsockname()[0])
    return "" if host.startswith("127.") else host


def test_off_by_default(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_inside(tmp_path_factory.mktemp("off")) as inside:
        made = perform(inside, "admin_create")
        answer = Client(inside, made["token"]).http.get("/projects")
        assert answer.status_code == 404
        assert "the admin API, where it is on" in answer.json()["error"]


def test_the_audit_log(shared: Inside, api: Client) -> None:
    """Who, what, before and after; of the file, of commands and of the API; a change that changes nothing is none."""
    of_file = [r["via"] for r in changes(api) if r["target"] == f"project:{PROJECT}"]
    assert of_file == ["file"]
    path = "/projects/audited"
    for limits in (["1 usd/day"], ["1 usd/day"], ["2 usd/day"]):
        api("PUT", path, {"tenant": TENANT, "limits": limits})
    api("DELETE", path)
    found = [r for r in changes(api) if r["target"] == "project:audited"]
    limits = [(r["before"] or {}).get("limits") for r in found]
    assert limits == [None, ["1 usd/day"], ["2 usd/day"]]
    assert [(r["after"] or {}).get("limits") for r in found] == [["1 usd/day"], ["2 usd/day"], None]
    assert {(r["via"], r["by_name"]) for r in found} == {("api", "terraform")}
    assert api("GET", "/audit?since=2999-01-01T00:00:00Z").json() == {"items": [], "next": None}
    since = api("GET", "/audit?since=2020-01-01T00:00:00Z&count=1").json()
    assert since["items"] == changes(api)[:1]
