"""What a load balancer, a proxy or a broken Vault answers, over real HTTP; and that no token gets into an error."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.credential.standin import DENIED, KEY, LOGIN, TOKEN, Reply, StandIn, secret, stand_in

from tollhouse.credential.cache import KeyCache
from tollhouse.credential.lease import CredentialUnavailable, Malformed, StoreAway
from tollhouse.credential.vault.reader import AppRole, TokenFile, VaultReader

PATH = "infrastructure/openai"
SECRET_ID = "the-secret-id"
HTML = (("content-type", "text/html"),)
AWAY, REFUSED = StoreAway, CredentialUnavailable


@pytest.fixture
def vault() -> Iterator[StandIn]:
    with stand_in() as vault:
        yield vault


@pytest.fixture
def auth(tmp_path: Path) -> AppRole:
    (tmp_path / "role").write_text("the-role-id")
    (tmp_path / "secret").write_text(SECRET_ID)
    return AppRole(tmp_path / "role", tmp_path / "secret")


@pytest.fixture
def reader(vault: StandIn, auth: AppRole) -> Iterator[VaultReader]:
    reader = VaultReader(vault.address, auth, timeout_s=2.0)
    yield reader
    vault.other = Reply(204, headers=())
    reader.close()


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than comes."""
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
    )
    handler.close_connection = True


def not_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    handler.close_connection = True


READS = [
    (Reply(200, b"<html>maintenance</html>", HTML), AWAY, "is not Vault"),
    (Reply(200), AWAY, "is not Vault"),
    (Reply.of(200, []), AWAY, "is not Vault"),
    (Reply.of(200, None), AWAY, "is not Vault"),
    (Reply(200, b"[" * 100_000), REFUSED, "RecursionError"),
    (Reply(204, headers=()), REFUSED, "204"),
    (Reply(404, b"<html>no such site</html>", HTML), AWAY, "is not Vault"),
    (Reply(403, b"<html>blocked</html>", HTML), AWAY, "is not Vault"),
    (Reply(503, b"null"), AWAY, "503"),
    (Reply.of(503, ["sealed"]), AWAY, "503"),
    (Reply.of(503, {"errors": [{"not": "a string"}]}), AWAY, "sealed"),
    (Reply.of(500, {"errors": ["internal"]}), AWAY, "500"),
    (Reply(502, b"bad gateway", HTML), AWAY, "502"),
    (Reply(504), AWAY, "504"),
    (Reply.of(412, {"errors": ["required index state not present"]}), AWAY, "412"),
    (Reply.of(472, {}), AWAY, "472"),
    (Reply.of(429, {"errors": ["quota"]}), AWAY, "rate"),
    (Reply.of(429, {"errors": ["quota"]}, ("retry-after", "7")), AWAY, "rate"),
    (Reply.of(400, {"errors": ["Waiting for the primary to upgrade"]}), AWAY, "just now (400)"),
    (Reply.of(405, {"errors": ["bad"]}), REFUSED, "405"),
    (Reply(400, b"Client sent an HTTP request to an HTTPS server.", HTML), AWAY, "lack https"),
    (Reply.of(404, {"errors": ["no handler for route"]}), REFUSED, "vault.mount"),
    (Reply.of(200, {"data": {"api_key": "x"}}), Malformed, "not a secret of KV version 2"),
    (
        Reply.of(200, {"data": {"data": ["x"], "metadata": {"version": 1}}}),
        Malformed,
        "not a secret",
    ),
    (
        Reply.of(200, {"data": {"data": {"api_key": "x"}, "metadata": None}}),
        Malformed,
        "not a secret",
    ),
    (
        Reply.of(200, {"data": {"data": {"api_key": "x"}, "metadata": {"version": "1"}}}),
        Malformed,
        "not a secret",
    ),
    (drop, AWAY, "was lost"),
    (cut, AWAY, "was lost"),
    (not_http, AWAY, "was lost"),
]


@pytest.mark.parametrize(("reply", "kind", "why"), READS)
def test_odd_reads(
    vault: StandIn, reader: VaultReader, reply: Reply, kind: type[Exception], why: str
) -> None:
    """Each is away or malformed (what was read before serves on) or a refusal (it ends), in words of ours."""
    vault.read = reply
    with pytest.raises(CredentialUnavailable) as caught:
        reader.read(PATH)
    assert type(caught.value) is kind
    assert why in caught.value.why
    assert TOKEN not in caught.value.why
    vault.read = secret()
    found = reader.read(PATH)
    assert found is not None


