"""A real OpenBao server of the tests' own (dev mode: in memory, unsealed), one a process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.programs import Program, free_port
from tests.support.requires import program

ROOT_TOKEN = "root-of-the-tests"
ROLE = "tollhouse"
POLICY = """
path "secret/data/infrastructure/*" { capabilities = ["read"] }
path "secret/data/projects/*" { capabilities = ["read"] }
"""


class OpenBao:
    """`bao server -dev` on a free loopback port, with KV version 2 at ``secret`` and an AppRole whose policy reads
    ``secret/data/infrastructure/*`` and ``secret/data/projects/*``.

    ``role_id_file`` and ``secret_id_file`` hold the role's credentials. `stop` and `start` may be called in between:
    dev mode forgets, so that `start` puts back the role with the same credentials and every secret of `put`, as version
    1; tokens are gone. `pause` makes it hang without closing a connection.
    """

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self._binary = program("openbao")
        self._directory = directory
        self._tls = tls
        self._port = 0
        self._program = Program("OpenBao")
        self._unseal_key = ""
        self._secrets: dict[str, dict[str, Any]] = {}
        self._session = requests.Session()
        self._session.trust_env = False
        self.role_id_file = directory / "role-id"
        self.secret_id_file = directory / "secret-id"
        self.root_token_file = directory / "root-token"
        self.ca_file = directory / "tls" / "vault-ca.pem"
        """With ``tls``: the private CA that its certificate comes from."""

    @property
    def address(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def log(self) -> list[str]:
        return self._program.log

    @property
    def running(self) -> bool:
        return self._program.running

    # The server

    def start(self) -> None:
        """Returns when it answers and is set up."""
        if self.running:
            return
        kept, seen = self._port, len(self.log)

        def command() -> list[str]:
            self._port = kept or free_port()
            return self._command(self._port)

        # The last of what dev mode says when it is ready.
        ready = "Development mode should NOT be used"
        self._program.start_on_a_port(
            command, ready=ready, environ=self._environ(), cwd=self._home()
        )
        self._unseal_key = next(
            found[1] for line in self.log[seen:] if (found := re.match(r"Unseal Key: (\S+)", line))
        )
        self.set_up()

    def _home(self) -> Path:
        home = self._directory / "home"
        home.mkdir(exist_ok=True)
        return home

    def _environ(self) -> dict[str, str]:
        return {"HOME": str(self._home()), "PATH": os.defpath}

    def _command(self, port: int) -> list[str]:
        command = [
            self._binary,
            "server",
            "-dev",
            f"-dev-listen-address=127.0.0.1:{port}",
            f"-dev-root-token-id={ROOT_TOKEN}",
            "-dev-no-store-token",
        ]
        if self._tls:
            self.ca_file.parent.mkdir(exist_ok=True)
            command += ["-dev-tls", f"-dev-tls-cert-dir={self.ca_file.parent}"]
            self._session.verify = str(self.ca_file)
        return command

    def stop(self) -> None:
        self._program.kill()
        # For the search for leaks.
        (self._directory / "openbao.log").write_text("".join(self.log))

    def pause(self) -> None:
        self._program.pause()

    def resume(self) -> None:
        self._program.resume()

    def seal(self) -> None:
        self.api("PUT", "sys/seal")

    def unseal(self) -> None:
        self.api("PUT", "sys/unseal", {"key": self._unseal_key})

    # What is in it

    def api(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = ROOT_TOKEN
    ) -> Any:
        """One request with the root token; the JSON of the answer or None. Raises for an error status."""
        answer = self._session.request(
            method,
            f"{self.address}/v1/{path}",
            json=body,
            headers={"X-Vault-Token": token},
            timeout=10,
            allow_redirects=False,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def put(self, path: str, data: Mapping[str, Any]) -> int:
        """A new version of the secret at ``path`` below the mount; its number."""
        self._secrets[path] = dict(data)
        return int(self.api("POST", f"secret/data/{path}", {"data": dict(data)})["data"]["version"])

    def delete(self, path: str) -> None:
        """Delete the latest version, as `bao kv delete` does."""
        self._secrets.pop(path, None)
        self.api("DELETE", f"secret/data/{path}")

    def destroy(self, path: str, version: int) -> None:
        self._secrets.pop(path, None)
        self.api("PUT", f"secret/destroy/{path}", {"versions": [version]})

    def forget(self, path: str) -> None:
        """Delete all versions and the metadata: the next `put` is version 1."""
        self._secrets.pop(path, None)
        self.api("DELETE", f"secret/metadata/{path}")

    def revoke_tokens(self) -> None:
        """End every token that a login gave."""
        self.api("PUT", "sys/leases/revoke-prefix/auth/approle/login")

    def new_secret_id(self, **options: Any) -> str:
        """A secret_id written to the file; ``options`` as the API has them (``num_uses``, ``ttl``)."""
        secret_id = str(
            self.api("POST", f"auth/approle/role/{ROLE}/secret-id", options)["data"]["secret_id"]
        )
        self.secret_id_file.write_text(secret_id + "\n")
        return secret_id

    def set_role(self, **options: Any) -> None:
        """Change the role (``token_ttl``, ``token_max_ttl``, ``token_type``, ...)."""
        self.api("POST", f"auth/approle/role/{ROLE}", {"token_policies": ["tollhouse"], **options})

    def logins(self) -> int:
        """How many tokens of logins are alive."""
        accessors = self.api("LIST", "auth/token/accessors")["data"]["keys"]
        found = [
            self.api("POST", "auth/token/lookup-accessor", {"accessor": accessor})
            for accessor in accessors
        ]
        return sum(token["data"]["path"] == "auth/approle/login" for token in found)

    def set_up(self) -> None:
        self.api("PUT", "sys/policies/acl/tollhouse", {"policy": POLICY})
        self.api("POST", "sys/auth/approle", {"type": "approle"})
        self.set_role()
        role = f"auth/approle/role/{ROLE}"
        if self.secret_id_file.exists():
            role_id, secret_id = (
                self.role_id_file.read_text().strip(),
                self.secret_id_file.read_text().strip(),
            )
            self.api("POST", f"{role}/role-id", {"role_id": role_id})
            self.api("POST", f"{role}/custom-secret-id", {"secret_id": secret_id})
        else:
            self.role_id_file.write_text(
                self.api("GET", f"{role}/role-id")["data"]["role_id"] + "\n"
            )
            self.new_secret_id()
            self.root_token_file.write_text(ROOT_TOKEN + "\n")
        for path, data in self._secrets.items():
            self.put(path, data)

    def reset(self) -> None:
        """As after a start: running, unsealed, no secrets, no logins, the role without limits, a new secret_id."""
        if self.running:
            self.resume()
        self.start()
        if self.api("GET", "sys/seal-status")["sealed"]:
            self.unseal()
        self._secrets.clear()
        self._empty("")
        self.revoke_tokens()
        self.api("DELETE", f"auth/approle/role/{ROLE}")
        self.api("PUT", "sys/policies/acl/tollhouse", {"policy": POLICY})
        self.set_role()
        self.role_id_file.write_text(
            self.api("GET", f"auth/approle/role/{ROLE}/role-id")["data"]["role_id"] + "\n"
        )
        self.new_secret_id()

    def _empty(self, folder: str) -> None:
        try:
            names = self.api("LIST", f"secret/metadata/{folder}")["data"]["keys"]
        except requests.HTTPError:  # 404: nothing is in it
            return
        for name in names:
            if name.endswith("/"):
                self._empty(folder + name)
            else:
                self.forget(folder + name)


@pytest.fixture(scope="session")
def openbao_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """The process's OpenBao; a test asks for ``openbao``."""
    server = OpenBao(tmp_path_factory.mktemp("openbao"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def openbao(openbao_server: OpenBao) -> OpenBao:
    """A real OpenBao as after a start."""
    openbao_server.reset()
    return openbao_server
