"""`tollhouse key list` and `key test`: by the command itself, by the running gateway, on both kinds of stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.clock import Clock
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openbao import OpenBao
from tests.support.programs import free_port
from tests.support.token_endpoint import account

from tollhouse.cli.main import cli
from tollhouse.config.load import load_config
from tollhouse.control.key_desk import KeyDesk
from tollhouse.credential.secret import Secret
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply
from tollhouse.stores import open_keys, open_reader

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


@pytest.fixture
def write(tmp_path: Path, standin: StandIn) -> Write:
    """A configuration whose openai is the stand-in."""
    standin.clear()
    standin.write_ca(tmp_path / "standin-ca.pem")

    def make(vault: str = 'address = "embedded"\n', more: str = "", port: int = 0) -> Path:
        file = tmp_path / "tollhouse.toml"
        file.write_text(
            f'[redis]\nurl = "embedded"\n[vault]\n{vault}[providers.openai]\nca_file = "standin-ca.pem"\n'
            f'connect_to = "127.0.0.1:{port or standin.port}"\nallow_private = true\n{more}'
        )
        return file

    return make


PATHS = 'paths = ["infrastructure/{provider}"]\n'


def real(openbao: OpenBao, more: str = "") -> str:
    files = f'role_id_file = "{openbao.role_id_file}", secret_id_file = "{openbao.secret_id_file}"'
    return f'address = "{openbao.address}"\nauth = {{ method = "approle", {files}{more} }}\n'


def allow(openbao: OpenBao, path: str) -> None:
    openbao.api(
        "PUT",
        "sys/policies/acl/tollhouse",
        {"policy": f'path "{path}" {{ capabilities = ["read"] }}'},
    )


def run(file: Path, *arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    done = CliRunner().invoke(cli, [*arguments, "--config", str(file)], input=stdin)
    assert done.exit_code == code, done.output
    return done


def rows(done: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_key_that_works(write: Write, standin: StandIn) -> None:
    """The provider got one free call with the key and nothing else; no output has the key."""
    file = write()
    run(file, "key", "set", "openai", stdin=standin.key)
    done = run(file, "key", "test", "openai", "--json")
    fingerprint = Secret(standin.key).fingerprint
    assert rows(done) == [
        {
            "provider": "openai",
            "host": "api.openai.com",
            "path": "infrastructure/openai",
            "version": "1",
            "fingerprint": fingerprint,
            "result": "ok",
            "why": "",
        }
    ]
    [received] = standin.wait_count(1)
    assert (received.method, received.target, received.body) == ("GET", "/v1/models", b"")
    assert received.get("authorization") == f"Bearer {standin.key}"
    people = run(file, "key", "test")
    assert fingerprint in people.stdout
    assert standin.key not in done.output + people.output


def test_keys_that_do_not_work(write: Write, standin: StandIn) -> None:
    """Of several each is tried; a refused one, an error and a limit are told apart; exit 1 if one does not work."""
    file = write()
    run(file, "key", "set", "openai", stdin=json.dumps([standin.key, "sk-of-nobody-at-all"]))
    found = rows(run(file, "key", "test", "--json", code=1))
    assert [row["result"] for row in found] == ["ok", "refused"]
    assert "401" in found[1]["why"]
    standin.always(reply(500))
    assert [row["why"] for row in rows(run(file, "key", "test", "--json", code=1))] == [
        "The provider answered 500."
    ] * 2
    standin.always(reply(429))
    assert [row["result"] for row in rows(run(file, "key", "test", "--json"))] == ["ok"] * 2


def test_a_provider_that_is_away(write: Write, standin: StandIn) -> None:
    """That says nothing of the key."""
    file = write(port=free_port())
    run(file, "key", "set", "openai", stdin=standin.key)
    [row] = rows(run(file, "key", "test", "openai", "--json", code=1))
    assert row["result"] == "failed"
    assert "api.openai.com" in row["why"]


def test_no_free_call(write: Write) -> None:
    """A provider whose hosts are not known is left untested."""
    file = write(more='[providers.gpus]\nfamily = "openai"\nhosts = ["*.gpu.internal"]\n')
    for name in ("azure", "gpus"):
        run(file, "key", "set", name, stdin="a-key-of-this-test")
        [row] = rows(run(file, "key", "test", name, "--json"))
        assert row["result"] == "untested"


def test_a_key_with_its_account(write: Write, standin: StandIn) -> None:
    """An object may be set in place of a key: whom OpenAI charges goes out with each call."""
    file = write()
    run(
        file,
        "key",
        "set",
        "openai",
        stdin=json.dumps({"api_key": standin.key, "organization": "org-1"}),
    )
    [row] = rows(run(file, "key", "test", "openai", "--json"))
    assert (row["result"], row["fingerprint"]) == ("ok", Secret(standin.key).fingerprint)
    [received] = standin.wait_count(1)
    assert (received.get("openai-organization"), received.get_all("openai-project")) == (
        "org-1",
        [],
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            {"access_key_id": "AKIAX", "secret_access_key": "HUSH"},
            "an AWS access key; openai takes an API key",
        ),
        ({"access_key_id": "HUSH"}, "that is not a key"),
        (
            {"access_key_id": "HUSH"},
            "Field 'secret_access_key' of the secret at stdin is not a string",
        ),
        (
            {**account(token_uri="https://evil.example/HUSH")},
            "its token_uri is not https://oauth2.googleapis.com/token",
        ),
        (account(), "a Google service account; openai takes an API key"),
        ({"api_key": "HUSH", "project": "prój"}, "openai-project"),
    ],
)
def test_a_key_that_the_provider_does_not_take(
    write: Write, value: dict[str, str], why: str
) -> None:
    """It is not kept, and not shown."""
    file = write()
    done = run(file, "key", "set", "openai", stdin=json.dumps(value), code=1)
    assert why in done.stderr
    assert "othing was changed" in done.stderr
    assert "HUSH" not in done.output
    assert "there is no key of openai" in run(file, "key", "test", "openai", code=1).stderr


def test_nothing_to_test(write: Write) -> None:
    """No key at all, and a provider that is none, are said."""
    assert "there is no key of openai" in run(write(), "key", "test", "openai", code=1).stderr
    assert "opanai is not a provider" in run(write(), "key", "test", "opanai", code=1).stderr


def test_list_without_a_gateway(write: Write, standin: StandIn) -> None:
    """The store is read now: every path of the file that has something, and an open provider that has nothing."""
    file = write(more=f'[projects.{PROJECT}]\ntenant = "acme"\n')
    [row] = [
        row
        for row in rows(run(file, "key", "list", "--json"))
        if row["path"].startswith("infrastructure")
    ]
    assert (row["path"], row["state"]) == ("infrastructure/openai", "missing")
    run(file, "key", "set", "openai", stdin=standin.key)
    run(
        file,
        "key",
        "set",
        "mistral",
        stdin=json.dumps(["first-key-of-mistral", "second-key-of-mistral"]),
    )
    found = rows(run(file, "key", "list", "--json"))
    assert [(row["path"], row["state"], row["version"]) for row in found] == [
        ("infrastructure/openai", "fresh", "1"),
        ("infrastructure/mistral", "fresh", "1"),
        ("infrastructure/mistral", "fresh", "1"),
    ]
    assert found[0]["fingerprint"] == Secret(standin.key).fingerprint
    shown = run(file, "key", "list").stdout
    assert shown.splitlines()[0].split() == [
        "PATH",
        "STATE",
        "VERSION",
        "FINGERPRINT",
        "AGE",
        "PAUSED",
        "ERROR",
    ]
    assert standin.key not in shown


def test_list_of_a_running_gateway(tmp_path: Path) -> None:
    """What its cache knows: nothing before the first call, then ages and pauses."""
    with open_inside(tmp_path) as inside:
        file = inside.gateway.config.path
        said = run(file, "key", "list", "--json")
        assert rows(said) == []
        assert "has read no key yet" in said.stderr
        lease = inside.do(inside.gateway.keys.get("openai", "acme", PROJECT))
        inside.do(pause(inside, 60))
        found = {row["path"]: row for row in rows(run(file, "key", "list", "--json"))}
        assert found[f"projects/{PROJECT}/openai"]["state"] == "missing"
        row = found["infrastructure/openai"]
        assert (row["state"], row["version"], row["fingerprint"]) == (
            "fresh",
            "1",
            lease.fingerprint,
        )
        assert (row["paused"], row["error"]) == ("rate", "")
        assert 50 < row["paused_s"] <= 60
        assert row["age_s"] >= 0
        [tested] = inside.do(inside.gateway.operations.perform("key_test", {}))
        assert tested["result"] == "ok"


async def pause(inside: Inside, seconds: float) -> None:
    lease = await inside.gateway.keys.get("openai", "acme", PROJECT)
    inside.gateway.keys.cooling(lease, seconds)


# A real Vault


def test_real_vault(write: Write, standin: StandIn, openbao: OpenBao) -> None:
    """Read and tried with a login of the command's own, which is given back."""
    openbao.put("infrastructure/openai", {"api_key": standin.key})
    file = write(real(openbao))
    assert [row["result"] for row in rows(run(file, "key", "test", "openai", "--json"))] == ["ok"]
    [row] = [row for row in rows(run(file, "key", "list", "--json")) if row["state"] == "fresh"]
    assert row["path"] == "infrastructure/openai"
    assert openbao.logins() == 0


