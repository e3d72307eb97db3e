"""VaultReader against a real OpenBao. Past 400 lines: one class, and each trap of a real server has its test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import Clock
from tests.support.connect_proxy import ConnectProxy
from tests.support.openbao import OpenBao
from tests.support.requires import require

from tollhouse.credential.cache import KeyCache
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.vault.connection import VaultProxy
from tollhouse.credential.vault.reader import AppRole, TokenFile, VaultReader

PATH = "infrastructure/openai"


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., VaultReader]


@pytest.fixture
def make(openbao: OpenBao, clock: Clock) -> Iterator[Make]:
    """Readers of the real server, with a clock that the test moves."""
    readers = []

    def reader(auth: AppRole | TokenFile | None = None, **options: Any) -> VaultReader:
        options = {"timeout_s": 5.0, "clock": clock, "jitter": lambda: 0.0, **options}
        auth = auth or AppRole(openbao.role_id_file, openbao.secret_id_file)
        readers.append(VaultReader(openbao.address, auth, **options))
        return readers[-1]

    yield reader
    for made in readers:
        made.close()


def key_of(reader: VaultReader, path: str = PATH) -> object:
    found = reader.read(path)
    return found.data["api_key"] if found else None


# Reads


def test_read(openbao: OpenBao, make: Make) -> None:
    """Value and version, by AppRole, in one login however many reads."""
    reader = make()
    openbao.put(PATH, {"api_key": "sk-1", "note": 7})
    found = reader.read(PATH)
    assert found is not None
    assert (found.data, found.version) == ({"api_key": "sk-1", "note": 7}, "1")
    openbao.put(PATH, {"api_key": "sk-2"})
    found = reader.read(PATH)
    assert found is not None
    assert (found.data, found.version) == ({"api_key": "sk-2"}, "2")
    assert openbao.logins() == 1


def test_missing_deleted_destroyed(openbao: OpenBao, make: Make) -> None:
    """Each is None; a secret made anew is version 1; one whose deletion lies in the future is there."""
    reader = make()
    assert reader.read(PATH) is None
    openbao.put(PATH, {"api_key": "sk-1"})
    openbao.delete(PATH)
    assert reader.read(PATH) is None
    openbao.put(PATH, {"api_key": "sk-2"})
    openbao.destroy(PATH, 2)
    assert reader.read(PATH) is None
    openbao.forget(PATH)
    assert reader.read(PATH) is None
    openbao.api("POST", f"secret/metadata/{PATH}", {"delete_version_after": "1h"})
    openbao.put(PATH, {"api_key": "sk-3"})
    found = reader.read(PATH)
    assert found is not None
    assert (found.data["api_key"], found.version) == ("sk-3", "1")


def test_policy_without_the_path(openbao: OpenBao, make: Make) -> None:
    """The refusal names the line that the policy lacks; asked again and again it makes no login after login."""
    reader = make()
    for _ in range(5):
        with pytest.raises(CredentialUnavailable) as caught:
            reader.read("teams/openai")
        assert not isinstance(caught.value, StoreAway)
        assert 'path "secret/data/teams/openai" { capabilities = ["read"] }' in caught.value.why
    assert openbao.logins() == 1


def test_policy_changed_for_the_role(openbao: OpenBao, make: Make, clock: Clock) -> None:
    """A policy that the role was given later needs a new login, which a 403 brings once the token is not brand new."""
    reader = make()
    with pytest.raises(CredentialUnavailable):
        reader.read("teams/openai")
    openbao.api(
        "PUT",
        "sys/policies/acl/teams",
        {"policy": 'path "secret/data/teams/*" { capabilities = ["read"] }'},
    )
    openbao.set_role(token_policies=["tollhouse", "teams"])
    openbao.put("teams/openai", {"api_key": "sk-1"})
    clock.now += 31
    assert key_of(reader, "teams/openai") == "sk-1"
    assert openbao.logins() == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"mount": "nowhere"}, "Its policy needs"),
        ({"namespace": "nobody"}, "AppRole login with 404"),
    ],
)
def test_wrong_mount_or_namespace(
    openbao: OpenBao, make: Make, options: dict[str, str], why: str
) -> None:
    """A refusal that says where to look, not a missing secret."""
    openbao.put(PATH, {"api_key": "sk-1"})
    with pytest.raises(CredentialUnavailable, match=why):
        make(**options).read(PATH)


def test_no_such_mount_with_a_wide_token(openbao: OpenBao, make: Make) -> None:
    """A token that may read everything is told that the mount is none, which is not a missing secret either."""
    root = TokenFile(openbao.root_token_file)
    with pytest.raises(CredentialUnavailable, match=r"vault\.mount"):
        make(root, mount="nowhere").read(PATH)


@pytest.mark.parametrize(
    "path", ["../sys/health", "a/../b", "", "a//b", "a?version=1", "a b", "/a"]
)
def test_paths_are_judged(make: Make, path: str) -> None:
    """Nothing that the URL library would turn into another path is sent."""
    with pytest.raises(CredentialUnavailable, match="is not a path"):
        make().read(path)


@pytest.mark.parametrize(
    "address", ["vault:8200", "ftp://vault", "https://", "https://user@vault", "https://v/?a=b"]
)
def test_addresses_are_judged(address: str, tmp_path: Path) -> None:
    """An address that is none is an error at once."""
    with pytest.raises(ValueError, match="address"):
        VaultReader(address, TokenFile(tmp_path / "token"))


# Login


def test_revoked_token(openbao: OpenBao, make: Make) -> None:
    """A token that was revoked under the reader costs one new login, and the read succeeds."""
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    for _ in range(3):
        assert key_of(reader) == "sk-1"
        openbao.revoke_tokens()
        assert key_of(reader) == "sk-1"
    assert openbao.logins() == 1


def test_many_reads_with_a_dead_token_are_one_login(openbao: OpenBao, make: Make) -> None:
    """Eight threads that get a 403 at once share the login that the first of them makes."""
    for number in range(8):
        openbao.put(f"infrastructure/p{number}", {"api_key": f"sk-{number}"})
    reader = make()
    reader.connect()
    openbao.revoke_tokens()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: key_of(reader, f"infrastructure/p{number}"), range(8)))
    assert found == [f"sk-{number}" for number in range(8)]
    assert openbao.logins() == 1


def test_wrong_secret_id_does_not_lock_the_role_out(
    openbao: OpenBao, make: Make, clock: Clock
) -> None:
    """Twenty reads with a bad secret_id are one login; half a minute later a second one, and no third within the hour;
    a new secret_id in the file is tried at once and works: the role is not locked out."""
    good = openbao.secret_id_file.read_text()
    openbao.put(PATH, {"api_key": "sk-1"})
    openbao.secret_id_file.write_text("00000000-0000-0000-0000-000000000000\n")
    reader = make()
    for _ in range(6):
        for _ in range(20):
            with pytest.raises(CredentialUnavailable, match="AppRole login with 400") as caught:
                reader.read(PATH)
        clock.now += 600
    assert str(openbao.secret_id_file) in caught.value.why
    assert "00000000" not in caught.value.why
    openbao.secret_id_file.write_text(good)
    assert key_of(reader) == "sk-1"


def test_locked_out_role(openbao: OpenBao, make: Make) -> None:
    """A role that somebody else has locked out is said to be; that is no refusal which would end a key."""
    role_id = openbao.role_id_file.read_text().strip()
    for _ in range(6):
        with pytest.raises(Exception, match=r"40[03]"):
            openbao.api(
                "POST", "auth/approle/login", {"role_id": role_id, "secret_id": "x"}, token=""
            )
    reader = make()
    for _ in range(3):
        with pytest.raises(StoreAway, match="locked out"):
            reader.connect()


def test_secret_id_used_up(openbao: OpenBao, make: Make, clock: Clock) -> None:
    """A secret_id for one login serves as long as the token is renewed, and its end is said."""
    openbao.set_role(token_ttl="60s")
    openbao.new_secret_id(num_uses=1)
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    assert key_of(reader) == "sk-1"
    for _ in range(4):
        clock.now += 45
        assert reader.tend() == pytest.approx(40)
        assert key_of(reader) == "sk-1"
    openbao.revoke_tokens()
    with pytest.raises(CredentialUnavailable, match="used up"):
        reader.read(PATH)


@pytest.mark.parametrize("content", ["", "\n", "a b", "a\nb", "\x00", "hush-é"])
def test_files_that_hold_no_credential(
    openbao: OpenBao, make: Make, tmp_path: Path, content: str
) -> None:
    """They are refused by name before a request is made, since a header's exception would show what was in them."""
    path = tmp_path / "file"
    path.write_text(content)
    for auth in (
        AppRole(openbao.role_id_file, path),
        AppRole(path, openbao.secret_id_file),
        TokenFile(path),
    ):
        with pytest.raises(CredentialUnavailable, match=r"file .* can't be used") as caught:
            make(auth).connect()
        assert "hush" not in caught.value.why
    with pytest.raises(CredentialUnavailable, match="No such file"):
        make(TokenFile(tmp_path / "none")).connect()


