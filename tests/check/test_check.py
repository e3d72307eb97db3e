"""`tollhouse check`: each thing that can be wrong with a configuration's surroundings, and what is said of it. Past 400 lines: one
command, and each thing has its test."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis as blocking
from tests.families.tiny import TINY
from tests.support.embedded_vault import put_unchecked
from tests.support.issuer import ec_key, jwk, jwks
from tests.support.openbao import OpenBao
from tests.support.programs import free_port
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer, serving
from tests.support.signed_token import signed
from tests.support.values import replace

from tollhouse.check.check import Finding, check, worst
from tollhouse.check.opened_paths import openings_of
from tollhouse.check.redis import check_redis, over_the_network, said_of
from tollhouse.config.load import Address, Config, ConfigError, catalog, load_config
from tollhouse.control.client import SOCKET_NAME
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.families.opened import opened, parse_opening
from tollhouse.providers.openai import OPENAI
from tollhouse.site.http import AdminSite
from tollhouse.trust.ca import CertificateAuthority

LISTEN = '[listen]\nproxy = "127.0.0.1:0"\nbase_url = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n'
VAULT = '[vault]\naddress = "embedded"\n'
REDIS = '[redis]\nurl = "embedded"\n'


@pytest.fixture
def write(tmp_path: Path):
    """Writes tollhouse.toml into an empty directory."""

    def file(*tables: str) -> Path:
        path = tmp_path / "tollhouse.toml"
        path.write_text("".join(tables))
        return path

    return file


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(str(finding) for finding in findings if finding.level == level)


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def run(
    path: Path, environ: Mapping[str, str] | None = None, clock=time.time
) -> list[Finding]:
    findings = await check(path, environ=environ or {}, clock=clock)
    json.dumps([finding.as_dict() for finding in findings])
    return findings


async def test_all_is_well(write) -> None:
    """Embedded stores and free ports: no error, and each warning says what embedded means."""
    findings = await run(write(LISTEN, VAULT, REDIS))
    assert said(findings, "error") == ""
    assert worst(findings) == "warn"
    assert [f.what for f in findings if f.level == "warn"] == [
        "Redis is embedded.",
        "Vault is embedded.",
        "There is no key for openai.",
    ]
    assert "There is no CA yet." in said(findings, "ok")


@pytest.mark.parametrize(
    ("listen", "admin", "level", "words"),
    [
        ("127.0.0.1:0", "api = true", "ok", "The admin API is at 127.0.0.1:0/api/v1."),
        ("off", "api = true", "error", "admin.api has no effect."),
        ("0.0.0.0:0", "api = true", "warn", "refuses each request from another machine"),
        ("0.0.0.0:0", "api = true\nunsafe_plaintext = true", "warn", "cross the network readable"),
    ],
)
async def test_the_admin_api(write, listen: str, admin: str, level: str, words: str) -> None:
    """Whether it can be reached, and whether its tokens would be read on the way."""
    opened = f'[listen]\nproxy = "127.0.0.1:0"\nbase_url = "off"\nadmin = "{listen}"\n'
    findings = await run(write(opened, VAULT, REDIS, f"[admin]\n{admin}\n"))
    assert words in said(findings, level)


OIDC = """[admin.oidc]
issuer = "https://127.0.0.1:1"
client_id = "tollhouse"
redirect_url = "{redirect}"
admins = {{ groups = "ops" }}
"""


async def test_people(write) -> None:
    """A provider that is away, a way back that leads nowhere, and ID tokens that would open the API."""
    findings = await run(
        write(LISTEN, VAULT, REDIS, OIDC.format(redirect="https://toll.example/oidc/callback"))
    )
    assert "https://127.0.0.1:1 can't be used." in said(findings, "error")
    assert 'Add "toll.example" to listen.base_url_hosts.' in said(findings, "error")
    local = OIDC.format(redirect="http://127.0.0.1:9090/oidc/callback")
    findings = await run(write(LISTEN, VAULT, REDIS, local + 'audience = "tollhouse"\n'))
    assert "redirect_url" not in said(findings, "error")
    assert "admin.oidc.audience has the client_id." in said(findings, "warn")


async def test_makes_nothing(write, tmp_path: Path) -> None:
    """A check leaves the directory as it found it."""
    await run(write(LISTEN, VAULT, REDIS))
    assert names(tmp_path) == ["tollhouse.toml"]


async def test_broken_file(write) -> None:
    """A file that can't be read as a configuration: its problems, and nothing else."""
    path = write(LISTEN, VAULT, REDIS, "[log]\ncols = 1\n[routes]\na = 'b'\n")
    findings = await run(path)
    assert [finding.level for finding in findings] == ["error", "error"]
    assert findings[0].what.endswith("tollhouse.toml: log.cols")
    assert findings[0].todo == "did you mean 'calls'?"
    with pytest.raises(ConfigError) as error:
        load_config(path)
    # Word for word what `run` says of it.
    assert [str(finding) for finding in findings] == [
        f"error: {problem}" for problem in error.value.problems
    ]


async def test_a_fallback(write) -> None:
    """One of another family is an error; one that will do is a provider that needs a key."""
    wrong = '[providers.openai]\nfallback = "anthropic"\n'
    assert "speaks the API of 'anthropic'" in said(
        await run(write(LISTEN, VAULT, REDIS, wrong)), "error"
    )
    right = (
        '[providers.openai]\nfallback = "vllm"\n'
        '[providers.vllm]\nfamily = "openai"\nhosts = ["llm.internal"]\n'
    )
    findings = await run(write(LISTEN, VAULT, REDIS, right))
    assert said(findings, "error") == ""
    assert "There is no key for vllm." in [finding.what for finding in findings]


