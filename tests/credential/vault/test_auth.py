"""The other ways to log in, with the real methods of a real OpenBao: jwt, kubernetes, a wrapped secret_id, a namespace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.credential.issuer import (
    ROLE,
    Issuer,
    issuer,
    jwt_method,
    kubernetes_method,
    namespace,
    set_jwt_role,
)
from tests.support.clock import Clock, settle
from tests.support.openbao import OpenBao

from tollhouse.credential.cache import KeyCache
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.vault.auth import read_line
from tollhouse.credential.vault.reader import AppRole, Auth, JwtLogin, VaultReader

PATH = "infrastructure/openai"
Make = Callable[..., VaultReader]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(openbao: OpenBao, clock: Clock) -> Iterator[Make]:
    """Readers of the real server, with a clock that the test moves."""
    readers = []

    def reader(auth: Auth, **options: Any) -> VaultReader:
        options = {"timeout_s": 5.0, "clock": clock, "jitter": lambda: 0.0, **options}
        readers.append(VaultReader(openbao.address, auth, **options))
        return readers[-1]

    yield reader
    for made in readers:
        made.close()


@pytest.fixture
def keys() -> Iterator[Issuer]:
    with issuer() as made:
        yield made


@pytest.fixture
def jwt(openbao: OpenBao, keys: Issuer, tmp_path: Path) -> Iterator[JwtLogin]:
    """A login by a token of ``keys``, which is in its file."""
    file = tmp_path / "jwt"
    file.write_text(keys.token() + "\n")
    with jwt_method(openbao, keys):
        yield JwtLogin("jwt", ROLE, file, "jwt")


@pytest.fixture
def kubernetes(openbao: OpenBao, keys: Issuer, tmp_path: Path) -> Iterator[JwtLogin]:
    file = tmp_path / "service-account"
    file.write_text(keys.token())
    with kubernetes_method(openbao, keys):
        yield JwtLogin("kubernetes", ROLE, file, "kubernetes")


def key_of(reader: VaultReader, path: str = PATH) -> object:
    found = reader.read(path)
    return found.data["api_key"] if found else None


def tokens(openbao: OpenBao) -> list[dict[str, Any]]:
    """What is known of each token that is alive."""
    accessors = openbao.api("LIST", "auth/token/accessors")["data"]["keys"]
    return [
        openbao.api("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]
        for accessor in accessors
    ]


def logins(openbao: OpenBao, method: str) -> int:
    """How many tokens of this method's logins are alive."""
    return sum(found["path"] == f"auth/{method}/login" for found in tokens(openbao))


def end_logins(openbao: OpenBao, method: str) -> None:
    openbao.api("PUT", f"sys/leases/revoke-prefix/auth/{method}/login")


# jwt


def test_jwt(openbao: OpenBao, make: Make, jwt: JwtLogin, clock: Clock) -> None:
    """One login for many reads, renewed before two thirds of its life, given back at the end."""
    set_jwt_role(openbao, token_ttl="60s")
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make(jwt)
    assert [key_of(reader) for _ in range(3)] == ["sk-1"] * 3
    clock.now += 41
    assert reader.tend() == pytest.approx(40)
    assert logins(openbao, "jwt") == 1
    reader.close()
    assert logins(openbao, "jwt") == 0


def test_jwt_is_read_again_at_each_login(
    openbao: OpenBao, make: Make, jwt: JwtLogin, keys: Issuer
) -> None:
    """Such tokens live for minutes: the next login takes what is in the file then, signed by a new key."""
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make(jwt)
    assert key_of(reader) == "sk-1"
    keys.new_key("second")
    jwt.jwt_file.write_text(keys.token())
    end_logins(openbao, "jwt")
    assert key_of(reader) == "sk-1"


@pytest.mark.parametrize(
    "claims",
    [{"audience": "elsewhere"}, {"exp": 1_000_000_000}, {"sub": 7}],
    ids=["audience", "end", "subject"],
)
def test_jwt_that_is_not_taken(
    openbao: OpenBao, make: Make, jwt: JwtLogin, keys: Issuer, claims: Any
) -> None:
    """The refusal names the file, the role and the mount, and shows no token."""
    jwt.jwt_file.write_text(keys.token(**claims))
    with pytest.raises(CredentialUnavailable, match="jwt login at auth/jwt with 400") as caught:
        make(jwt).connect()
    assert str(jwt.jwt_file) in caught.value.why
    assert f"the role {ROLE} takes" in caught.value.why
    assert jwt.jwt_file.read_text() not in caught.value.why


def test_issuer_down(
    openbao: OpenBao, make: Make, jwt: JwtLogin, keys: Issuer, clock: Clock
) -> None:
    """Vault says 400 when it can't fetch the keys: away, not a refusal; tried again soon, less and less often."""
    openbao.put(PATH, {"api_key": "sk-1"})
    keys.down = True
    reader = make(jwt)
    for wait in (2, 5, 10, 30, 60, 60):
        asked = len(keys.asked)
        for _ in range(5):
            with pytest.raises(StoreAway, match="can't reach the issuer's keys"):
                reader.read(PATH)
        assert len(keys.asked) > asked
        asked = len(keys.asked)
        clock.now += wait - 0.1
        with pytest.raises(StoreAway):
            reader.read(PATH)
        assert len(keys.asked) == asked
        clock.now += 0.2
    keys.down = False
    assert key_of(reader) == "sk-1"


