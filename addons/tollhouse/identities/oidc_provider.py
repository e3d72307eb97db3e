"""An OpenID provider at which people log in: its discovery, the exchange of a code, and its JWTs.

What is judged is in OpenID Connect Core 1.0, section 3.1.3.7. The code is bound to this login by PKCE (RFC 7636) and the
ID token by its nonce. Each request goes through `TokenHost`: bounded in time and size, over verified TLS, without redirects.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus, urlencode, urlsplit

from tollhouse.accounts.token import is_jwt
from tollhouse.credential.cloud.token_host import Connector, TokenHost
from tollhouse.credential.lease import StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.denial import Refused
from tollhouse.identities.jwt_judge import Issuer, JwtJudge
from tollhouse.identities.key_sets import IssuerKeys, JwksUrl
from tollhouse.identities.people import LoginRefused, ProviderAway
from tollhouse.identities.templates import ProjectRule
from tollhouse.refreshed import Fresh, NotRead, Refreshed, Times

_LIFE_S: Final = 3600.0
_TIMES: Final = Times(
    ahead_s=_LIFE_S / 2, spread=0.1, stale_for_s=_LIFE_S, retry_s=(2.0, 5.0, 15.0, 30.0), idle_s=1e9
)


@dataclass(frozen=True, slots=True)
class OidcClient:
    """What the gateway is at the provider. Without ``audience`` none of the provider's JWTs is taken as a bearer token."""

    issuer: str
    client_id: str
    redirect_url: str
    algorithms: tuple[str, ...]
    audience: tuple[str, ...] = ()
    token_type: str | None = None


class _Told(NamedTuple):
    """What counts of a discovery."""

    authorization_url: str
    token_url: str
    keys_url: str
    basic: bool
    """The secret goes into Authorization, and not into the body."""


@dataclass(frozen=True, slots=True)
class _Discovered:
    told: _Told
    tokens: TokenHost
    keys: IssuerKeys
    logins: JwtJudge
    """Of ID tokens."""
    bearers: JwtJudge | None

    async def close(self) -> None:
        """A login that is under way may end as with a provider that is away."""
        await self.tokens.close()
        await self.keys.close()