async def test_a_fallback_without_a_price(write) -> None:
    """Whether it has none at all, or none for a model that the configuration names at the first provider."""
    pair = (
        '[providers.openai]\nfallback = "vllm"\n[providers.openai.models]\nours = "gpt-4o-mini"\n'
        '[providers.vllm]\nfamily = "openai"\nhosts = ["llm.internal"]\n'
        '[projects.p]\ntenant = "acme"\nmodels = ["gpt-4o", "openai/gpt-5*", "claude-*", "anthropic/claude-sonnet-5"]\n'
    )

    def price(*models: str) -> str:
        return "".join(f'[prices."vllm/{model}"]\ninput = "1"\noutput = "2"\n' for model in models)

    warned = said(await run(write(LISTEN, VAULT, REDIS, pair)), "warn")
    assert "No model has a price at vllm, the fallback of openai." in warned
    assert '[prices."vllm/MODEL"]' in warned
    warned = said(await run(write(LISTEN, VAULT, REDIS, pair, price("gpt-4o"))), "warn")
    assert "vllm, the fallback of openai, has no price for ours, gpt-5*." in warned
    priced = price("gpt-4o", "ours", "gpt-5-mini")
    assert "the fallback of" not in said(
        await run(write(LISTEN, VAULT, REDIS, pair, priced)), "warn"
    )


async def test_issuers(write, tmp_path: Path) -> None:
    """Keys that can't be read, everybody at GitHub let in, another tenant's project, and a network without its listener."""
    (tmp_path / "jwks.json").write_bytes(jwks(jwk(ec_key("issuer"), "one")))
    (tmp_path / "emptied.json").write_bytes(jwks())
    common = 'audience = "tollhouse"\ntenant = "acme"\nproject = "repository"\n'
    tables = (
        f'[[identity.jwt]]\nissuer = "https://a.test"\njwks_file = "jwks.json"\n{common}projects = {{ x = "proj_a" }}\n'
        f'[[identity.jwt]]\nissuer = "https://b.test"\njwks_file = "gone.json"\n{common}'
        '[[identity.jwt]]\nissuer = "https://token.actions.githubusercontent.com"\njwks_file = "jwks.json"\n'
        f"{common}"
        f'[[identity.jwt]]\nissuer = "https://c.test"\njwks_file = "emptied.json"\n{common}'
        f'[[identity.jwt]]\nissuer = "https://d.test"\njwks_url = "https://127.0.0.1:1/keys"\n{common}token_file = "gone"\n'
        f'[[identity.jwt]]\nissuer = "https://e.test"\njwks_url = "https://127.0.0.1:1/keys"\n{common}claims = {{ email = "a" }}\n'
        '[[identity.network]]\nsource = "10.1.0.0/16"\nproject = "proj_a"\ntenant = "acme"\n'
        '[projects.proj_a]\ntenant = "other"\n'
    )
    findings = await run(write(LISTEN, VAULT, REDIS, tables))
    errors = said(findings, "error")
    assert "The keys of https://b.test can't be read. " in errors
    assert "gone.json can't be read (No such file or directory)" in errors
    assert "https://c.test has no key that could be used." in errors
    assert "identity.jwt[2] lets in everybody who has an account" in errors
    assert "identity.jwt[0] leads to the project proj_a" in errors
    assert "identity.network[0] leads to the project proj_a" in errors
    assert "gone can't be read (No such file or directory). Without" in errors
    assert "broke off (ConnectionRefusedError). Without" in errors
    warned = said(findings, "warn")
    assert "identity.network has no effect" in warned
    assert "identity.jwt[5] goes by email, and does not ask whether" in warned
    assert "https://a.test has 1 key." in said(findings, "ok")
    broken = (
        f'[[identity.jwt]]\nissuer = "http://a.test"\njwks_url = "http://a.test/keys"\n{common}algorithms = ["HS256"]\n'
        f'[[identity.jwt]]\nissuer = "https://b.test"\n{common.replace("repository", "{a}{b}")}limits = ["1 egg/day"]\n'
        '[[identity.network]]\nsource = "0.0.0.0/0"\nproject = "p"\ntenant = "acme"\n'
    )
    errors = said(await run(write(LISTEN, VAULT, REDIS, broken)), "error")
    for part in (
        "identity.jwt[0].issuer: must be the iss",
        "identity.jwt[0].jwks_url: must be an https:// URL",
        "identity.jwt[0].algorithms[0]: is none of RS256",
        "identity.jwt[1].project: has two claims side by side",
        "identity.network[0].source: is everybody",
    ):
        assert part in errors, errors
    rules = (
        f'[[identity.jwt]]\nissuer = "https://b.test"\nca_file = "x"\n{common}limits = ["1 egg/day"]\n'
        f'[[identity.jwt]]\nissuer = "https://b.test"\njwks_file = "x"\n{common}'
        '[identity.mtls]\nca_file = "x"\ntenant = "acme"\nprojects = { x = "p" }\n'
    )
    errors = said(await run(write(LISTEN, VAULT, REDIS, rules)), "error")
    for part in (
        "identity.jwt[0].jwks_url: has to be there",
        "identity.jwt[0].ca_file: has no effect",
        "identity.jwt[0].limits[0]",
        "identity.jwt[1].issuer: https://b.test is there twice",
        "identity.mtls: has no effect without listen.tls",
    ):
        assert part in errors, errors


async def test_not_enforced_yet(write) -> None:
    """What this version doesn't do is an error, never silence."""
    pinned = VAULT + 'versions = { "infrastructure/openai" = 1 }\n'
    findings = await run(write(LISTEN, pinned, REDIS))
    assert "vault.versions: is not enforced yet" in said(findings, "error")


async def test_provider_key_in_the_environment(write) -> None:
    """The variable is named, its value is not."""
    findings = await run(write(LISTEN, VAULT, REDIS), {"OPENAI_API_KEY": "sk-secret", "HOME": "/"})
    assert "OPENAI_API_KEY is set" in said(findings, "error")
    assert "sk-secret" not in repr(findings)


