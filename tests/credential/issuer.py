"""An issuer of JWTs over real HTTP: its keys for Vault's jwt method, and a cluster's TokenReview for its kubernetes method."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.support.openbao import POLICY, OpenBao
from tests.support.served import QuietServer, served

ROLE = "tollhouse"
POLICIES = {"token_policies": ["tollhouse"]}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """``down``: everything asked of it is a 503. ``asked`` are the paths that Vault asked for."""

    def __init__(self) -> None:
        self.address = ""
        self.down = False
        self.asked: list[str] = []
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.new_key("first")

    def new_key(self, name: str) -> None:
        """Sign with this key from now on; the others are known still."""
        self._keys[name] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._kid = name

    def token(self, audience: str = "vault", name: str = "app", **claims: Any) -> str:
        """A service account's token, as projected into a pod."""
        now = int(time.time())
        account = {"namespace": "ns", "serviceaccount": {"name": name, "uid": "uid-1"}}
        payload = {
            "iss": "https://issuer.test",
            "sub": f"system:serviceaccount:ns:{name}",
            "aud": [audience],
            "iat": now,
            "exp": now + 600,
            "kubernetes.io": account,
            **claims,
        }
        head = {"alg": "RS256", "typ": "JWT", "kid": self._kid}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, payload))
        signature = self._keys[self._kid].sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"

    def jwks(self) -> dict[str, Any]:
        keys = []
        for kid, key in self._keys.items():
            numbers = key.public_key().public_numbers()
            n, e = (
                _base64(value.to_bytes((value.bit_length() + 7) // 8))
                for value in (numbers.n, numbers.e)
            )
            keys.append({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e})
        return {"keys": keys}

    def pem(self) -> str:
        key = self._keys[self._kid].public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return key.public_bytes(serialization.Encoding.PEM, form).decode()

    def review(self, token: str) -> dict[str, Any]:
        """What the API server answers: this one believes every token."""
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        user = {"username": claims["sub"], "uid": claims["kubernetes.io"]["serviceaccount"]["uid"]}
        status = {"authenticated": True, "audiences": claims["aud"], "user": user}
        return {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}


@contextmanager
def issuer() -> Iterator[Issuer]:
    made = Issuer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200, made.jwks())

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(201, made.review(asked["spec"]["token"]))

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            made.asked.append(self.path)
            body = b"down for maintenance" if made.down else json.dumps(document).encode()
            self.send_response(503 if made.down else status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = QuietServer(Handler)
    made.address = f"http://127.0.0.1:{server.server_port}"
    with served(server):
        yield made


@contextmanager
def jwt_method(openbao: OpenBao, keys: Issuer) -> Iterator[None]:
    """The jwt method, with a role for tokens of ``keys``."""
    openbao.api("POST", "sys/auth/jwt", {"type": "jwt"})
    try:
        openbao.api("POST", "auth/jwt/config", {"jwks_url": f"{keys.address}/keys"})
        set_jwt_role(openbao)
        yield
    finally:
        openbao.api("DELETE", "sys/auth/jwt")


def set_jwt_role(openbao: OpenBao, **options: Any) -> None:
    role = {
        "role_type": "jwt",
        "bound_audiences": ["vault"],
        "user_claim": "sub",
        **POLICIES,
        **options,
    }
    openbao.api("POST", f"auth/jwt/role/{ROLE}", role)


@contextmanager
def kubernetes_method(openbao: OpenBao, cluster: Issuer) -> Iterator[None]:
    """The kubernetes method, with a role for the service account ``app`` of the namespace ``ns``."""
    openbao.api("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    try:
        # Not used over plain http, and mandatory all the same.
        config = {
            "kubernetes_host": cluster.address,
            "disable_local_ca_jwt": True,
            "kubernetes_ca_cert": cluster.pem(),
        }
        openbao.api("POST", "auth/kubernetes/config", config)
        bound = {
            "bound_service_account_names": "app",
            "bound_service_account_namespaces": "ns",
            "audience": "vault",
        }
        openbao.api("POST", f"auth/kubernetes/role/{ROLE}", {**bound, **POLICIES})
        yield
    finally:
        openbao.api("DELETE", "sys/auth/kubernetes")


@contextmanager
def namespace(openbao: OpenBao, name: str) -> Iterator[None]:
    """A namespace with KV version 2 at ``secret``, the policy, and an AppRole of the same credentials."""
    openbao.api("POST", f"sys/namespaces/{name}")
    try:
        openbao.api(
            "POST", f"{name}/sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}
        )
        openbao.api("PUT", f"{name}/sys/policies/acl/tollhouse", {"policy": POLICY})
        openbao.api("POST", f"{name}/sys/auth/approle", {"type": "approle"})
        role = f"{name}/auth/approle/role/{ROLE}"
        openbao.api("POST", role, POLICIES)
        openbao.api(
            "POST", f"{role}/role-id", {"role_id": openbao.role_id_file.read_text().strip()}
        )
        openbao.api(
            "POST",
            f"{role}/custom-secret-id",
            {"secret_id": openbao.secret_id_file.read_text().strip()},
        )
        yield
    finally:
        openbao.api("DELETE", f"sys/namespaces/{name}")
