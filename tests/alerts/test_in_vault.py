"""A URL and a signing secret that are in a real Vault, as `tollhouse alerts test` and `check` use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from standardwebhooks.webhooks import Webhook
from tests.alerts.test_webhooks import SECRET
from tests.support.openbao import OpenBao
from tests.support.webhook_receiver import webhook_receiver

from tollhouse.cli.main import cli
from tollhouse.demo.gateway_config import write_config

PLACE = "infrastructure/alerts/ops"


@pytest.mark.requires("openbao")
def test_in_vault(openbao: OpenBao, tmp_path: Path) -> None:
    """It is told, and by what it can verify; without the secret it is said what is missing."""
    login = {
        "role_id_file": str(openbao.role_id_file),
        "secret_id_file": str(openbao.secret_id_file),
    }
    vault = {"address": openbao.address, "auth": {"method": "approle", **login}}
    with webhook_receiver() as receiver:
        entry = {
            "name": "ops",
            "at": ["80%"],
            "secret": PLACE,
            "ca_file": str(receiver.write_ca(tmp_path / "receiver.pem")),
            "allow_private": True,
        }
        path = write_config(tmp_path, None, {"vault": vault}, {"alerts": [entry]})

        def run(*words: str) -> tuple[int, str]:
            done = CliRunner().invoke(cli, [*words, "--config", str(path)])
            assert receiver.url not in done.output
            assert SECRET not in done.output
            return done.exit_code, done.stdout

        code, said = run("alerts", "test", "--json")
        assert code == 1
        assert f"There is no secret at {PLACE}." in json.loads(said)[0]["why"]
        openbao.put(PLACE, {"url": receiver.url})
        assert "There is no text in 'signing_secret'" in run("check")[1]
        openbao.put(PLACE, {"url": receiver.url, "signing_secret": SECRET})
        code, said = run("alerts", "test")
        assert (code, len(receiver.taken)) == (0, 1)
        Webhook(SECRET).verify(receiver.taken[0].body, receiver.taken[0].headers)
        assert "The receiver ops of alerts has what it needs (generic)" in run("check")[1]