async def test_ca(write, tmp_path: Path) -> None:
    """A CA that covers all is fine; with a host added, or its end near, it is not."""
    config = load_config(write(LISTEN, VAULT, REDIS))
    CertificateAuthority.create([h for p in catalog(config).providers for h in p.hosts]).save(
        tmp_path / "state"
    )
    assert "The CA covers all" in said(await run(config.path), "ok")
    findings = await run(config.path, clock=lambda: time.time() + 3640 * 86_400)
    assert "The CA expires on" in said(findings, "warn")
    findings = await run(config.path, clock=lambda: time.time() + 3660 * 86_400)
    assert "The CA expired on" in said(findings, "error")
    own = '[providers.vllm]\nfamily = "openai"\nhosts = ["llm.internal"]\n'
    findings = await run(write(LISTEN, VAULT, REDIS, own))
    assert "does not cover llm.internal" in said(findings, "error")
    assert "tollhouse ca renew" in said(findings, "error")


async def test_ca_of_an_older_version(write, tmp_path: Path) -> None:
    """Made when fewer hosts were built in: some are named, and what to do."""
    config = load_config(write(LISTEN, VAULT, REDIS))
    hosts = [
        host
        for provider in catalog(config).providers
        if provider.name != "vertex"
        for host in provider.hosts
    ]
    CertificateAuthority.create(hosts).save(tmp_path / "state")
    found = said(await run(config.path), "warn")
    assert "does not cover aiplatform.googleapis.com, " in found
    assert "other hosts. It was made before these hosts were configured or built in" in found
    assert "tollhouse ca renew" in found


@pytest.mark.parametrize(
    ("name", "mode"),
    [(".", 0o777), (".", 0o770), ("settles.spool", 0o644), ("control.sock", 0o660)],
)
async def test_a_state_directory_that_others_may_write(
    write, tmp_path: Path, name: str, mode: int
) -> None:
    """The gateway refuses to start with it, so that it is an error here."""
    path = tmp_path / "state" / name
    (tmp_path / "state").mkdir(mode=0o700)
    if name != ".":
        path.touch()
    path.chmod(mode)
    findings = await run(write(LISTEN, VAULT, REDIS))
    assert f"{path} has mode {mode:04o}. Others on this machine can " in said(findings, "error")
    assert "is open to others" not in said(findings, "warn")


async def test_ca_key_open_to_others(write, tmp_path: Path) -> None:
    """A CA key that others can read is refused, as it is at start."""
    CertificateAuthority.create(["api.openai.com"]).save(tmp_path / "state")
    (tmp_path / "state" / "ca-key.pem").chmod(0o644)
    (tmp_path / "state").chmod(0o755)
    findings = await run(write(LISTEN, VAULT, REDIS))
    assert "The CA can't be used" in said(findings, "error")
    assert f"{tmp_path / 'state'} is open to others" in said(findings, "warn")


async def test_configured_ca_that_is_missing(write) -> None:
    """A CA that the file names is never made, so its absence is an error."""
    findings = await run(
        write(LISTEN, VAULT, REDIS, '[ca]\ncert_file = "a.pem"\nkey_file = "b.pem"\n')
    )
    assert "The CA can't be used" in said(findings, "error")


async def test_files(write, tmp_path: Path) -> None:
    """Files that the gateway opens at start are opened by the check too."""
    (tmp_path / "empty.pem").write_text("")
    listen = LISTEN + 'tls = { cert_file = "cert.pem", key_file = "key.pem" }\n'
    openai = '[providers.openai]\nca_file = "empty.pem"\n'
    findings = await run(
        write(listen, VAULT, REDIS, openai, '[log]\ncalls = "missing/calls.jsonl"\n')
    )
    errors = said(findings, "error")
    assert "listen.tls" in errors
    assert "providers.openai.ca_file" in errors
    assert "log.calls" in errors


@pytest.mark.parametrize("calls", ["state", "/proc/nope.jsonl", "tollhouse.toml/calls"])
async def test_calls_that_can_not_be_written(write, tmp_path: Path, calls: str) -> None:
    """A directory, a place where even root makes no file, and one below a file."""
    (tmp_path / "state").mkdir(mode=0o700)
    errors = said(await run(write(LISTEN, VAULT, REDIS, f'[log]\ncalls = "{calls}"\n')), "error")
    assert errors.startswith("error: log.calls ")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("directory", ["/proc/nope", "tollhouse.toml", "tollhouse.toml/state"])
