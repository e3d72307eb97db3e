"""What is left of secrets that live until somebody changes them, where platforms say who is who: docs/federation.md shows it."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from tests.e2e.test_federation import AZURE, BEDROCK, HOSTS, PARAMETERS, VERTEX
from tests.support.exchange_server import exchange_server
from tests.support.issuer import claims, jwk, jwks, rsa_key, signed
from tests.support.redis_server import RedisServer

from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply

CLUSTER = "https://kubernetes.default.svc.cluster.local"
KEY = rsa_key("cluster")
MODELS = {
    "openai": "https://api.openai.com/v1/models",
    "anthropic": "https://api.anthropic.com/v1/models",
    "azure": f"https://{AZURE}/openai/v1/models",
    "vertex": f"https://{VERTEX}/v1beta1/publishers/google/models",
    "bedrock": f"https://{BEDROCK}/foundation-models",
}


def service_account(name: str, audience: str, **more: Any) -> str:
    """A token as the kubelet projects it: of one audience, for an hour."""
    said = {
        "iss": CLUSTER,
        "sub": f"system:serviceaccount:{name}",
        "aud": audience,
        "kubernetes.io": {"namespace": name.partition(":")[0]},
        **more,
    }
    return signed(claims(**said), KEY, kid="k1", typ=None)


@pytest.mark.requires("redis")
def test_one_secret_is_left_and_the_gateway_makes_it(tmp_path: Path) -> None:
    """Five providers are called for a workload that shows its service account. No key, gate token or login was given to anybody."""
    (tmp_path / "jwks.json").write_bytes(jwks(jwk(KEY, "k1")))
    standin = StandIn(hosts=HOSTS)
    with exchange_server() as exchanges, RedisServer(tmp_path) as redis, standin:
        (tmp_path / "exchange-ca.pem").write_bytes(exchanges.ca_pem)
        exchanges.on_given, exchanges.issuer = standin.keys.add, CLUSTER
        exchanges.keys = lambda: json.loads((tmp_path / "jwks.json").read_bytes())
        standin.always(reply(200, b'{"data":[]}', [("content-type", "application/json")]))
        settings: dict[str, dict[str, Any]] = {
            "redis": {"url": redis.url},
            "projects.team-a": {"tenant": "acme", "limits": ["10 usd/day"]},
            "identity": {
                "jwt": [
                    {
                        "issuer": CLUSTER,
                        "audience": "tollhouse",
                        "jwks_file": "jwks.json",
                        "project": "{/kubernetes.io/namespace}",
                        "tenant": "acme",
                    }
                ]
            },
        }
        for name, parameters in PARAMETERS.items():
            (tmp_path / f"{name}.jwt").write_text(service_account("tollhouse:gateway", name))
            settings[f"providers.{name}"] = {
                "allow_private": True,
                "ca_file": "provider-ca.pem",
                "connect_to": standin.address,
                "credential": {
                    "method": "federation",
                    "subject": {"source": "file", "file": f"{name}.jwt"},
                    "audience": name,
                    "parameters": parameters,
                    "connect_to": exchanges.address,
                    "ca_file": "exchange-ca.pem",
                },
            }
        settings["providers.azure"]["hosts"] = [AZURE]
        settings["providers.bedrock"]["hosts"] = [BEDROCK]
        config = write_config(tmp_path, standin, settings)
        with GatewayProcess(config) as gateway:
            workload = service_account("team-a:worker", "tollhouse")
            with httpx2.Client(
                proxy=f"http://x:{workload}@{gateway.proxy}",
                verify=ssl.create_default_context(cafile=tmp_path / "state" / "ca.pem"),
                trust_env=False,
            ) as client:
                answers = {name: client.get(url).status_code for name, url in MODELS.items()}
            assert answers == dict.fromkeys(MODELS, 200)
            keys = json.loads(gateway.tollhouse("key", "list", "--json"))
            tokens = json.loads(gateway.tollhouse("token", "list", "--json"))
    assert {key["path"]: key["method"] for key in keys} == {
        f"federation:{name}": "federation (file)" for name in MODELS
    }
    assert max(key["expires_s"] for key in keys) <= 3600
    assert tokens == []
    # What the configuration names is for an hour, or public; nothing in it is a secret.
    text = config.read_text()
    assert not re.search(r"(?i)password|secret|api_key|role.id|gate_|token_file|://[^/\s]*@", text)
    for file in tmp_path.glob("*.jwt"):
        said = jwt.decode(file.read_text(), options={"verify_signature": False})
        assert said["exp"] - said["iat"] <= 3600
    left = {file.name for file in (tmp_path / "state").iterdir() if file.is_file()}
    assert left - {"ca.pem", "state.lock"} == {"ca-key.pem"}