# Renewal


def test_token_is_renewed(openbao: OpenBao, make: Make, clock: Clock) -> None:
    """Before two thirds of its life it is renewed, not replaced."""
    openbao.set_role(token_ttl="60s")
    reader = make()
    assert reader.tend() is None
    reader.connect()
    assert reader.tend() == pytest.approx(40)
    clock.now += 40
    assert reader.tend() == pytest.approx(40)
    assert openbao.logins() == 1


def test_max_ttl_brings_a_new_login(openbao: OpenBao, make: Make, clock: Clock) -> None:
    """A renewal that grants less than half a life is followed by a login; the old token is left to end by itself."""
    openbao.set_role(token_ttl="60s", token_max_ttl="60s")
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    reader.connect()
    # A renewal goes by the role as it is now; near the max TTL it would grant as little.
    openbao.set_role(token_ttl="5s", token_max_ttl="5s")
    clock.now += 41
    wait = reader.tend()
    assert wait is not None
    assert wait < 5
    assert openbao.logins() == 2
    assert key_of(reader) == "sk-1"


def test_batch_token_is_replaced(openbao: OpenBao, make: Make, clock: Clock) -> None:
    """A token that can't be renewed is followed by a new login."""
    openbao.put(PATH, {"api_key": "sk-1"})
    openbao.set_role(token_ttl="60s", token_type="batch")
    reader = make()
    reader.connect()
    openbao.set_role(token_ttl="60s", token_type="service")
    clock.now += 41
    assert reader.tend() == pytest.approx(40)
    assert openbao.logins() == 1
    assert key_of(reader) == "sk-1"