async def test_state_directory_that_can_not_be_made(write, tmp_path: Path, directory: str) -> None:
    """What `run` could not lock is an error of the check."""
    listen = LISTEN + f'[state]\ndirectory = "{directory}"\n'
    assert "error: The state directory " in said(await run(write(listen, VAULT, REDIS)), "error")
    assert names(tmp_path) == ["tollhouse.toml"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"version": 2}', '{"version": 1, "directory": {}, "limits": {"a": []}}']
)
async def test_broken_embedded_ledger(write, tmp_path: Path, text: str) -> None:
    """The gateway would refuse to start with it."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "ledger.json").write_text(text)
    (tmp_path / "state" / "ledger.json").chmod(0o600)
    errors = said(await run(write(LISTEN, VAULT, REDIS)), "error")
    assert errors.startswith(
        f"error: The embedded ledger {tmp_path / 'state' / 'ledger.json'} can't be read. "
    )
    assert len(errors.splitlines()) == 1


async def test_listener_certificate(write, tmp_path: Path) -> None:
    """A certificate with its key is fine until it nears its end."""
    ca = CertificateAuthority.create(["gateway.example"])
    ca.save(tmp_path / "tls")
    listen = LISTEN + 'tls = { cert_file = "tls/ca.pem", key_file = "tls/ca-key.pem" }\n'
    assert "belongs to its key" in said(await run(write(listen, VAULT, REDIS)), "ok")
    findings = await run(
        write(listen, VAULT, REDIS), clock=lambda: ca.not_after.timestamp() - 86_400
    )
    assert "listen.tls" in said(findings, "warn")


async def test_password_in_a_readable_file(write) -> None:
    """A configuration with Redis's password is nobody else's to read."""
    path = write(LISTEN, VAULT, '[redis]\nurl = "redis://:hunter2@127.0.0.1:1/0"\n')
    path.chmod(0o644)
    findings = await run(path)
    assert f"{path} is open to others" in said(findings, "warn")
    assert "hunter2" not in repr(findings)
    path.chmod(0o600)
    assert "open to others" not in said(await run(path), "warn")


async def test_subject_tokens(write, tmp_path: Path) -> None:
    """What is missing of each is named, and no token is shown."""
    token = signed()
    (tmp_path / "good").write_text(token)
    ids = 'parameters = {{ identity_provider_id = "a", service_account_id = "b" }}\n'
    entry = '[providers.{0}]\nfamily = "openai"\nhosts = ["{1}"]\n[providers.{0}.credential]\nmethod = "federation"\n'
    entry += 'subject = {{ source = "file", file = "{2}" }}\naudience = "{3}"\n' + ids
    findings = await run(
        write(
            '[vault]\naddress = "embedded"\n[redis]\nurl = "embedded"\n',
            entry.format("openai", "us.api.openai.com", "good", "https://tollhouse.test"),
            entry.format("two", "eu.api.openai.com", "good", "https://other.test"),
            entry.format("three", "jp.api.openai.com", "gone", "https://tollhouse.test"),
        )
    )
    assert "openai is called as system:serviceaccount:tollhouse:gateway" in said(findings, "ok")
    errors = said(findings, "error")
    assert "two gets no credential. audience: the token of" in errors
    assert "three gets no credential. subject: The token file" in errors
    assert token not in str(findings)


async def test_exposed(write) -> None:
    """What other machines can reach, and what crosses the network readable, is said."""
    listen = '[listen]\nproxy = "127.0.0.1:0"\nbase_url = "0.0.0.0:0"\nadmin = "0.0.0.0:0"\nunsafe_plaintext_listen = true\n'
    own = '[providers.vllm]\nfamily = "openai"\nhosts = ["llm.internal"]\nunsafe_plaintext = true\n'
    warnings = said(await run(write(listen, VAULT, REDIS, own)), "warn")
    assert "listen.admin 0.0.0.0:0" in warnings
    assert "listen.base_url 0.0.0.0:0" in warnings
    assert "providers.vllm is called over plain http" in warnings


async def test_fail_open(write) -> None:
    """What the switch lets out is said, each time."""
    url = 'url = "redis://127.0.0.1:1/0"\n'
    warnings = said(
        await run(write(LISTEN, VAULT, f"[redis]\n{url}unsafe_fail_open = true\n")), "warn"
    )
    assert "redis.unsafe_fail_open lets calls leave while Redis is away" in warnings
    assert "unsafe_fail_open" not in said(
        await run(write(LISTEN, VAULT, f"[redis]\n{url}")), "warn"
    )


# Ports


async def test_port_in_use(write) -> None:
    """A port that another program has is an error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listen = f'[listen]\nproxy = "127.0.0.1:{port}"\nbase_url = "off"\nadmin = "off"\n'
        errors = said(await run(write(listen, VAULT, REDIS)), "error")
    assert f"listen.proxy 127.0.0.1:{port} can't be bound." in errors
    assert "Another program" in errors


async def test_port_of_our_own_gateway_by_its_socket(write, tmp_path: Path) -> None:
    """A port in use while a gateway answers in the state directory is that gateway's."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket(socket.AF_UNIX) as control:
        control.bind(str(state / SOCKET_NAME))
        control.listen()
        listen = f'[listen]\nproxy = "127.0.0.1:{other.getsockname()[1]}"\nbase_url = "off"\nadmin = "off"\n'
        findings = await run(write(listen, VAULT, REDIS))
    assert "The gateway of this state directory is running." in said(findings, "ok")
    assert "can't be bound" not in said(findings, "error")


async def test_port_of_our_own_gateway_by_its_admin_listener(write) -> None:
    """A gateway is known by its admin listener as well."""

    async def nothing() -> tuple[str, bytes]:
        return "", b""

    site = AdminSite(Address("127.0.0.1", 0), ["localhost"], list, nothing)
    _, port = await site.start()
    try:
        listen = f'[listen]\nproxy = "127.0.0.1:0"\nbase_url = "off"\nadmin = "127.0.0.1:{port}"\n'
        findings = await run(write(listen, VAULT, REDIS))
    finally:
        await site.close()
    assert f"listen.admin 127.0.0.1:{port} is in use." in said(findings, "ok")


async def test_address_of_another_machine(write) -> None:
    """An address that this machine has not got can't be bound here."""
    listen = '[listen]\nproxy = "127.0.0.1:0"\nbase_url = "off"\nadmin = "192.0.2.7:9090"\n'
    assert "not one of this machine" in said(await run(write(listen, VAULT, REDIS)), "error")


# Redis


def redis_config(tmp_path: Path, url: str) -> Config:
    path = tmp_path / "tollhouse.toml"
    path.write_text(VAULT + f'[redis]\nurl = "{url}"\n')
    return load_config(path)