def test_policy_without_the_path(write: Write, openbao: OpenBao) -> None:
    """The line that is missing is said by both."""
    paths = 'paths = ["teams/{provider}"]\n'
    file = write(real(openbao) + paths)
    line = 'path "secret/data/teams/openai" { capabilities = ["read"] }'
    [row] = rows(run(file, "key", "test", "openai", "--json", code=1))
    assert row["result"] == "unread"
    assert line in row["why"]
    found = {row["path"]: row for row in rows(run(file, "key", "list", "--json"))}
    assert line in found["teams/openai"]["error"]


def test_policy_for_one_provider(write: Write, standin: StandIn, openbao: OpenBao) -> None:
    """Of all providers those that nobody names are skipped; asked for by name, or named in the file, they fail."""
    openbao.put("infrastructure/openai", {"api_key": standin.key})
    allow(openbao, "secret/data/infrastructure/openai")
    found = rows(run(write(real(openbao) + PATHS), "key", "test", "--json"))
    assert [row["provider"] for row in found if row["result"] == "ok"] == ["openai"]
    assert {row["result"] for row in found if row["provider"] != "openai"} == {"skipped"}
    assert any('path "secret/data/infrastructure/anthropic"' in row["why"] for row in found)
    [row] = rows(run(write(real(openbao) + PATHS), "key", "test", "anthropic", "--json", code=1))
    assert row["result"] == "unread"
    named = '[projects.p]\ntenant = "acme"\nmodels = ["anthropic/*"]\n'
    found = rows(run(write(real(openbao) + PATHS, named), "key", "test", "--json", code=1))
    assert [row["provider"] for row in found if row["result"] == "unread"] == ["anthropic"]


