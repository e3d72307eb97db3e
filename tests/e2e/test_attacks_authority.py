"""SECURITY.md rows 1 to 4, 6 and 7: whom a connection is for, said in one place and then otherwise in another."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
from tests.support.attack import GET, HOST, Attacked, get
from tests.support.inproc import Inside, open_inside
from tests.support.raw import Answer, Closed, H2Client, RawClient

OTHER = "us.api.openai.com"
"""A provider's host as well, but not the one that the tunnel is for."""


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        OTHER,
        "api.openai.com:8443",
        "api.openai.com:22",
        "10.0.0.1",
        "user@api.openai.com",
        "",
    ],
)
def test_the_inner_host_is_another(attacked: Attacked, host: str) -> None:
    """Row 1: the tunnel is for one host, the request in it names another, or another port."""
    with attacked.tunnel() as client:
        answer = client.ask(get(host=host))
    attacked.refused(answer, 421, "authority_mismatch")


def test_no_host_at_all(attacked: Attacked) -> None:
    """Row 1: HTTP/1.1 without Host is malformed, whatever the tunnel is for."""
    with attacked.tunnel() as client:
        answer = client.ask(b"GET /v1/models HTTP/1.1\r\n\r\n")
    attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize(
    "sni", ["evil.test", OTHER, "api.openai.com.evil.test", "evil.test.", None]
)
def test_the_sni_is_another_or_none(attacked: Attacked, sni: str | None) -> None:
    """Row 2: the handshake is ended with an alert before a certificate is shown."""
    with attacked.client() as client:
        assert client.connect(f"{HOST}:443", attacked.credentials).status == 200
        with pytest.raises((ssl.SSLError, Closed)):
            client.tls(sni)
        assert client.rest() == b""
    attacked.tls_refused()


# `ssl` itself ends the handshake of a name that is no ASCII.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "name", [b"api.openai.co\xe4", b"api.openai.co\x00", b"api.openai.c m", b"api_openai.com"]
)
def test_the_sni_is_no_name(attacked: Attacked, name: bytes) -> None:
    """Row 2: bytes that are no DNS name, patched into a ClientHello."""
    with attacked.client() as client:
        assert client.connect(f"{HOST}:443", attacked.credentials).status == 200
        client.send_plain(client.hello(HOST).replace(HOST.encode(), name))
        with pytest.raises((ssl.SSLError, Closed)):
            client.handshake()
    attacked.tls_refused()


@pytest.mark.parametrize(
    ("target", "host", "status", "reason"),
    [
        ("https://evil.test/v1/models", HOST, 421, "authority_mismatch"),
        ("https://evil.test/v1/models", "evil.test", 421, "authority_mismatch"),
        (f"https://{OTHER}/v1/models", HOST, 421, "authority_mismatch"),
        (f"https://{HOST}/v1/models", "evil.test", 421, "authority_mismatch"),
        (f"http://{HOST}/v1/models", HOST, 421, "authority_mismatch"),
        (f"https://{HOST}:80/v1/models", HOST, 421, "authority_mismatch"),
        (f"https://{HOST}@evil.test/v1/models", HOST, 421, "authority_mismatch"),
        (f"https://evil.test@{HOST}/v1/models", HOST, 421, "authority_mismatch"),
        (f"https://{HOST}\\@evil.test/v1/models", HOST, 421, "authority_mismatch"),
        ("https://127.0.0.1/v1/models", HOST, 421, "authority_mismatch"),
        ("https://[::1]/v1/models", HOST, 421, "authority_mismatch"),
        (f"https://{HOST}#.evil.test/v1/models", HOST, 400, "bad_request"),
        (f"https://{HOST}?.evil.test/v1/models", HOST, 400, "bad_request"),
        (f"https:/{HOST}/v1/models", HOST, 400, "bad_request"),
        ("https:///v1/models", HOST, 400, "bad_request"),
        (f"ftp://{HOST}/v1/models", HOST, 400, "bad_request"),
        (f"//{HOST}/v1/models", HOST, 400, "bad_request"),
        ("//evil.test/v1/models", HOST, 400, "bad_request"),
        ("evil.test:443", HOST, 400, "bad_request"),
        ("v1/models", HOST, 400, "bad_request"),
        ("*", HOST, 400, "bad_request"),
    ],
)
def test_the_target_is_absolute(
    attacked: Attacked, target: str, host: str, status: int, reason: str
) -> None:
    """Row 3: a request target in absolute form, or in none, that names another host than the tunnel is for."""
    with attacked.tunnel() as client:
        answer = client.ask(get(path=target, host=host))
    attacked.refused(answer, status, reason)


