"""What `check`, `key test` and the log of a running gateway say when the login or the policy at a real Vault is wrong: what
happened, at which path or file, and what to do. Keys and tokens are in none of it."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from tests.support.clock import Clock
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openbao import OpenBao
from tests.support.openbao_raft import wait_for

from tollhouse.cli.main import cli

KEY_PATH = "infrastructure/openai"
POLICY_LINE = 'path "secret/data/infrastructure/openai" { capabilities = ["read"] }'


@contextmanager
def on(
    directory: Path, openbao: OpenBao, auth: dict[str, Any], clock: Clock | None = None
) -> Iterator[Inside]:
    """A gateway whose keys are in ``openbao``, and that has put one on a call. Its login goes by ``clock``, if there is one."""
    key = f"sk-of-this-test-{secrets.token_urlsafe(24)}"
    openbao.put(KEY_PATH, {"api_key": key})
    settings = {"vault": {"address": openbao.address, "auth": auth, "refresh_s": 0.3}}
    with open_inside(directory, settings, login_clock=clock or time.monotonic) as inside:
        inside.standin.keys = {key}
        assert ask(inside).status_code == 200
        yield inside


def ask(inside: Inside) -> httpx2.Response:
    url = f"http://localhost:{inside.gateway.addresses['base_url'].rpartition(':')[2]}/v1/models"
    return httpx2.get(
        url, headers={"authorization": f"Bearer {inside.token}"}, trust_env=False, timeout=30
    )


def until_it_goes(inside: Inside) -> None:
    """Calls until one is answered: a refusal of Vault is believed for some seconds."""
    wait_for(lambda: ask(inside).status_code == 200, "a call goes")


def said(inside: Inside, *command: str) -> tuple[int, str]:
    """Exit code, and all that the command says on stdout and stderr."""
    done = CliRunner().invoke(cli, [*command, "--config", str(inside.gateway.config.path)])
    [key] = inside.standin.keys
    assert key not in done.output
    return done.exit_code, " ".join(done.output.split())


def why(inside: Inside) -> str:
    """Of the common path in `key test`, as data."""
    done = CliRunner().invoke(
        cli, ["key", "test", "openai", "--json", "--config", str(inside.gateway.config.path)]
    )
    assert done.exit_code == 1
    [row] = [
        row
        for row in json.loads(done.stdout)
        if (row["result"], row["path"]) == ("unread", KEY_PATH)
    ]
    return str(row["why"])


def role(openbao: OpenBao) -> dict[str, Any]:
    return {
        "method": "approle",
        "role_id_file": str(openbao.role_id_file),
        "secret_id_file": str(openbao.secret_id_file),
    }


def tend(inside: Inside, clock: Clock) -> None:
    """What the gateway does when two thirds of its login's life, which is an hour, are over."""
    clock.advance(2_400)
    inside.gateway.reader.tend()


def a_token(openbao: OpenBao, **options: Any) -> str:
    body = {"policies": ["tollhouse"], "ttl": "1h", **options}
    return str(openbao.api("POST", "auth/token/create", body)["auth"]["client_token"])


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "tollhouse")
    return caplog


# A token that can't be renewed


def test_token_that_can_not_be_renewed(
    tmp_path: Path, openbao: OpenBao, log: pytest.LogCaptureFixture
) -> None:
    """check and key test say beforehand when it ends and what to do, and the log when it is near; keys are fine meanwhile."""
    file = tmp_path / "vault-token"
    token = a_token(openbao, renewable=False)
    file.write_text(token)
    clock = Clock()
    with on(tmp_path, openbao, {"method": "token", "token_file": str(file)}, clock) as inside:
        code, text = said(inside, "check")
        assert f"The token in {file} can't be renewed and ends in 60 min." in text
        assert "Put a new one there before" in text
        assert (code, token in text) == (0, False)
        code, text = said(inside, "key", "test", "openai")
        assert (
            f"The token in {file} can't be renewed and ends in 60 min. Put a new one there before"
            in text
        )
        assert (code, token in text) == (0, False)
        tend(inside, clock)
        [record] = [record for record in log.records if "renews" in record.getMessage()]
        assert (
            f"Vault renews the token in {file} no more: it ends in 20 min. Put a new one there"
            in record.getMessage()
        )
        code, text = said(inside, "key", "list")
        assert "Put a new one there" in text
        assert ask(inside).status_code == 200
        file.write_text(a_token(openbao))
        inside.until(lambda gateway: gateway.keys.trouble == "")
        assert "can't be renewed" not in said(inside, "check")[1]


