"""People at the admin listener, whom an OpenID provider names. The gateway asks the provider here, where its secrets are."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tollhouse import files
from tollhouse.accounts.directory import Directory
from tollhouse.config.admin_tables import OidcConfig
from tollhouse.config.load import issuer_proxy
from tollhouse.control.overview import Viewer
from tollhouse.control.refusal import Json, OperationRefused
from tollhouse.credential.beside_keys import SecretsBesideKeys
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.secret import Secret
from tollhouse.identities.people import LoginRefused, ProviderAway, View, Wanted, person_of

if TYPE_CHECKING:
    from tollhouse.config.load import Config
    from tollhouse.dispatch.proxied import ProxyTunnels
    from tollhouse.identities.oidc_provider import OidcProvider

log = logging.getLogger(__name__)

_NOBODY = (
    "You are logged in at the provider, but no entry of [admin.oidc] fits you. So nothing is shown. Ask whoever runs the gateway "
    "for an entry in admins or views."
)


class PeopleDesk:
    """Every method raises `OperationRefused`: 409 for a login that is not good, 503 for a provider that is away."""

    def __init__(
        self,
        provider: OidcProvider,
        directory: Directory,
        admins: Wanted,
        views: Sequence[View] = (),
    ) -> None:
        self.provider = provider
        self._directory = directory
        self._admins = admins
        self._views = views

    async def begin(self) -> str:
        """The URL at which people log in."""
        try:
            return await self.provider.authorization_url()
        except ProviderAway as away:
            raise _away(away) from None

    async def finish(self, code: str, verifier: str, nonce: str) -> Json:
        """Whom the page is shown, as `Viewer.as_json`, for the code that a browser has brought."""
        try:
            claims = await self.provider.login(code, verifier, nonce)
        except ProviderAway as away:
            raise _away(away) from None
        except CredentialUnavailable as error:
            log.error("nobody can log in: the client_secret of [admin.oidc]: %s", error.why)
            raise OperationRefused(
                "The secret of [admin.oidc] can't be read, and the gateway's log says why. Log in by a token, or tell "
                "the people who run the gateway.",
                503,
            ) from None
        except LoginRefused as refused:
            log.warning("a login was refused: %s", refused)
            raise OperationRefused(
                f"The provider's answer is not taken. {refused} Log in again."
            ) from None
        viewer = await self._viewer(claims)
        if viewer is None:
            raise OperationRefused(_NOBODY)
        return viewer

    async def bearer(self, token: str) -> Json | None:
        """The same of a JWT that comes as a bearer token, and ``ends_s``, for how many seconds it is good; None if it is not
        good, or of nobody."""
        try:
            claims = await self.provider.bearer(token)
        except ProviderAway as away:
            raise _away(away) from None
        except LoginRefused as refused:
            log.warning("a bearer token of the admin listener was refused: %s", refused)
            return None
        viewer = await self._viewer(claims)
        return viewer and {**viewer, "ends_s": self.provider.seconds_left(claims)}

    async def stays(self, subject: str) -> bool:
        """Whether somebody who has logged in was not revoked since."""
        record = await self._directory.find_subject(subject)
        return record is None or record.revoked_at is None

    async def _viewer(self, claims: Mapping[str, Any]) -> Json | None:
        person = person_of(self.provider.client.issuer, claims, self._admins, self._views)
        if person is None or not await self.stays(person.id):
            return None
        seen = Viewer(person.id, person.name, person.tenant, person.projects, person.admin)
        return seen.as_json()


def open_people(
    oidc: OidcConfig,
    provider: OidcProvider,
    directory: Directory,
) -> PeopleDesk:
    views = [
        View(
            view.claims,
            view.tenant if view.tenant is not None and view.tenant != "*" else "",
            view.projects or None,
        )
        for view in oidc.views
    ]
    return PeopleDesk(provider, directory, oidc.admins, views)


def open_provider(
    config: Config,
    oidc: OidcConfig,
    proxies: ProxyTunnels,
    secrets: SecretsBesideKeys,
    wall_clock: Callable[[], float] = time.time,
) -> OidcProvider:
    """The provider of [admin.oidc], which is not asked yet."""
    # Not every gateway needs its library.
    from tollhouse.identities.oidc_provider import OidcClient, OidcProvider

    async def secret() -> Secret | None:
        if oidc.client_secret is not None:
            return (await secrets.get(oidc.client_secret, "client_secret"))[0]
        if oidc.client_secret_file is None:
            return None
        try:
            text = await asyncio.to_thread(files.read, oidc.client_secret_file)
            return Secret(text.decode().strip())
        except (OSError, ValueError) as error:
            why = f"{oidc.client_secret_file} can't be read ({type(error).__name__})."
            raise CredentialUnavailable(why) from None

    client = OidcClient(
        oidc.issuer,
        oidc.client_id,
        oidc.redirect_url,
        oidc.algorithms,
        oidc.audience,
        oidc.token_type,
    )
    proxy = issuer_proxy(config, oidc)
    connector = None if proxy is None else proxies.connector(proxy)
    return OidcProvider(
        client, secret, ca_file=oidc.ca_file, connector=connector, wall_clock=wall_clock
    )


def _away(away: ProviderAway) -> OperationRefused:
    log.error("the OpenID provider of [admin.oidc] can't be used: %s", away)
    return OperationRefused(
        "The OpenID provider does not answer, and the gateway's log says why. Log in by a token, or try it again later.",
        503,
    )
