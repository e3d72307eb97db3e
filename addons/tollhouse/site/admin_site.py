"""The admin listener as the file has it: of a gateway of one process, and of the desk of several."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

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
    access = Access(lambda digest: perform("viewer", {"digest": digest}))
    page = StatusPage(perform, families, reasons, access) if admin.page else None

    async def text() -> tuple[str, bytes]:
        return exposed(await families())

    api = AdminApi(config, perform, access) if admin.api else None
    looks = Looks(access, page, api, admin.unsafe_open_metrics, admin.unsafe_plaintext, tls)
    return AdminSite(
        address, config.listen.base_url_hosts, reasons, text, warnings, listening, looks
    )