@pytest.mark.parametrize(
    ("reply", "kind", "why"),
    [
        (Reply.of(200, {"auth": None}), REFUSED, "AppRole login with 200"),
        (
            Reply.of(200, {"auth": {"client_token": 7, "lease_duration": 1}}),
            REFUSED,
            "AppRole login with 200",
        ),
        (
            Reply.of(400, {"errors": [f"invalid role or secret ID {SECRET_ID}"]}),
            REFUSED,
            "AppRole login with 400",
        ),
        (Reply(502, b"", HTML), AWAY, "502"),
        (Reply(200, b"<html>", HTML), AWAY, "is not Vault"),
        (Reply.of(429, {}), AWAY, "rate"),
        (drop, AWAY, "was lost"),
    ],
)
def test_odd_logins(
    vault: StandIn, reader: VaultReader, reply: Reply, kind: type[Exception], why: str
) -> None:
    """A refused login waits for a new secret_id; one that could not be made is made at the next read."""
    vault.login = reply
    for _ in range(3):
        with pytest.raises(CredentialUnavailable) as caught:
            reader.read(PATH)
        assert type(caught.value) is kind
        assert why in caught.value.why
        assert SECRET_ID not in caught.value.why
    assert vault.count("/login") == (3 if kind is AWAY else 1)
    assert vault.count("/data/") == 0
    if kind is AWAY:
        vault.login = LOGIN
        assert reader.read(PATH) is not None


def test_locked_out(vault: StandIn, auth: AppRole) -> None:
    """A 403 is no word on the secret_id: away; tried again after half a minute, later every five, and not in between."""
    now = [1000.0]
    reader = VaultReader(vault.address, auth, clock=lambda: now[0], jitter=lambda: 0.0)
    vault.login = DENIED
    for count, wait in enumerate((30, 60, 120, 300, 300), 1):
        for _ in range(3):
            with pytest.raises(StoreAway, match="locked out"):
                reader.read(PATH)
            now[0] += wait / 3 - 0.1
        assert vault.count("/login") == count
        now[0] += 1
    vault.login = LOGIN
    assert reader.read(PATH) is not None


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_renewals_that_fail(vault: StandIn, auth: AppRole, status: int) -> None:
    """Past its max TTL (500), not renewable (400), revoked (403): a new login, at once and once."""
    now = [0.0]
    reader = VaultReader(vault.address, auth, clock=lambda: now[0], jitter=lambda: 0.0)
    reader.connect()
    assert reader.tend() == pytest.approx(2400)
    vault.other = Reply.of(status, {"errors": ["past the max TTL, cannot renew"]})
    now[0] = 2400
    assert reader.tend() == pytest.approx(2400)
    assert vault.paths() == [
        "/v1/auth/approle/login",
        "/v1/auth/token/renew-self",
        "/v1/auth/approle/login",
    ]


def test_renewals_of_a_token_file_that_shrink(vault: StandIn, tmp_path: Path) -> None:
    """Nearing its max TTL it is granted less each time: said before it ends, since only somebody else can help."""
    now = [0.0]
    file = tmp_path / "token"
    file.write_text(TOKEN)
    vault.other = Reply.of(200, {"data": {"ttl": 3600, "renewable": True}})
    reader = VaultReader(vault.address, TokenFile(file), clock=lambda: now[0], jitter=lambda: 0.0)
    reader.connect()
    assert (reader.notice, reader.trouble, reader.tend()) == ("", "", pytest.approx(2400))
    vault.other = Reply.of(
        200, {"auth": {"client_token": TOKEN, "lease_duration": 3600, "renewable": True}}
    )
    now[0] = 2400
    assert (reader.tend(), reader.trouble) == (pytest.approx(2400), "")
    vault.other = Reply.of(
        200, {"auth": {"client_token": TOKEN, "lease_duration": 600, "renewable": True}}
    )
    now[0] = 4800
    assert reader.tend() == pytest.approx(400)
    assert f"Vault renews the token in {file} no more: it ends in 10 min." in reader.trouble
    assert TOKEN not in reader.trouble


def test_renewal_while_vault_is_away(vault: StandIn, auth: AppRole) -> None:
    """The token is kept, the trouble is said, and it is tried again within 30 s, without a storm."""
    now = [0.0]
    reader = VaultReader(vault.address, auth, clock=lambda: now[0], jitter=lambda: 0.0)
    reader.connect()
    vault.other = vault.login = Reply.of(503, {"errors": ["Vault is sealed"]})
    now[0] = 2400
    assert reader.tend() == pytest.approx(30)
    assert "sealed" in reader.trouble
    assert reader.tend() == pytest.approx(30)
    assert vault.count("renew-self") == 1
    assert reader.read(PATH) is not None
    vault.login = LOGIN
    now[0] = 2431
    assert reader.tend() == pytest.approx(2400)
    assert reader.trouble == ""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(vault: StandIn, reader: VaultReader, status: int) -> None:
    """Neither the token of a read nor the secret_id of a login goes to another host."""
    with stand_in() as other:
        elsewhere = Reply(status, b"", (("location", f"{other.address}/v1/secret/data/{PATH}"),))
        vault.read = elsewhere
        with pytest.raises(StoreAway, match="redirect"):
            reader.read(PATH)
        reader.close()
        vault.login = elsewhere
        with pytest.raises(StoreAway, match="redirect"):
            reader.read(PATH)
        assert other.book == []