@asynccontextmanager
async def server(answers: Mapping[str, bytes]) -> AsyncIterator[str]:
    """A Redis that knows what it is told: the first words of a command to its answer. None of it is ours to patch."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2].decode())
            command = " ".join(words).upper()
            found = next(
                (answer for start, answer in answers.items() if command.startswith(start)),
                b"-ERR unknown\r\n",
            )
            if not found:
                await reader.read()
            writer.write(found)
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listening:
        yield f"redis://:hunter2@127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


def hello(version: str) -> bytes:
    return b"*4\r\n" + b"".join(bulk(text) for text in ("server", "redis", "version", version))


def user(commands: str, keys: str) -> bytes:
    """The answer to ACL GETUSER of Redis 7."""
    flags = bulk("flags") + b"*1\r\n" + bulk("off")
    passwords = bulk("passwords") + b"*0\r\n"
    rest = ("commands", commands, "keys", keys, "channels", "")
    return (
        b"*12\r\n" + flags + passwords + b"".join(map(bulk, rest)) + bulk("selectors") + b"*0\r\n"
    )


WELL = {
    "AUTH": b"+OK\r\n",
    "PING": b"+PONG\r\n",
    "TIME": b"*2\r\n$7\r\n1000000\r\n$1\r\n0\r\n",
    "EVAL": b":1\r\n",
    "INFO MEMORY": bulk("# Memory\r\nmaxmemory_policy:noeviction\r\n"),
    "INFO PERSISTENCE": bulk("# Persistence\r\naof_enabled:1\r\nrdb_last_bgsave_status:ok\r\n"),
    "INFO REPLICATION": bulk("# Replication\r\nrole:master\r\n"),
    "CONFIG GET SAVE": b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n",
}


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ({}, "ok", "answers"),
        (
            {"INFO MEMORY": bulk("maxmemory_policy:allkeys-lru\r\n")},
            "warn",
            "maxmemory-policy allkeys-lru",
        ),
        ({"INFO PERSISTENCE": bulk("aof_enabled:0\r\n")}, "warn", "saves nothing to disk"),
        (
            {
                "INFO PERSISTENCE": bulk("aof_enabled:0\r\n"),
                "CONFIG GET SAVE": b"*2\r\n$4\r\nsave\r\n$4\r\n60 1\r\n",
            },
            "warn",
            "snapshots only",
        ),
        ({"INFO REPLICATION": bulk("role:slave\r\n")}, "error", "is a replica"),
        ({"TIME": b"*2\r\n$7\r\n1000100\r\n$1\r\n0\r\n"}, "warn", "100 s ahead of"),
        ({"TIME": b"*2\r\n$6\r\n999900\r\n$1\r\n0\r\n"}, "warn", "100 s behind"),
        (
            {"AUTH": b"-WRONGPASS invalid username-password pair hunter2\r\n"},
            "error",
            "does not let us in",
        ),
        ({"PING": b"-NOAUTH Authentication required.\r\n"}, "error", "does not let us in"),
        ({"EVAL": b"-NOPERM no permissions to run 'eval'\r\n"}, "error", "does not let us in"),
        ({"EVAL": b"-ERR unknown command 'EVAL' hunter2\r\n"}, "error", "with an error"),
        ({"INFO": b"-NOPERM\r\n", "CONFIG": b"-ERR unknown command\r\n"}, "ok", "answers"),
        ({"INFO CLUSTER": bulk("cluster_enabled:1\r\n")}, "error", "is a node of a Cluster"),
        ({"HELLO": hello("7.0.15"), "ACL GETUSER": user("-@all", "")}, "warn", "Redis 7.0.15 at"),
        (
            {"HELLO": hello("7.0.15"), "ACL GETUSER": user("-@all +ping", "~*")},
            "warn",
            "will lose charges",
        ),
        (
            {"HELLO": hello("7.0.15"), "ACL GETUSER": user("+@all", "~x:*")},
            "warn",
            "will lose charges",
        ),
        ({"HELLO": hello("7.0.15"), "ACL GETUSER": user("+@all", "~*")}, "ok", "answers"),
        (
            {"HELLO": hello("7.0.15"), "ACL GETUSER": b"-NOPERM\r\n"},
            "ok",
            "can't be seen by this user",
        ),
        ({"HELLO": hello("7.2.4"), "ACL GETUSER": user("-@all", "")}, "ok", "answers"),
    ],
)
async def test_redis(tmp_path: Path, change: dict[str, bytes], level: str, text: str) -> None:
    """One finding for each way in which a Redis is not fit to keep a ledger, and the password in none."""
    answers = change | {
        key: value for key, value in WELL.items() if not any(key.startswith(new) for new in change)
    }
    async with server(answers) as url:
        findings = await check_redis(redis_config(tmp_path, url), clock=lambda: 1_000_000.5)
    assert text in said(findings, level)
    assert "hunter2" not in repr(findings)
    others = [finding for finding in findings if finding.level != "ok" and text not in str(finding)]
    assert others == []


async def test_redis_that_hangs(tmp_path: Path) -> None:
    """A server that takes the connection and says nothing is given up after the bound."""
    async with server({"AUTH": b""}) as url:
        findings = await check_redis(redis_config(tmp_path, url), timeout_s=0.1)
    assert [finding.why for finding in findings] == ["It did not answer within 0.1 s."]
    assert "hunter2" not in repr(findings)


async def test_redis_away(tmp_path: Path) -> None:
    """Nobody listens: an error at once, with the place and without the password."""
    findings = await check_redis(
        redis_config(tmp_path, f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    )
    assert [finding.level for finding in findings] == ["error"]
    assert "No connection" in findings[0].why
    assert "hunter2" not in repr(findings)


async def test_nobody_listens_and_calls_may_leave(tmp_path: Path) -> None:
    """With unsafe_fail_open it is not said that every call is refused, of one server or of Sentinels."""
    for url in (
        f"redis://127.0.0.1:{free_port()}/0",
        f"redis+sentinel://127.0.0.1:{free_port()}/m",
    ):
        config = redis_config(tmp_path, url)
        assert "every call is refused with 503" in said(await check_redis(config), "error")
        config.path.write_text(config.path.read_text() + "unsafe_fail_open = true\n")
        errors = said(await check_redis(load_config(config.path)), "error")
        assert "every call" not in errors
        assert "identities proven in the last 5 minutes call without any limit" in errors


def test_an_error_of_redis_is_cut_before_what_was_sent() -> None:
    """Its own words, and nothing that it quotes."""
    from redis.exceptions import ResponseError

    assert (
        said_of(ResponseError("This instance has cluster support disabled"))
        == "This instance has cluster support disabled"
    )
    assert (
        said_of(ResponseError("unknown command 'AUTH', with args beginning with: 'hunter2'"))
        == "unknown command"
    )
    assert said_of(ResponseError("")) == "ERR"


async def test_redis_over_the_network(tmp_path: Path) -> None:
    """A Redis elsewhere without TLS is pointed out, one over a socket is not."""
    assert list(over_the_network("redis://db:6379/0", "redis://db:6379/0"))
    assert list(
        over_the_network("redis+cluster://127.0.0.1:1,db:1", "redis+cluster://127.0.0.1:1,db:1")
    )
    assert not list(over_the_network("redis+sentinel://db:1/m?ssl=true", "redis+sentinel://db:1/m"))
    assert not list(over_the_network("rediss://db:6379/0", "rediss://db:6379/0"))
    assert not list(over_the_network("unix:///run/redis.sock", "unix:///run/redis.sock"))


async def test_real_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    """A real server without persistence, over TCP and over its socket."""
    for url in (redis_server.url, redis_server.unix_url):
        findings = await check_redis(redis_config(tmp_path, url))
        assert said(findings, "error") == ""
        assert [f.what for f in findings if f.level == "warn"] == [
            f"Redis at {redis_config(tmp_path, url).redis.place} saves nothing to disk."
        ]


async def test_the_default_user_of_a_real_redis(tmp_path: Path) -> None:
    """Shut by a bare `user default off` it costs Redis 7.0 its transactions; as docs/redis.md writes it, or with another version,
    it does not."""
    for rules, harmful in (("off", True), ("off ~* &* +@all", False)):
        port = free_port()
        conf = tmp_path / "redis.conf"
        conf.write_text(
            f'port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsave ""\nappendonly yes\n'
            f"user gate on >hunter2 ~* &* +@all\nuser default {rules}\n"
        )
        with serving(str(conf), ready="Ready to accept"):
            url = f"redis://gate:hunter2@127.0.0.1:{port}/0"
            with blocking.Redis.from_url(url) as client:
                version: str = client.info("server")["redis_version"]  # type: ignore[index]
            findings = await check_redis(redis_config(tmp_path, url))
        assert ("will lose charges" in said(findings, "warn")) is (
            harmful and version.startswith("7.0.")
        )
        assert said(findings, "error") == ""
        assert "hunter2" not in repr(findings)


async def test_sentinels(redis_server: RedisServer, tmp_path: Path) -> None:
    """Each is asked which master it names, and that one is judged."""
    port, nobody = free_port(), free_port()
    conf = tmp_path / "sentinel.conf"
    conf.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor m 127.0.0.1 {redis_server.port} 1\n"
    )
    with serving(str(conf), "--sentinel", ready="+monitor"):
        findings = await check_redis(
            redis_config(tmp_path, f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{nobody}/m")
        )
        place = f"127.0.0.1:{redis_server.port}"
        assert said(findings, "error") == ""
        assert f"Redis at {place} answers." in said(findings, "ok")
        assert [finding.what for finding in findings if finding.level == "warn"] == [
            f"The Sentinel at 127.0.0.1:{nobody} names no master.",
            f"Redis at {place} saves nothing to disk.",
            f"Redis at {place} has no replica.",
        ]
        findings = await check_redis(
            redis_config(tmp_path, f"redis+sentinel://127.0.0.1:{port}/other")
        )
        assert "It knows no other." in said(findings, "warn")
        assert "None of the Sentinels names the master other." in said(findings, "error")
    findings = await check_redis(
        redis_config(tmp_path, f"redis+sentinel://127.0.0.1:{redis_server.port}/m")
    )
    assert "it may be no Sentinel" in said(findings, "warn")
    assert worst(findings) == "error"


async def test_sentinels_that_disagree(tmp_path: Path) -> None:
    """Each of the masters that they name is judged."""
    async with server(WELL) as first, server(WELL) as second:
        ports = [url.rpartition(":")[2].removesuffix("/0") for url in (first, second)]
        named = [{"SENTINEL": b"*2\r\n" + bulk("127.0.0.1") + bulk(port)} for port in ports]
        async with server(named[0]) as one, server(named[1]) as other:
            places = ",".join(url.rpartition("@")[2].removesuffix("/0") for url in (one, other))
            url = f"redis+sentinel://:hunter2@{places}/m"
            findings = await check_redis(redis_config(tmp_path, url), clock=lambda: 1_000_000.5)
    assert "The Sentinels name different masters: " in said(findings, "warn")
    assert [f"Redis at 127.0.0.1:{port} answers." in said(findings, "ok") for port in ports] == [
        True,
        True,
    ]
    assert "hunter2" not in repr(findings)


async def test_a_cluster(redis_cluster: RedisCluster, tmp_path: Path) -> None:
    """Every master is judged, not only those of the URL; a node of the URL that is away is named."""
    nobody = free_port()
    url = f"redis+cluster://127.0.0.1:{redis_cluster.masters[0].port},127.0.0.1:{nobody}"
    findings = await check_redis(redis_config(tmp_path, url))
    assert said(findings, "error") == ""
    warnings = said(findings, "warn")
    assert f"Redis at 127.0.0.1:{nobody} can't be used." in warnings
    for node in redis_cluster.masters:
        place = f"127.0.0.1:{node.port}"
        assert f"Redis at {place} answers." in said(findings, "ok")
        for text in (
            "saves nothing to disk.",
            "has no replica.",
            "stops when any slot of the Cluster is away.",
        ):
            assert f"Redis at {place} {text}" in warnings


async def test_a_cluster_that_is_not_whole(tmp_path: Path) -> None:
    """Slots without a master; a master that is gone; a user who may not ask; and at last nobody."""
    with RedisCluster(tmp_path / "cluster", masters=2) as cluster:
        first, second = cluster.masters
        first.run("ACL", "SETUSER", "gate", "on", ">hunter2", "~toll:*", "+@all", "-cluster")
        where = f"127.0.0.1:{first.port}"
        findings = await check_redis(
            redis_config(tmp_path, f"redis+cluster://gate:hunter2@{where}")
        )
        assert f"Redis at {where} does not let us in." in said(findings, "error")
        assert "CLUSTER SLOTS" in said(findings, "error")
        assert "hunter2" not in repr(findings)
        first.run("CLUSTER", "DELSLOTSRANGE", 0, 99)
        config = redis_config(tmp_path, f"redis+cluster://{where}")
        assert "100 of the 16384 slots of the Cluster have no master." in said(
            await check_redis(config), "error"
        )
        second.kill()
        errors = said(await check_redis(config), "error")
        assert f"Redis at 127.0.0.1:{second.port} can't be used." in errors
    findings = await check_redis(config)
    assert [finding.level for finding in findings] == ["error"]
    assert "No connection" in findings[0].why


async def test_a_cluster_that_is_none(
    redis_server: RedisServer, redis_cluster: RedisCluster, tmp_path: Path
) -> None:
    """A single server under a Cluster's URL, and a node of a Cluster under a single server's."""
    single = redis_config(tmp_path, f"redis+cluster://127.0.0.1:{redis_server.port}")
    errors = said(await check_redis(single), "error")
    assert "is no node of a Cluster" in errors
    assert "CLUSTER SLOTS with an error (This instance has cluster support disabled)" in errors
    node = redis_config(tmp_path, f"redis://127.0.0.1:{redis_cluster.masters[0].port}/0")
    assert "is a node of a Cluster" in said(await check_redis(node), "error")


# Vault


async def test_vault_away(write, tmp_path: Path) -> None:
    """Nobody listens, or the file with the token is missing: an error that says which."""
    (tmp_path / "token").write_text("hvs.secret\n")
    address = f"http://127.0.0.1:{free_port()}"
    auth = '{ method = "token", token_file = "token" }'
    findings = await run(write(LISTEN, REDIS, f'[vault]\naddress = "{address}"\nauth = {auth}\n'))
    assert f"Vault at {address} can't be used." in said(findings, "error")
    assert "hvs.secret" not in repr(findings)
    (tmp_path / "token").unlink()
    findings = await run(write(LISTEN, REDIS, f'[vault]\naddress = "{address}"\nauth = {auth}\n'))
    assert "token" in said(findings, "error")


async def test_embedded_key(write, tmp_path: Path) -> None:
    """A key in the embedded vault is found, and its value is not shown."""
    (tmp_path / "state").mkdir(mode=0o700)
    EmbeddedVault(tmp_path / "state").set("openai", "sk-secret")
    findings = await run(write(LISTEN, VAULT, REDIS))
    assert "There is a key for openai at infrastructure/openai." in said(findings, "ok")
    assert "sk-secret" not in repr(findings)


async def test_a_key_for_azure(write, tmp_path: Path) -> None:
    """Without a host of its own it would go nowhere, and it is said why; with one all is well."""
    (tmp_path / "state").mkdir(mode=0o700)
    EmbeddedVault(tmp_path / "state").set("azure", "sk-secret")
    warnings = said(await run(write(LISTEN, VAULT, REDIS)), "warn")
    assert "There is a key for azure, and no host that it may go to." in warnings
    assert '[providers.azure] hosts = ["NAME.openai.azure.com"]' in warnings
    findings = await run(
        write(LISTEN, VAULT, REDIS, '[providers.azure]\nhosts = ["contoso.openai.azure.com"]\n')
    )
    assert "There is a key for azure at infrastructure/azure." in said(findings, "ok")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            {"access_key_id": "AKIAX", "secret_access_key": "sk-secret"},
            "is an AWS access key; openai takes an API key",
        ),
        (
            {"access_key_id": "AKIAX", "api_key": None},
            "'secret_access_key' of the secret at secret/infrastructure/openai",
        ),
        ({"api_key": "sk-secret", "organization": "órg"}, "openai-organization with a character"),
    ],
)
async def test_a_secret_that_the_provider_can_not_use(
    write, tmp_path: Path, value: dict[str, str | None], why: str
) -> None:
    """It is an error here, not at the first call; what is in it is not shown."""
    (tmp_path / "state").mkdir(mode=0o700)
    put_unchecked(tmp_path / "state", "infrastructure/openai", value, version=1)
    findings = await run(write(LISTEN, VAULT, REDIS))
    assert why in said(findings, "error")
    assert "sk-secret" not in repr(findings)


def real_vault(openbao: OpenBao) -> str:
    files = f'role_id_file = "{openbao.role_id_file}", secret_id_file = "{openbao.secret_id_file}"'
    return f'[vault]\naddress = "{openbao.address}"\nauth = {{ method = "approle", {files} }}\n'


PROJECT = '[projects.proj_123]\ntenant = "acme"\n'


async def test_real_vault(write, openbao: OpenBao) -> None:
    """A real login: a key found at the general and at a project's path, and the login given back."""
    openbao.put("infrastructure/openai", {"api_key": "sk-secret"})
    openbao.put("projects/proj_123/openai", {"api_key": "sk-secret-of-project"})
    findings = await run(write(LISTEN, REDIS, real_vault(openbao), PROJECT))
    assert said(findings, "error") == ""
    assert f"Vault at {openbao.address} lets us in." in said(findings, "ok")
    assert "a key for openai at projects/proj_123/openai, infrastructure/openai." in said(
        findings, "ok"
    )
    assert "sk-secret" not in repr(findings)
    assert openbao.logins() == 0