@pytest.mark.parametrize(
    "target", [f"https://{HOST}/v1/models", f"HTTPS://{HOST.upper()}:443/v1/models"]
)
def test_an_absolute_target_for_the_same_host(attacked: Attacked, target: str) -> None:
    """Row 3: the same host in absolute form is the same request; the provider gets the origin form."""
    with attacked.tunnel() as client:
        assert client.ask(get(path=target)).status == 200
    assert attacked.clean().target == "/v1/models"
    attacked.lines(1)


def head(**changed: str) -> list[tuple[str, str]]:
    """An HTTP/2 request's head; ``authority="..."`` and so on changes a pseudo-header."""
    named = {"method": "GET", "scheme": "https", "path": "/v1/models", "authority": HOST} | changed
    return [(f":{key}", value) for key, value in named.items()]


def ask(client: H2Client, headers: list[tuple[str, str]]) -> Answer:
    with client.raw:
        return client.answer(client.request(headers))


@pytest.mark.parametrize(
    "headers",
    [
        head(authority="evil.test"),
        head(authority=OTHER),
        head(authority=f"{HOST}:8443"),
        head(authority=f"user@{HOST}"),
        head(authority="10.0.0.1"),
        [*head(), ("host", "evil.test")],
        [*head(authority="evil.test"), ("host", HOST)],
        [*head(authority="evil.test"), ("host", "evil.test")],
        [*head()[:3], ("host", "evil.test")],
        head(scheme="http"),
        head(path=f"https://{HOST}/v1/models", authority="evil.test"),
    ],
)
def test_the_authority_of_http2_is_another(
    attacked: Attacked, headers: list[tuple[str, str]]
) -> None:
    """Row 4: :authority, host and the tunnel differ in any way; the stream is answered, the connection stays."""
    client = attacked.http2()
    answer = client.answer(client.request(headers))
    if headers[2][1].startswith("https:"):
        attacked.refused(answer, 400, "bad_request")
    else:
        attacked.refused(answer, 421, "authority_mismatch")
    good = client.answer(client.request(head()))
    client.raw.close()
    assert good.status == 200
    attacked.lines(2)


@pytest.mark.parametrize(
    "headers",
    [
        [*head(), ("host", HOST), ("host", HOST)],
        head()[:3],
        [*head()[:3], ("host", HOST), ("host", HOST)],
    ],
)
def test_http2_with_two_hosts_or_none(attacked: Attacked, headers: list[tuple[str, str]]) -> None:
    """Row 4: a second host is refused even if it says the same; none at all is malformed."""
    attacked.refused(ask(attacked.http2(), headers), 400, "bad_request")


def test_http2_with_host_alone(attacked: Attacked) -> None:
    """RFC 9113 8.3.1: host may stand in for :authority, and is then judged as it."""
    assert ask(attacked.http2(), [*head()[:3], ("host", HOST)]).status == 200
    attacked.clean()
    attacked.lines(1)


@pytest.mark.parametrize(
    "spelling",
    [
        "API.OPENAI.COM",
        "api.openai.com.",
        "Api.OpenAI.Com.",
        "ａｐｉ.openai.com",
        "api。openai。com",
        "ⓐpi.openai.com",
        "api.open\u00adai.com",
    ],
)
def test_other_spellings_of_the_same_host(attacked: Attacked, spelling: str) -> None:
    """Row 6: upper case, the root's dot, and what IDNA (UTS 46) maps to the same name."""
    with attacked.tunnel(spelling) as client:
        answer = client.ask(get(host=spelling))
    assert answer.status == 200
    received = attacked.clean()
    assert (received.get("host"), received.sni) == (HOST, HOST)
    [line] = attacked.lines(1)
    assert line["host"] == HOST