def test_renewal_that_fails_leaves_the_token_in_use(
    openbao: OpenBao, make: Make, clock: Clock
) -> None:
    """A login that is refused meanwhile is said, and reads go on with the old token."""
    openbao.set_role(token_ttl="60s", token_type="batch")
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    reader.connect()
    openbao.secret_id_file.write_text("wrong")
    clock.now += 41
    assert reader.tend() == pytest.approx(19 / 4)
    assert "can't be renewed any more" in reader.trouble
    assert key_of(reader) == "sk-1"
    openbao.new_secret_id()
    clock.now += 6
    assert reader.tend() == pytest.approx(40)
    assert reader.trouble == ""


def test_token_for_a_few_uses(openbao: OpenBao, make: Make) -> None:
    """Each request spends one, a lookup too: when none is left the read is made again by a new login, with no lookup more
    than a denial needs."""
    openbao.set_role(token_num_uses=3)
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    assert [key_of(reader) for _ in range(10)] == ["sk-1"] * 10


def test_close_revokes_our_token(openbao: OpenBao, make: Make) -> None:
    """A token of our own login does not outlive us; one from a file does."""
    reader = make()
    reader.connect()
    assert openbao.logins() == 1
    reader.close()
    assert openbao.logins() == 0
    other = make(TokenFile(openbao.root_token_file))
    other.connect()
    other.close()
    assert openbao.logins() == 0


# Token file


def test_token_file_is_read_again_when_it_changes(
    openbao: OpenBao, make: Make, tmp_path: Path
) -> None:
    """A new token in the file is used from the next read on; a file that holds none meanwhile changes nothing."""

    def new_token() -> str:
        body = {"policies": ["tollhouse"], "ttl": "60s"}
        return str(openbao.api("POST", "auth/token/create", body)["auth"]["client_token"])

    openbao.put(PATH, {"api_key": "sk-1"})
    path = tmp_path / "token"
    path.write_text(new_token() + "\n")
    reader = make(TokenFile(path))
    assert key_of(reader) == "sk-1"
    assert reader.tend() == pytest.approx(40, abs=2)
    path.write_text("")
    assert key_of(reader) == "sk-1"
    assert "is empty" in reader.trouble
    old, new = path.with_name("old"), new_token()
    path.rename(old)
    path.write_text(new)
    assert key_of(reader) == "sk-1"
    assert reader.trouble == ""
    openbao.api("POST", "auth/token/revoke", {"token": new})
    with pytest.raises(CredentialUnavailable, match="has ended"):
        reader.read(PATH)
    path.write_text(new_token() + "\n")
    assert key_of(reader) == "sk-1"


def test_token_without_the_default_policy(openbao: OpenBao, make: Make, tmp_path: Path) -> None:
    """It may not look itself up, and reads all the same."""
    body = {"policies": ["tollhouse"], "no_default_policy": True}
    path = tmp_path / "token"
    path.write_text(openbao.api("POST", "auth/token/create", body)["auth"]["client_token"])
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make(TokenFile(path))
    assert key_of(reader) == "sk-1"
    assert reader.tend() is None
    with pytest.raises(CredentialUnavailable, match="its policy needs"):
        reader.read("teams/openai")