async def test_real_vault_without_a_key(write, openbao: OpenBao) -> None:
    """No key is a warning for a provider that is open, a secret without the field an error."""
    findings = await run(write(LISTEN, REDIS, real_vault(openbao)))
    assert "There is no key for openai. Nothing was found at infrastructure/openai" in said(
        findings, "warn"
    )
    openbao.put("infrastructure/openai", {"key": "sk-secret"})
    findings = await run(write(LISTEN, REDIS, real_vault(openbao)))
    assert "has no field 'api_key'" in said(findings, "error")
    assert "sk-secret" not in repr(findings)


def allow(openbao: OpenBao, path: str) -> None:
    openbao.api(
        "PUT",
        "sys/policies/acl/tollhouse",
        {"policy": f'path "{path}" {{ capabilities = ["read"] }}'},
    )


async def test_a_policy_for_one_provider(write, openbao: OpenBao) -> None:
    """The others are one warning with the line that one of them needs; one that the file names is an error."""
    openbao.put("infrastructure/openai", {"api_key": "sk-secret"})
    allow(openbao, "secret/data/infrastructure/openai")
    findings = await run(write(LISTEN, REDIS, real_vault(openbao)))
    assert said(findings, "error") == ""
    [warning] = [str(finding) for finding in findings if "may not read" in finding.what]
    assert "anthropic" in warning
    assert warning.count('path "secret/data/infrastructure/') == 1
    for named in (
        '[projects.p]\ntenant = "acme"\nmodels = ["anthropic/*"]\n',
        "[providers.anthropic]\nallow_private = true\n",
    ):
        paths = 'paths = ["infrastructure/{provider}"]\n'
        findings = await run(write(LISTEN, REDIS, real_vault(openbao), paths, named))
        [error] = [str(finding) for finding in findings if finding.level == "error"]
        assert "The key of anthropic at infrastructure/anthropic can't be used." in error
        assert "kv_version" not in error


