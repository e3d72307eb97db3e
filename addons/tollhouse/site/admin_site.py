"""The admin listener as the file has it: of a gateway of one process, and of the desk of several."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from tollhouse.config.load import Config
from tollhouse.site.access import Access
from tollhouse.site.admin_api import AdminApi, PerformFor
from tollhouse.site.exposition import exposed
from tollhouse.site.http import AdminSite, HostPort, Looks
from tollhouse.site.page import StatusPage
from tollhouse.site.totals import Families


def admin_site(
    config: Config,
    address: HostPort,
    perform: PerformFor,
    families: Callable[[], Awaitable[Families]],
    reasons: Callable[[], Sequence[str]],
    warnings: Callable[[], Sequence[str]],
    tls: ssl.SSLContext | None,
    listening: socket.socket | None = None,
) -> AdminSite:
    """``perform`` does an operation; ``listening`` is a bound socket in place of one of its own."""
    admin = config.admin
    oidc = admin.oidc
    access = Access(lambda digest: perform("viewer", {"digest": digest}))
    if oidc is not None:
        parts = urlsplit(oidc.redirect_url)
        access = Access(
            lambda digest: perform("viewer", {"digest": digest}),
            judge_jwt=lambda token: perform("person_bearer", {"token": token}),
            stays=lambda person: perform("person_stays", {"subject": person}),
            https_host=parts.netloc if parts.scheme == "https" else "",
        )
    page = StatusPage(perform, families, reasons, access, oidc=oidc) if admin.page else None

    async def text() -> tuple[str, bytes]:
        return exposed(await families())

    api = AdminApi(config, perform, access) if admin.api else None
    looks = Looks(access, page, api, admin.unsafe_open_metrics, admin.unsafe_plaintext, tls)
    return AdminSite(
        address, config.listen.base_url_hosts, reasons, text, warnings, listening, looks
    )