class OidcProvider:
    """``secret`` gives the client's secret, None for a client without one. ``connector`` is as in `TokenHost`. It is for one
    event loop."""

    def __init__(
        self,
        client: OidcClient,
        secret: Callable[[], Awaitable[Secret | None]],
        *,
        ca_file: Path | None = None,
        connector: Connector | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self._secret = secret
        self._ca_file = ca_file
        self._connector = connector
        self._wall_clock = wall_clock
        place = client.issuer.rstrip("/") + "/.well-known/openid-configuration"
        self._place = self._host(place)
        self._kept = Refreshed[str, _Discovered](self._read, _TIMES, away=(ProviderAway,))

    async def authorization_url(self) -> str:
        """Where people log in. Raises `ProviderAway`."""
        return (await self._discovered()).told.authorization_url

    async def login(self, code: str, verifier: str, nonce: str) -> Mapping[str, Any]:
        """The claims of the person who has logged in, for the ``code`` that the browser has brought. Raises `ProviderAway` and
        `LoginRefused`."""
        found = await self._discovered()
        token = await self._exchanged(found, code, verifier)
        claims = await _claims(found.logins, token)
        given = claims.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise LoginRefused(
                "Its ID token is of another login: the nonce is not that of this one."
            )
        audience, party = claims.get("aud"), claims.get("azp")
        several = isinstance(audience, list) and len(audience) > 1
        if (several or party is not None) and party != self.client.client_id:
            raise LoginRefused("Its ID token was made for another client: azp is not client_id.")
        return claims

    async def bearer(self, token: str) -> Mapping[str, Any]:
        """What a JWT claims that comes as a bearer token. Raises `ProviderAway` and `LoginRefused`."""
        judge = (await self._discovered()).bearers
        if judge is None or not is_jwt(token):
            raise LoginRefused("It is no JWT, or [admin.oidc] has no audience for one.")
        return await _claims(judge, token)

    def seconds_left(self, claims: Mapping[str, Any]) -> float:
        """Until what `bearer` has given is good no more."""
        return float(claims["exp"]) - self._wall_clock()

    async def keys(self) -> int:
        """How many keys it signs with. Raises `ProviderAway`."""
        found = await self._discovered()
        try:
            return len((await found.keys.current()).ids)
        except Exception as error:
            raise ProviderAway(getattr(error, "why", type(error).__name__)) from None

    async def read_again(self) -> None:
        """Reads its discovery now."""
        await self._kept.again("")

    async def close(self) -> None:
        kept = self._kept.seen("")
        await self._kept.close()
        if kept is not None and kept.kept is not None and kept.kept.value is not None:
            await kept.kept.value.close()
        await self._place.close()

    async def _exchanged(self, found: _Discovered, code: str, verifier: str) -> str:
        """The ID token for a code."""
        client, secret = self.client, await self._secret()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_url,
            "code_verifier": verifier,
        }
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if secret is not None and found.told.basic:
            # RFC 6749, section 2.3.1: both are form-encoded first.
            pair = f"{quote_plus(client.client_id)}:{quote_plus(secret.reveal())}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = client.client_id
            if secret is not None:
                form["client_secret"] = secret.reveal()
        try:
            answer = await found.tokens.post(urlencode(form).encode(), headers)
        except StoreAway as away:
            raise ProviderAway(away.why) from None
        told = _object(answer.data)
        if answer.status != 200:
            # RFC 6749, section 5.2: a short word in ASCII.
            code_of_error = told.get("error")
            error = ascii(code_of_error[:40]) if isinstance(code_of_error, str) else "no error"
            raise LoginRefused(f"It gives no token for the code ({answer.status}, {error}).")
        token = told.get("id_token")
        if not isinstance(token, str) or not is_jwt(token):
            raise LoginRefused("It gives no ID token: is openid among the scopes?")
        return token

    async def _discovered(self) -> _Discovered:
        try:
            found = await self._kept.get("")
        except NotRead:
            raise ProviderAway("the gateway stops") from None
        assert found is not None
        return found

    async def _read(self, _key: str, before: _Discovered | None) -> Fresh[_Discovered]:
        try:
            answer = await self._place.get({"Accept": "application/json"})
        except StoreAway as away:
            raise ProviderAway(away.why) from None
        if answer.status != 200:
            raise ProviderAway(f"{self._place.host} answers its discovery with {answer.status}.")
        told = self._judged(_object(answer.data))
        if before is not None and before.told == told:
            return Fresh(before, _LIFE_S)
        made = self._made(told)
        if before is not None:
            # Else its keys would be read for ever.
            await before.close()
        return Fresh(made, _LIFE_S)

    def _judged(self, told: Mapping[str, Any]) -> _Told:
        client = self.client
        if told.get("issuer") != client.issuer:
            # OpenID Connect Discovery 1.0, section 4.3.
            raise ProviderAway(
                f"The discovery of {client.issuer} is that of another issuer: write issuer as it says it."
            )
        methods = told.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return _Told(
            _https(told, "authorization_endpoint"),
            _https(told, "token_endpoint"),
            _https(told, "jwks_uri"),
            isinstance(methods, list) and "client_secret_basic" in methods,
        )

    def _made(self, told: _Told) -> _Discovered:
        client = self.client
        keys = IssuerKeys(
            JwksUrl(told.keys_url, self._ca_file, None, self._connector), client.algorithms
        )
        return _Discovered(
            told,
            self._host(told.token_url),
            keys,
            self._judge(keys, (client.client_id,), None),
            self._judge(keys, client.audience, client.token_type) if client.audience else None,
        )

    def _judge(
        self, keys: IssuerKeys, audience: tuple[str, ...], token_type: str | None
    ) -> JwtJudge:
        client = self.client
        # Nobody asks for the project of a person.
        none = ProjectRule("sub")
        issuer = Issuer(
            client.issuer, audience, client.algorithms, none, "", keys, token_type=token_type
        )
        return JwtJudge([issuer], self._wall_clock)

    def _host(self, url: str) -> TokenHost:
        return TokenHost(url, ca_file=self._ca_file, connector=self._connector, bound_s=5.0)


async def _claims(judge: JwtJudge, token: str) -> Mapping[str, Any]:
    try:
        return await judge.claims(token)
    except Refused as refused:
        if refused.denial.code == "identity_unavailable":
            raise ProviderAway("The keys of the provider can't be read.") from None
        raise LoginRefused(refused.denial.why or "Its token is not good.") from None


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _https(told: Mapping[str, Any], name: str) -> str:
    url = told.get(name)
    if isinstance(url, str):
        try:
            parts = urlsplit(url)
        except ValueError:
            pass
        else:
            if parts.scheme == "https" and parts.hostname and "@" not in parts.netloc:
                return url
    raise ProviderAway(f"The discovery has no https URL as {name}.")