async def test_a_policy_for_nothing(write, openbao: OpenBao) -> None:
    """All are errors, and a wrong mount or kv_version is named, which Vault answers alike."""
    allow(openbao, "secret/data/infrastructure/openai")
    findings = await run(write(LISTEN, REDIS, real_vault(openbao), "kv_version = 1\n"))
    errors = [str(finding) for finding in findings if finding.level == "error"]
    assert len(errors) > 5
    assert all("[vault] mount (secret) or kv_version (1) may be wrong" in error for error in errors)


async def test_real_vault_that_refuses(write, openbao: OpenBao, tmp_path: Path) -> None:
    """A wrong secret_id is an error, and tried once: Vault locks a role out after five."""
    (tmp_path / "secret-id").write_text("wrong")
    text = real_vault(openbao).replace(str(openbao.secret_id_file), "secret-id")
    errors = said(await run(write(LISTEN, REDIS, text)), "error")
    assert f"Vault at {openbao.address} can't be used." in errors
    assert "secret_id" in errors


async def test_real_vault_with_a_wrapped_secret_id(write, openbao: OpenBao) -> None:
    """A wrapping token is for the gateway: it is not tried, and said so."""
    text = real_vault(openbao).replace('method = "approle"', 'method = "approle", wrapped = true')
    openbao.secret_id_file.write_text("s.wrapping-token")
    findings = await run(write(LISTEN, REDIS, text))
    assert said(findings, "error") == ""
    assert f"The login to Vault at {openbao.address} was not tried." in said(findings, "warn")
    assert "wrapping-token" not in repr(findings)