def test_token_that_has_ended(
    tmp_path: Path, openbao: OpenBao, log: pytest.LogCaptureFixture
) -> None:
    """Of a dead token the file is named first, and the policy line for the case that it lives."""
    file = tmp_path / "vault-token"
    token = a_token(openbao)
    file.write_text(token)
    with on(tmp_path, openbao, {"method": "token", "token_file": str(file)}) as inside:
        openbao.api("POST", "auth/token/revoke", {"token": token})
        ended = f"The token in {file} has ended or was revoked: put a new one there."
        inside.until(lambda gateway: any(ended in status.error for status in gateway.keys.status()))
        assert any(ended in record.getMessage() for record in log.records)
        assert ask(inside).headers["x-tollhouse-reason"] == "credential_unavailable"
        code, text = said(inside, "check")
        assert (code, ended in text, POLICY_LINE in text) == (1, True, True)
        assert ended in why(inside)
        file.write_text(a_token(openbao))
        until_it_goes(inside)


# A secret_id that is used up


def test_secret_id_that_is_used_up(
    tmp_path: Path, openbao: OpenBao, log: pytest.LogCaptureFixture
) -> None:
    """The gateway's own login was the last: the commands can't log in, and the gateway says it when its token is over."""
    openbao.set_role(token_type="batch", token_ttl="1h")
    openbao.new_secret_id(num_uses=1)
    clock = Clock()
    with on(tmp_path, openbao, role(openbao), clock) as inside:
        used_up = f"the secret_id in {openbao.secret_id_file} is used up, expired or wrong"
        todo = "Put a new secret_id into the file"
        for command in (("check",), ("key", "test", "openai")):
            code, text = said(inside, *command)
            assert (code, used_up in text, todo in text) == (1, True, True), command
        tend(inside, clock)
        [record] = [record for record in log.records if "renewed" in record.getMessage()]
        for part in ("can't be renewed any more", used_up, todo):
            assert part in record.getMessage()
        assert used_up in said(inside, "key", "list")[1]
        assert ask(inside).status_code == 200, "the token works to its end"
        openbao.new_secret_id()
        tend(inside, clock)
        assert inside.gateway.keys.trouble == ""
        assert said(inside, "key", "test", "openai")[0] == 0


# A policy without the path


def test_policy_without_the_path(
    tmp_path: Path, openbao: OpenBao, log: pytest.LogCaptureFixture
) -> None:
    """Each names the path that was asked for and the line that the policy lacks, and the key ends."""
    with on(tmp_path, openbao, role(openbao)) as inside:
        openbao.api(
            "PUT",
            "sys/policies/acl/tollhouse",
            {"policy": f'path "secret/data/projects/{PROJECT}/*" {{ capabilities = ["read"] }}'},
        )
        inside.until(
            lambda gateway: any(POLICY_LINE in status.error for status in gateway.keys.status())
        )
        assert any(
            record.levelno == logging.ERROR
            and POLICY_LINE in record.getMessage()
            and KEY_PATH in record.getMessage()
            for record in log.records
        )
        assert "has ended" not in log.text
        answer = ask(inside)
        assert (answer.status_code, answer.headers["x-tollhouse-reason"]) == (
            503,
            "credential_unavailable",
        )
        assert "secret/" not in answer.text
        code, text = said(inside, "check")
        assert (code, POLICY_LINE in text) == (1, True)
        assert f"Vault refuses to let the gateway read secret/{KEY_PATH} (403)." in text
        assert POLICY_LINE in why(inside)
        assert POLICY_LINE in said(inside, "key", "list")[1]
        openbao.api(
            "PUT",
            "sys/policies/acl/tollhouse",
            {"policy": POLICY_LINE + ' path "secret/data/projects/*" { capabilities = ["read"] }'},
        )
        until_it_goes(inside)
