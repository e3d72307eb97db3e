"""Where the subject token comes from. It is asked for anew for each exchange."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

from tollhouse.credential.cloud.token_host import TokenHost
from tollhouse.credential.federation.subject_token import LONGEST, SubjectToken, judged
from tollhouse.credential.federation.workload_api import jwt_svid
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.workers import Workers
from tollhouse.providers import Federation

REQUEST_URL: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
REQUEST_TOKEN: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 - a variable's name
_ACTIONS_HOST: Final = re.compile(r"([a-z0-9-]+\.)*actions\.githubusercontent\.com")


class TokenIssuer(Protocol):
    """A Vault or OpenBao whose ``identity/oidc`` signs tokens for the entity that has logged in."""

    def identity_token(self, role: str) -> str:
        """A new token of ``role``. Blocks. Raises `CredentialUnavailable`."""


class SubjectTokens:
    """``issuer`` is None without a Vault that could sign. ``wall_clock`` gives seconds since the epoch."""

    def __init__(
        self,
        issuer: TokenIssuer | None,
        bound_s: float,
        *,
        environ: Mapping[str, str] = os.environ,
        wall_clock: Callable[[], float] = time.time,
        github_host: Callable[[str], TokenHost] = TokenHost,
    ) -> None:
        self._issuer = issuer
        self._environ = environ
        self._wall_clock = wall_clock
        self.github_host = github_host
        """Makes the way to a URL. Set before the first token, as `Federated.connectors`."""
        self._bound_s = bound_s
        self._workers = Workers(4, bound_s, "The source of the subject token")

    async def token(self, of: Federation) -> SubjectToken:
        """Raises `CredentialUnavailable`; `StoreAway` if the source can't answer now."""
        origin = origin_of(of)
        try:
            if of.source == "github":
                text = await self._from_github(of.audience)
            elif of.source == "vault":
                text = await self._workers.run(lambda: self._from_vault(of.place))
            elif of.source == "workload_api":
                socket, bound_s = Path(of.place), self._bound_s
                text = await self._workers.run(
                    lambda: jwt_svid(socket, of.audience, of.spiffe_id, bound_s)
                )
            else:
                text = await self._workers.run(lambda: _from_file(Path(of.place)))
        except StoreAway as error:
            raise StoreAway(f"subject: {error.why}") from None
        except CredentialUnavailable as error:
            raise CredentialUnavailable(f"subject: {error.why}") from None
        found = judged(text, of.audience, origin, self._wall_clock())
        if of.source in ("spiffe", "workload_api") and not found.subject.startswith("spiffe://"):
            raise CredentialUnavailable(
                f"subject: the token of {origin} is no JWT-SVID: its sub is {found.subject}."
            )
        return found

    def _from_vault(self, role: str) -> str:
        if self._issuer is None:
            raise CredentialUnavailable("There is no Vault that could sign a token.")
        return self._issuer.identity_token(role)

    async def _from_github(self, audience: str) -> str:
        url, token = self._environ.get(REQUEST_URL, ""), self._environ.get(REQUEST_TOKEN, "")
        if not url or not token:
            raise CredentialUnavailable(
                f"{REQUEST_URL} or {REQUEST_TOKEN} is not set: the job needs `permissions: id-token: write`."
            )
        try:
            parts = urlsplit(url)
            right = parts.scheme == "https" and _ACTIONS_HOST.fullmatch(parts.hostname or "")
        except ValueError:
            right = None
        if not right:
            raise CredentialUnavailable(
                f"{REQUEST_URL} is not an https URL below actions.githubusercontent.com, and the job's token goes nowhere else."
            )
        if not re.fullmatch(r"[!-~]{1,16384}", token):
            raise CredentialUnavailable(f"{REQUEST_TOKEN} can't stand in a header.")
        mark = "&" if "?" in url else "?"
        host = self.github_host(f"{url}{mark}audience={quote(audience, safe='')}")
        try:
            answer = await host.get({"Authorization": f"bearer {token}"})
        finally:
            await host.close()
        if answer.status in (401, 403, 404):
            raise CredentialUnavailable(f"GitHub gives no token ({answer.status}).")
        try:
            document: Any = json.loads(answer.data) if answer.status == 200 else None
        except (ValueError, RecursionError):
            document = None
        value = document.get("value") if isinstance(document, dict) else None
        if not isinstance(value, str):
            raise StoreAway(f"GitHub gives no token ({answer.status}).")
        return value


def origin_of(of: Federation) -> str:
    """The source in words."""
    match of.source:
        case "vault":
            return f"identity/oidc/token/{of.place}"
        case "github":
            return "GitHub"
        case "workload_api":
            return f"the Workload API at {of.place}"
        case "certificate":
            return f"the client certificate at {of.place}"
    return of.place


def _from_file(path: Path) -> str:
    # It is read anew each time: the kubelet swaps a link. A pipe that nobody writes would hold the thread.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(LONGEST + 2) or b""
    except OSError as error:
        why = error.strerror or type(error).__name__
    else:
        if text := data.decode("ascii", "replace").strip():
            return text
        why = "it is empty"
    raise StoreAway(f"The token file {path} can't be used: {why}.")