def test_policy_for_nothing(write: Write, openbao: OpenBao) -> None:
    """Nothing is skipped where no key can be read."""
    allow(openbao, "secret/data/elsewhere")
    found = rows(run(write(real(openbao) + PATHS), "key", "test", "--json", code=1))
    assert {row["result"] for row in found} == {"unread"}


def test_secret_id_used_up(write: Write, openbao: OpenBao) -> None:
    """The login's refusal names the file."""
    openbao.new_secret_id(num_uses=1)
    file = write(real(openbao))
    run(file, "key", "list")
    for command in ("list", "test"):
        said = run(file, "key", command, code=1).stderr
        assert "used up" in said
        assert str(openbao.secret_id_file) in said


def test_wrapped_secret_id(write: Write, openbao: OpenBao) -> None:
    """Only the gateway unwraps it; without one nothing is tried."""
    openbao.secret_id_file.write_text("s.wrapping-token\n")
    file = write(real(openbao, ", wrapped = true"))
    for command in ("list", "test"):
        assert "only it may unwrap" in run(file, "key", command, code=1).stderr


async def test_login_that_can_not_be_kept(write: Write, openbao: OpenBao) -> None:
    """A token that can't be renewed any more is said beside keys that are still fine."""
    openbao.put("infrastructure/openai", {"api_key": "a-key-of-this-test"})
    openbao.set_role(token_ttl="60s", token_type="batch")
    config = load_config(write(real(openbao)))
    clock = Clock()
    reader = open_reader(config, clock)
    keys = open_keys(config, reader)
    await keys.get("openai", "acme", PROJECT)
    openbao.secret_id_file.write_text("wrong")
    clock.advance(40)  # Two thirds of the token's life.
    reader.tend()
    rows = KeyDesk(config, keys, None).known()  # type: ignore[arg-type]
    assert {row["state"] for row in rows} == {"fresh", "missing"}
    assert all("can't be renewed any more" in row["error"] for row in rows)
    await keys.close()