# Outages


def test_stopped_and_back(openbao: OpenBao, make: Make) -> None:
    """A server that is gone is away, not a refusal; back without its tokens, a new login is made."""
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    assert key_of(reader) == "sk-1"
    openbao.stop()
    for _ in range(2):
        with pytest.raises(StoreAway, match="takes no connection"):
            reader.read(PATH)
    openbao.start()
    assert key_of(reader) == "sk-1"


def test_first_read_after_a_restart_uses_no_dead_connection(openbao: OpenBao, make: Make) -> None:
    """The connection that was kept is dead; the read is sent again on a new one."""
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    assert key_of(reader) == "sk-1"
    openbao.stop()
    openbao.start()
    assert key_of(reader) == "sk-1"


def test_sealed_and_unsealed(openbao: OpenBao, make: Make) -> None:
    """Sealed is away, for a read and for a login; unsealed, the same token works."""
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make()
    assert key_of(reader) == "sk-1"
    openbao.seal()
    with pytest.raises(StoreAway, match="sealed"):
        reader.read(PATH)
    with pytest.raises(StoreAway, match="sealed"):
        make().connect()
    openbao.unseal()
    assert key_of(reader) == "sk-1"
    assert openbao.logins() == 1


def test_hanging(openbao: OpenBao, make: Make) -> None:
    """A server that takes a connection and says nothing is away after the time-out, and fine afterwards."""
    openbao.put(PATH, {"api_key": "sk-1"})
    reader = make(timeout_s=0.2)
    assert key_of(reader) == "sk-1"
    openbao.pause()
    try:
        with pytest.raises(StoreAway, match="in time"):
            reader.read(PATH)
    finally:
        openbao.resume()
    assert key_of(reader) == "sk-1"


async def test_through_the_cache(openbao: OpenBao, make: Make) -> None:
    """Own key, common key and rotation through KeyCache and the real server."""
    openbao.put(PATH, {"api_key": "sk-1"})
    openbao.put("projects/p2/openai", {"api_key": "sk-own\n"})
    cache = KeyCache(
        make(), ["projects/{project}/{provider}", "infrastructure/{provider}"], place="secret"
    )
    await cache.connect()
    lease = await cache.get("openai", "acme", "p1")
    assert (lease.secret.reveal(), lease.version, lease.path) == ("sk-1", "1", PATH)
    assert (await cache.get("openai", "acme", "p2")).secret.reveal() == "sk-own"
    openbao.put(PATH, {"api_key": "sk-2"})
    other = await cache.refused(lease)
    assert other is not None
    assert (other.secret.reveal(), other.version) == ("sk-2", "2")
    assert cache.peek("openai", "acme", "p1") is other
    await cache.close()
    assert openbao.logins() == 0


# TLS and the environment


@pytest.fixture(scope="module")
def openbao_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A server with a certificate from a private CA."""
    require("openbao")
    server = OpenBao(tmp_path_factory.mktemp("openbao-tls"), tls=True)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_private_ca(openbao_tls: OpenBao, tmp_path: Path) -> None:
    """The server is verified against ca_file and nothing else."""
    openbao_tls.put(PATH, {"api_key": "sk-1"})
    auth = AppRole(openbao_tls.role_id_file, openbao_tls.secret_id_file)
    reader = VaultReader(openbao_tls.address, auth, ca_file=openbao_tls.ca_file)
    assert key_of(reader) == "sk-1"
    reader.close()
    with pytest.raises(StoreAway, match="can't be verified"):
        VaultReader(openbao_tls.address, auth).connect()
    with pytest.raises(StoreAway, match=r"vault\.ca_file"):
        VaultReader(openbao_tls.address, auth, ca_file=tmp_path / "none.pem").connect()


def test_environment_is_not_looked_at(
    openbao: OpenBao, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No proxy, CA, token or address variable, no ~/.netrc and no ~/.vault-token changes what is asked and by whom."""
    openbao.put(PATH, {"api_key": "sk-1"})
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / ".vault-token").write_text("root-of-the-tests")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", "root-of-the-tests")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.devnull)
    reader = make()
    assert key_of(reader) == "sk-1"
    with pytest.raises(CredentialUnavailable, match="Its policy needs"):
        reader.read("teams/openai")


# KV version 1, pinned versions