async def test_issuer_down_ends_no_key(
    openbao: OpenBao, make: Make, jwt: JwtLogin, keys: Issuer, clock: Clock
) -> None:
    """The login has ended and no new one can be made: the last key serves, and is read again when the issuer is back."""
    openbao.put(PATH, {"api_key": "sk-1"})
    cache = KeyCache(
        make(jwt), [PATH.replace("openai", "{provider}")], clock=clock, call_later=clock.call_later
    )
    lease = await cache.get("openai", "acme", "p1")
    keys.down = True
    keys.new_key("second")
    jwt.jwt_file.write_text(keys.token())
    end_logins(openbao, "jwt")
    openbao.put(PATH, {"api_key": "sk-2"})
    await clock.pass_(90)
    assert cache.peek("openai", "acme", "p1") is lease
    assert cache.status()[0].state == "stale"
    keys.down = False
    await clock.pass_(130)
    await settle()
    found = cache.peek("openai", "acme", "p1")
    assert found is not None
    assert found.secret.reveal() == "sk-2"
    await cache.close()


def test_past_its_max_ttl(openbao: OpenBao, make: Make, jwt: JwtLogin, clock: Clock) -> None:
    """A renewal past the role's max TTL is a 500, which another try would not mend: a new login, at once."""
    set_jwt_role(openbao, token_ttl="60s")
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make(jwt)
    reader.connect()
    set_jwt_role(openbao, token_ttl="1s", token_max_ttl="1s")
    [ours] = [found for found in tokens(openbao) if found["path"] == "auth/jwt/login"]
    # The token's age is the server's to tell.
    while (
        openbao.api("POST", "auth/token/lookup-accessor", {"accessor": ours["accessor"]})["data"][
            "ttl"
        ]
        > 58
    ):
        pass
    with pytest.raises(requests.HTTPError, match="500"):
        openbao.api("POST", "auth/token/renew-accessor", {"accessor": ours["accessor"]})
    clock.now += 41
    reader.tend()
    assert reader.trouble == ""
    assert logins(openbao, "jwt") == 2, "the old one ends by itself"
    assert key_of(reader) == "sk-1"


# kubernetes


def test_kubernetes(openbao: OpenBao, make: Make, kubernetes: JwtLogin, keys: Issuer) -> None:
    """Vault has the service account's token reviewed by the cluster; the file is read again at each login."""
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make(kubernetes)
    assert [key_of(reader) for _ in range(3)] == ["sk-1"] * 3
    assert keys.asked == ["/apis/authentication.k8s.io/v1/tokenreviews"]
    kubernetes.jwt_file.write_text(keys.token(name="other"))
    end_logins(openbao, "kubernetes")
    with pytest.raises(StoreAway, match="kubernetes login at auth/kubernetes with 403"):
        reader.read(PATH)
    kubernetes.jwt_file.write_text(keys.token())
    assert key_of(reader) == "sk-1"


def test_cluster_down(
    openbao: OpenBao, make: Make, kubernetes: JwtLogin, keys: Issuer, clock: Clock
) -> None:
    """A 403 that is the cluster's outage is away, and over when that is."""
    openbao.put(PATH, {"api_key": "sk-1"})
    keys.down = True
    reader = make(kubernetes)
    with pytest.raises(StoreAway, match="can't reach the cluster to review it"):
        reader.read(PATH)
    keys.down = False
    clock.now += 2.1
    assert key_of(reader) == "sk-1"


def test_policy_of_a_service_account(openbao: OpenBao, make: Make, kubernetes: JwtLogin) -> None:
    """A path that its policy lacks is a refusal that names the line, with no login after login."""
    reader = make(kubernetes)
    for _ in range(3):
        with pytest.raises(
            CredentialUnavailable, match=r'path "secret/data/teams/openai"'
        ) as caught:
            reader.read("teams/openai")
        assert not isinstance(caught.value, StoreAway)
    assert logins(openbao, "kubernetes") == 1


@pytest.mark.parametrize("method", ["jwt", "kubernetes"])
def test_no_such_mount_or_role(
    openbao: OpenBao, make: Make, keys: Issuer, tmp_path: Path, method: Any
) -> None:
    """Said as what it may be, without an end to the trying: the mount may be made at any time."""
    file = tmp_path / "token"
    file.write_text(keys.token())
    with pytest.raises(
        StoreAway, match=f"{method} login at auth/nowhere with 403: .* no such role or mount"
    ):
        make(JwtLogin(method, ROLE, file, "nowhere")).connect()
    with pytest.raises(CredentialUnavailable, match=f"The {method} token file .* No such file"):
        make(JwtLogin(method, ROLE, tmp_path / "none", method)).connect()