def test_older_versions(vault: StandIn, auth: AppRole) -> None:
    """A lower version that is older too is a standby that lags: away for a minute, then believed, for a backup may have
    been restored. A newer one with a lower number was made anew; times are compared to their fractions."""
    now = [1000.0]
    reader = VaultReader(vault.address, auth, clock=lambda: now[0])

    def version(number: int, created: str) -> str | None:
        vault.read = secret("sk-any", number, created)
        try:
            found = reader.read(PATH)
        except StoreAway as error:
            return (
                None
                if f"version {number} of secret/{PATH}, which is older than version" in error.why
                else error.why
            )
        assert found is not None
        return found.version

    assert version(7, "2026-01-01T00:00:07.12Z") == "7"
    assert version(6, "2026-01-01T00:00:07.1Z") is None
    assert version(6, "2026-01-01T00:00:07Z") is None
    assert version(7, "2026-01-01T00:00:07.12Z") == "7"
    assert version(1, "2026-01-01T00:00:07.125Z") == "1", "deleted and made anew"
    assert version(8, "2026-01-01T00:00:00Z") == "8", "by a leader whose clock is behind"
    now[0] += 100
    assert version(5, "2025-01-01T00:00:00Z") is None
    now[0] += 59
    assert version(5, "2025-01-01T00:00:00Z") is None
    now[0] += 2
    assert version(5, "2025-01-01T00:00:00Z") == "5"
    assert version(6, "2025-01-02T00:00:00Z") == "6"


def test_a_403_is_believed_after_one_more_question(vault: StandIn, reader: VaultReader) -> None:
    """403 and a token that may not be looked up: one new login, one more read, then it is believed."""
    vault.read = DENIED
    with pytest.raises(CredentialUnavailable, match="Its policy needs"):
        reader.read(PATH)
    assert vault.count("/login") == 2
    assert vault.count("/data/") == 2


def test_what_is_sent(vault: StandIn, reader: VaultReader) -> None:
    """The token on reads and not on the login; the path without a change."""
    assert reader.read("projects/p-1.x_y/openai") is not None
    (_, login, login_headers), (_, read, read_headers) = vault.book
    assert login == "/v1/auth/approle/login"
    assert "x-vault-token" not in login_headers
    assert read == "/v1/secret/data/projects/p-1.x_y/openai"
    assert read_headers["x-vault-token"] == TOKEN
    assert "authorization" not in read_headers
    assert "cookie" not in read_headers


def test_cookies_are_not_a_way_around(vault: StandIn, reader: VaultReader) -> None:
    """A cookie that a load balancer sets holds no reader to anything that is not Vault's."""
    vault.read = Reply(200, secret().body, (*secret().headers, ("set-cookie", "lb=1")))
    reader.read(PATH)
    assert reader.read(PATH) is not None


@pytest.mark.parametrize(
    "reply", [drop, cut, Reply.of(500, {"errors": [TOKEN]}), Reply(200, TOKEN.encode(), HTML)]
)
def test_exceptions_hold_no_token(vault: StandIn, reader: VaultReader, reply: Reply) -> None:
    """Neither the exception, nor what led to it, nor its attributes hold token, secret_id or key."""
    reader.connect()
    vault.read = reply
    with pytest.raises(CredentialUnavailable) as caught:
        reader.read(PATH)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    shown = "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(error.args)
    for hidden in (TOKEN, SECRET_ID, KEY):
        assert hidden not in shown


async def test_a_trickling_server_holds_a_call_for_the_bound_only(
    vault: StandIn, auth: AppRole
) -> None:
    """Bytes that come often enough for every socket time-out do not hold a call beyond the whole bound, nor others."""
    stop = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not stop.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()
        handler.close_connection = True

    reader = VaultReader(vault.address, auth, timeout_s=1.0)
    reader.connect()
    cache = KeyCache(reader, ["infrastructure/{provider}"], bound_s=0.2)
    await cache.get("openai", "acme", "p1")
    vault.read = trickle
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(StoreAway, match=r"within 0\.2 s"):
        await cache.get("anthropic", "acme", "p1")
    assert loop.time() - began < 2
    assert cache.peek("openai", "acme", "p1") is not None
    stop.set()
    await cache.close()
