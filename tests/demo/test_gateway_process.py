"""The gateway as a child process: how it is started, stopped and told about, and the configuration it is given."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tollhouse.config.load import load_config
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess, GatewayProcessError
from tollhouse.demo.standin import StandIn


def test_config_adds_key_by_key(tmp_path: Path) -> None:
    """Settings change what they name and keep the rest; the file is one that the gateway reads."""
    with StandIn() as standin:
        path = write_config(
            tmp_path,
            standin,
            {
                "listen": {"proxy_auth": "required"},
                'prices."openai/x"': {"input": "1", "output": "2"},
                "limits": {"max_body_bytes": 2048},
                "vault": {
                    "auth": {"method": "token", "token_file": "t"},
                    "address": "http://127.0.0.1:1",
                },
            },
        )
        tables = tomllib.loads(path.read_text())
        assert tables["listen"]["proxy"] == "127.0.0.1:0"
        assert tables["vault"]["auth"] == {"method": "token", "token_file": "t"}
        config = load_config(path)
    assert config.listen.proxy_auth == "required"
    assert config.limits.max_body_bytes == 2048
    assert str(config.providers["openai"].connect_to) == standin.address
    assert (tmp_path / "provider-ca.pem").read_bytes() == standin.ca_pem


def test_start_stop_start(tmp_path: Path) -> None:
    """It tells its addresses when it is ready, ends with 0 on SIGTERM, starts again; commands work in between."""
    gateway = GatewayProcess(write_config(tmp_path, None))
    with gateway:
        first = gateway.proxy
        assert gateway.addresses.keys() == {"proxy", "base_url", "admin"}
        with pytest.raises(GatewayProcessError, match="already"):
            gateway.start()
        gateway.make_project("proj_1", "10 usd/day")
        assert gateway.stop() == 0
        assert gateway.make_token("proj_1").startswith("gate_")
        gateway.start()
        assert gateway.proxy_url("p", "t") == f"http://p:t@{gateway.proxy}"
        assert gateway.budget("proj_1")["10 usd/day"]["left"] == "10"
    assert not gateway.running
    assert first.startswith("127.0.0.1:")
    assert (tmp_path / "gateway.err").read_text() == gateway.stderr


def test_it_says_why_it_does_not_start(tmp_path: Path) -> None:
    """A gateway that ends at once is an error with its own words: here a provider's key in its environment."""
    gateway = GatewayProcess(write_config(tmp_path, None), environ={"OPENAI_API_KEY": "sk-1"})
    with pytest.raises(GatewayProcessError, match="OPENAI_API_KEY"):
        gateway.start()
    assert not gateway.running


def test_a_command_that_says_no(tmp_path: Path) -> None:
    """A command that fails is an error with what it said and its code."""
    gateway = GatewayProcess(write_config(tmp_path, None))
    with pytest.raises(
        GatewayProcessError, match=r"token create nobody` ended with 1: tollhouse: .*nobody"
    ):
        gateway.tollhouse("token", "create", "nobody")


def test_lines_are_waited_for_in_vain(tmp_path: Path) -> None:
    """Waiting for lines ends with an error, at once when none can come any more."""
    with GatewayProcess(write_config(tmp_path, None)) as gateway:
        with pytest.raises(TimeoutError, match="there are 0 lines"):
            gateway.wait_lines(1, timeout=0.05)
        gateway.kill()
        with pytest.raises(TimeoutError):
            gateway.wait_lines(1, timeout=60)