@pytest.mark.parametrize("host", [f"{HOST}:443", "API.OPENAI.COM.:443"])
def test_the_port_may_be_said(attacked: Attacked, host: str) -> None:
    """Row 6: Host with the provider's own port."""
    with attacked.tunnel() as client:
        assert client.ask(get(host=host)).status == 200
    assert attacked.clean().get("host") == HOST
    attacked.lines(1)


@pytest.mark.parametrize("sni", ["API.OPENAI.COM", "api.openai.com."])
def test_other_spellings_in_the_sni(attacked: Attacked, sni: str) -> None:
    """Row 6: the certificate shown is that of the plain name."""
    with attacked.tunnel(sni=sni) as client:
        assert client.ask(GET).status == 200
    attacked.clean()
    attacked.lines(1)


LOOKALIKES = [
    "api.openai.com.evil.test",
    "evil.test#api.openai.com",
    "api.openai.com#evil.test",
    "api.openai.com@evil.test",
    "evil.test@api.openai.com",
    "api.openai.com%00.evil.test",
    "api.openai.com%2eevil.test",
    "api.openai.com/.evil.test",
    "api.openai.com\\.evil.test",
    "api.openai.com..",
    ".api.openai.com",
    "api..openai.com",
    "apiXopenai.com",
    "evilapi.openai.com",
    "x.us.api.openai.com",
    "openai.com",
    "api.openai.com,evil.test",
    "аpi.openai.com",  # the first letter is Cyrillic
    "[api.openai.com]",
    "localhost",
    "",
]


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_name_that_only_looks_like_it(attacked: Attacked, name: str) -> None:
    """Row 7: as CONNECT's host it is nobody's."""
    with attacked.client() as client:
        answer = client.connect(f"{name}:443", attacked.credentials)
        assert client.rest() == b""
    attacked.refused(answer, 403, "host_not_allowed")


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_name_that_only_looks_like_it_in_host(attacked: Attacked, name: str) -> None:
    """Row 7: inside a good tunnel it is another host."""
    with attacked.tunnel() as client:
        answer = client.ask(get(host=name))
    attacked.refused(answer, 421, "authority_mismatch")


@pytest.fixture(scope="module")
def on_ipv6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway whose base URL and admin port are bound to [::1], and which is called by one name."""
    listen = {"base_url": "[::1]:0", "admin": "[::1]:0", "base_url_hosts": ["gw.internal"]}
    with open_inside(tmp_path_factory.mktemp("ipv6"), {"listen": listen}) as inside:
        yield inside


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("[::1]:{port}", True),
        ("[::1]", True),
        ("[0:0:0:0:0:0:0:1]:{port}", True),
        ("gw.internal:{port}", True),
        ("127.0.0.1:{port}", False),
        ("localhost:{port}", False),
        ("[::ffff:127.0.0.1]:{port}", False),
        ("[::2]:{port}", False),
        ("::1", False),
        ("evil.test", False),
        ("[::1].evil.test", False),
    ],
)
@pytest.mark.parametrize("listener", ["base_url", "admin"])
def test_the_address_that_a_listener_is_bound_to(
    on_ipv6: Inside, listener: str, host: str, answered: bool
) -> None:
    """A loopback address is its listener's own name; names that DNS rebinding could lead here are
    not."""
    port = int(on_ipv6.gateway.addresses[listener].rpartition(":")[2])
    path = "/v1/models" if listener == "base_url" else "/livez"
    token = f"Authorization: Bearer {on_ipv6.token}"
    with RawClient(("::1", port), on_ipv6.ca_file) as client:
        answer = client.ask(get(token, "Connection: close", path=path, host=host.format(port=port)))
    # The admin port's parser says 400 to what is no host at all.
    assert (
        answer.status == 200
        if answered
        else answer.status in ((421,) if listener == "base_url" else (400, 421))
    )