@pytest.fixture
def kv1(openbao: OpenBao) -> Iterator[OpenBao]:
    """With KV version 1 at ``old``, which the role may read."""
    openbao.api("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    openbao.api(
        "PUT",
        "sys/policies/acl/old",
        {"policy": 'path "old/infrastructure/*" { capabilities = ["read"] }'},
    )
    openbao.set_role(token_policies=["tollhouse", "old"])
    yield openbao
    openbao.api("DELETE", "sys/mounts/old")


def test_kv1(kv1: OpenBao, make: Make) -> None:
    """Read, missing, and a refusal whose policy line has no `data/`; there is no version to tell."""
    reader = make(mount="old", kv_version=1)
    assert reader.read(PATH) is None
    kv1.api("POST", f"old/{PATH}", {"api_key": "sk-1", "ttl": "1h"})
    found = reader.read(PATH)
    assert found is not None
    assert (found.data["api_key"], found.version) == ("sk-1", "kv1")
    with pytest.raises(CredentialUnavailable, match='path "old/teams/openai"'):
        reader.read("teams/openai")


def test_wrong_kv_version(kv1: OpenBao, make: Make) -> None:
    """Asking one version's mount as the other is said to be that, as far as Vault lets it be seen."""
    kv1.put(PATH, {"api_key": "sk-1"})
    kv1.api("POST", f"old/{PATH}", {"api_key": "sk-1"})
    root = TokenFile(kv1.root_token_file)
    with pytest.raises(
        CredentialUnavailable, match=r"no KV version 1 .* at 'secret'.*vault\.kv_version"
    ):
        make(root, kv_version=1).read(PATH)
    with pytest.raises(
        CredentialUnavailable, match=r"not a secret of KV version 1.*vault\.kv_version"
    ):
        make(root, kv_version=1).read(f"data/{PATH}")
    assert make(root, mount="old").read(PATH) is None


def test_pinned_version(openbao: OpenBao, make: Make) -> None:
    """A path that is pinned stays at its version; deleted, or not there yet, it is missing; other paths go on."""
    openbao.put(PATH, {"api_key": "sk-1"})
    openbao.put(PATH, {"api_key": "sk-2"})
    openbao.put("infrastructure/mistral", {"api_key": "sk-3"})
    reader = make(versions={PATH: 1})
    assert (key_of(reader), key_of(reader, "infrastructure/mistral")) == ("sk-1", "sk-3")
    assert key_of(make(versions={PATH: 3})) is None
    openbao.api("POST", f"secret/delete/{PATH}", {"versions": [1]})
    assert key_of(reader) is None
    assert key_of(make()) == "sk-2"


def test_no_pins_in_kv1(openbao: OpenBao, make: Make) -> None:
    """What keeps no versions can't be pinned."""
    with pytest.raises(ValueError, match="no versions"):
        make(kv_version=1, versions={PATH: 1})


@pytest.mark.parametrize("tls", [False, True])
def test_through_a_proxy(openbao_tls: OpenBao, tmp_path: Path, tls: bool) -> None:
    """It sees its own password and a name. Without the password it opens no tunnel, and that is said."""
    openbao_tls.put(PATH, {"api_key": "sk-1"})
    auth = AppRole(openbao_tls.role_id_file, openbao_tls.secret_id_file)
    login = tmp_path / "login"
    login.write_text("toll:s3cr3t\n")
    there = openbao_tls.address.removeprefix("https://")
    host, _, port = there.partition(":")
    with ConnectProxy({there: (host, int(port))}, tls=tls, login=("toll", "s3cr3t")) as proxy:
        ca_file = None
        if tls:
            ca_file = tmp_path / "proxy.pem"
            ca_file.write_bytes(proxy.ca_pem)

        def reader(login_file: Path | None) -> VaultReader:
            way = VaultProxy(proxy.url, ca_file, login_file)
            return VaultReader(openbao_tls.address, auth, ca_file=openbao_tls.ca_file, proxy=way)

        with contextlib.closing(reader(login)) as through:
            assert key_of(through) == "sk-1"
        assert {head.split()[1] for head in proxy.asked} == {there}
        assert not any("x-vault" in head.lower() for head in proxy.asked)
        for login_file, said in (
            (None, r"opens no tunnel. Look at vault\.proxy"),
            (tmp_path / "nothing", "can't be read"),
        ):
            without = reader(login_file)
            with pytest.raises(StoreAway, match=said):
                without.connect()
            without.close()
    with pytest.raises(ValueError, match="https"):
        VaultReader("http://127.0.0.1:1", auth, proxy=VaultProxy(proxy.url))
