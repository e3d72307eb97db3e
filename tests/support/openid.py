"""An OpenBao as the OpenID provider of people: users with a password, in groups, which its ID tokens claim."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from tests.support.openbao import OpenBao

PASSWORD = "of-the-tests"
_SCOPE = '{"groups": {{identity.entity.groups.names}}, "name": {{identity.entity.name}}}'


class OpenId:
    """The provider ``staff`` of an OpenBao, with one client of ours."""

    def __init__(self, bao: OpenBao, redirect_url: str) -> None:
        self.bao = bao
        bao.api("POST", "sys/auth/userpass", {"type": "userpass"})
        # What the login page of OpenBao offers.
        bao.api("POST", "sys/auth/userpass/tune", {"listing_visibility": "unauth"})
        self._accessor = bao.api("GET", "sys/auth")["userpass/"]["accessor"]
        own = "identity/oidc"
        bao.api("POST", f"{own}/key/staff", {"allowed_client_ids": ["*"], "algorithm": "RS256"})
        bao.api("POST", f"{own}/scope/groups", {"template": _SCOPE})
        bao.api(
            "POST",
            f"{own}/client/tollhouse",
            {"redirect_uris": [redirect_url], "assignments": ["allow_all"], "key": "staff"},
        )
        bao.api(
            "POST",
            f"{own}/provider/staff",
            {"allowed_client_ids": ["*"], "scopes_supported": ["groups"]},
        )
        client = bao.api("GET", f"{own}/client/tollhouse")["data"]
        self.client_id, self.client_secret = client["client_id"], client["client_secret"]
        self.issuer = bao.api("GET", f"{own}/provider/staff")["data"]["issuer"]

    def add(self, user: str, *groups: str) -> None:
        bao = self.bao
        bao.api("POST", f"auth/userpass/users/{user}", {"password": PASSWORD})
        entity = bao.api("POST", "identity/entity", {"name": user, "policies": ["people"]})
        entity_id = entity["data"]["id"]
        alias = {"name": user, "canonical_id": entity_id, "mount_accessor": self._accessor}
        bao.api("POST", "identity/entity-alias", alias)
        for group in groups:
            bao.api("POST", "identity/group", {"name": group, "member_entity_ids": [entity_id]})
        authorize = 'path "identity/oidc/provider/staff/authorize" { capabilities = ["read"] }'
        bao.api("PUT", "sys/policies/acl/people", {"policy": authorize})

    def authorize(self, user: str, url: str) -> dict[str, str]:
        """What OpenBao's page does once ``user`` has logged in there, who was led to ``url``: the query of the way back."""
        session = requests.Session()
        session.trust_env, session.verify = False, str(self.bao.ca_file)
        login: Any = session.post(
            f"{self.bao.address}/v1/auth/userpass/login/{user}", json={"password": PASSWORD}
        )
        answer = session.get(
            f"{self.issuer}/authorize",
            params=dict(parse_qsl(urlsplit(url).query)),
            headers={"X-Vault-Token": login.json()["auth"]["client_token"]},
        )
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return {"code": found["code"], "state": found["state"]}


@contextlib.contextmanager
def openid(directory: Path, redirect_url: str) -> Iterator[OpenId]:
    home = directory / "openid"
    home.mkdir()
    bao = OpenBao(home, tls=True)
    try:
        bao.start()
        yield OpenId(bao, redirect_url)
    finally:
        bao.stop()