# A wrapped secret_id


def wrapped(
    openbao: OpenBao, path: str = "auth/approle/role/tollhouse/secret-id", body: Any = None
) -> str:
    """A wrapping token, also put into the file."""
    answer = requests.post(
        f"{openbao.address}/v1/{path}",
        json=body or {},
        headers={
            "X-Vault-Token": openbao.root_token_file.read_text().strip(),
            "X-Vault-Wrap-TTL": "60",
        },
        timeout=10,
        proxies={"http": ""},
    )
    token = str(answer.json()["wrap_info"]["token"])
    openbao.secret_id_file.write_text(token + "\n")
    return token


@pytest.fixture
def role(openbao: OpenBao) -> AppRole:
    return AppRole(openbao.role_id_file, openbao.secret_id_file, wrapped=True)


def test_wrapped_secret_id(openbao: OpenBao, make: Make, role: AppRole) -> None:
    """It is unwrapped once, and serves for later logins of this process."""
    openbao.put(PATH, {"api_key": "sk-1"})
    wrapped(openbao)
    reader = make(role)
    for _ in range(3):
        assert key_of(reader) == "sk-1"
        openbao.revoke_tokens()
    assert key_of(reader) == "sk-1"
    assert openbao.logins() == 1


def test_wrapping_token_that_somebody_has_used(
    openbao: OpenBao, make: Make, role: AppRole, caplog: pytest.LogCaptureFixture
) -> None:
    """An alarm, once, and no second try; a new wrapping token in the file works."""
    openbao.put(PATH, {"api_key": "sk-1"})
    token = wrapped(openbao)
    openbao.api("POST", "sys/wrapping/unwrap", token=token)
    reader = make(role)
    for _ in range(3):
        with pytest.raises(
            CredentialUnavailable, match=r"\(400\).*possible interception"
        ) as caught:
            reader.read(PATH)
    assert not isinstance(caught.value, StoreAway)
    assert str(role.secret_id_file) in caught.value.why
    assert token not in caught.value.why
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    wrapped(openbao)
    assert key_of(reader) == "sk-1"


def test_wrapping_token_of_another_maker(
    openbao: OpenBao, make: Make, role: AppRole, caplog: pytest.LogCaptureFixture
) -> None:
    """Who intercepts a secret_id can wrap it again; where the wrapping was made tells, and it is not even unwrapped."""
    secret_id = openbao.new_secret_id()
    token = wrapped(openbao, "sys/wrapping/wrap", {"secret_id": secret_id})
    with pytest.raises(
        CredentialUnavailable, match=r"not made by auth/approle/role/ROLE/secret-id.*interception"
    ):
        make(role).connect()
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert openbao.api("POST", "sys/wrapping/unwrap", token=token)["data"] == {
        "secret_id": secret_id
    }


def test_wrapped_secret_id_that_is_used_up(openbao: OpenBao, make: Make, role: AppRole) -> None:
    """The refusal says what to put where; the wrapping token is not unwrapped again."""
    wrapped(openbao, body={"num_uses": 1})
    reader = make(role)
    reader.connect()
    openbao.revoke_tokens()
    for _ in range(3):
        with pytest.raises(
            CredentialUnavailable, match=r"unwrapped from .* used up.*Put a new wrapping token"
        ):
            reader.read(PATH)


def test_vault_away_while_unwrapping(openbao: OpenBao, make: Make, role: AppRole) -> None:
    """Nothing was unwrapped, and nothing is an alarm: the next try does it."""
    openbao.put(PATH, {"api_key": "sk-1"})
    wrapped(openbao)
    reader = make(role, timeout_s=0.5)
    openbao.seal()
    with pytest.raises(StoreAway, match="sealed"):
        reader.read(PATH)
    openbao.unseal()
    assert key_of(reader) == "sk-1"


# Namespaces


def test_namespace(openbao: OpenBao, make: Make) -> None:
    """Login, read, renewal and the end of the login are all in it."""
    with namespace(openbao, "team"):
        openbao.api("POST", f"team/secret/data/{PATH}", {"data": {"api_key": "sk-team"}})
        openbao.put(PATH, {"api_key": "sk-root"})
        auth = AppRole(openbao.role_id_file, openbao.secret_id_file)
        reader = make(auth, namespace="team")
        assert key_of(reader) == "sk-team"
        with pytest.raises(CredentialUnavailable, match='path "secret/data/teams/openai"'):
            reader.read("teams/openai")
        reader.close()
        assert key_of(make(auth)) == "sk-root"


# Files


@pytest.mark.parametrize("what", ["role_id", "secret_id", "token", "jwt"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, what: str) -> None:
    """EF BB BF before what a file holds is read over; elsewhere it is no printable ASCII."""
    file = tmp_path / what
    file.write_bytes(b"\xef\xbb\xbfabc-123\r\n")
    assert read_line(file, what) == "abc-123"
    file.write_bytes(b"abc-123\xef\xbb\xbf")
    with pytest.raises(CredentialUnavailable, match="it is not one line of printable ASCII"):
        read_line(file, what)