async def test_several_keys(write, openbao: OpenBao) -> None:
    """A secret with several keys says how many."""
    openbao.put("infrastructure/openai", {"api_key": ["sk-secret-1", "sk-secret-2"]})
    findings = await run(write(LISTEN, REDIS, real_vault(openbao)))
    assert "There is a key for openai at infrastructure/openai (2 keys)." in said(findings, "ok")


async def test_endpoints_that_are_opened(write) -> None:
    """What the family has already, in whole or in part; objects that tenants share."""
    opened = (
        '[providers.openai]\nallow = ["POST /v1/chat/completions", "POST /v1/new_thing"]\n'
        'unmetered = ["GET /v1/models/*", "GET /v1/new_list"]\nshare_objects = true\n'
    )
    findings = await run(write(LISTEN, VAULT, REDIS, opened))
    shown = [str(one) for one in findings if "providers.openai." in one.what]
    assert shown == [
        "warn: providers.openai.allow[0] has no effect: POST /v1/chat/completions. The family openai has this endpoint "
        "already, and its own rules hold. Remove it.",
        "warn: providers.openai.unmetered[0] opens some paths only: GET /v1/models/*. The family openai has others of "
        "them already, and its own rules hold for those. Name the segments in place of *, if that is not what is meant.",
        "warn: providers.openai.share_objects is true. Each tenant that uses a common key may list, use and delete the "
        "objects of all others. Remove it, unless they are meant to.",
    ]


def test_jobs_that_are_let_through() -> None:
    """And what each of them is charged."""
    allow = (parse_opening("POST /races"),)
    provider = replace(OPENAI, family=opened(TINY, allow, ()), allow=allow, job_hold=4_500_000_000)
    [finding] = openings_of(provider)
    assert finding.level == "warn"
    assert finding.what == "providers.openai.allow[0] lets jobs through: POST /races."
    assert "For each job 4.5 USD is held." in finding.why


async def test_addons(write, tmp_path: Path) -> None:
    """Each addon is made and configured; what is wrong with each is an error, and one that is sound is said."""
    (tmp_path / "own.py").write_text(
        "class Good:\n    def load(self, loader):\n        loader.add_option('word', str, '', 'A word.')\n"
        "class Bad:\n    def reqeust(self, flow): ...\n"
    )
    good = '[addons]\nload = ["own.py:Good"]\n'
    findings = await check(write(LISTEN, VAULT, REDIS, good))
    assert "The addons can be loaded: own.py:Good." in said(findings, "ok")
    bad = '[addons]\nload = ["own.py:Good", "own.py:Bad", "away.py:A"]\n'
    errors = said(await check(write(LISTEN, VAULT, REDIS, bad)), "error")
    assert "addons.load: own.py:Bad cannot be used. Its method reqeust is no hook" in errors
    assert "Did you mean request?" in errors
    assert "away.py:A cannot be read." in errors
    option = good + '[addons.options]\nwrod = "a"\n'
    errors = said(await check(write(LISTEN, VAULT, REDIS, option)), "error")
    assert "addons.options has wrod. No addon has added such an option" in errors
