"""Request heads for the tests of the first gate."""

from __future__ import annotations

from typing import Any

from tollhouse.call import RequestHead

HOST = "api.openai.com"


def head(*headers: tuple[str, str], **changed: Any) -> RequestHead:
    """GET /v1/models in a tunnel to OpenAI, with Host unless one of ``headers`` is it."""
    given = list(headers)
    if not any(name == "host" for name, _ in given) and not changed.pop("no_host", False):
        given.insert(0, ("host", HOST))
    fields: dict[str, Any] = {
        "listener": "proxy",
        "http_version": "1.1",
        "method": "GET",
        "target": "/v1/models",
        "scheme": "https",
        "absolute_authority": None,
        "authority": None,
        "connect_host": HOST,
        "sni": HOST,
        "client_ip": "127.0.0.1",
    }
    return RequestHead(headers=tuple(given), **(fields | changed))
