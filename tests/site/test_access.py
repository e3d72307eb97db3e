"""Cookies: they are for TLS wherever a browser speaks it."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tollhouse.site.access import COOKIE, Access


async def _nobody(_digest: str) -> dict[str, Any] | None:
    return None


@pytest.mark.parametrize(
    ("https_host", "host", "secure"),
    [
        ("gate.example", "gate.example", True),
        ("Gate.Example", "gate.example", True),
        ("gate.example:443", "gate.example", True),
        ("gate.example", "gate.example:443", True),
        ("gate.example:9090", "gate.example:9090", True),
        ("gate.example:9090", "gate.example", False),
        ("gate.example", "127.0.0.1:9090", False),
        ("", "gate.example", False),
    ],
)
def test_tls_that_ends_before_the_listener(https_host: str, host: str, secure: bool) -> None:
    """The host is that of the redirect_url, however the file and the browser write it."""
    access = Access(_nobody, https_host=https_host)
    request = make_mocked_request("GET", "/", headers={"Host": host})
    answer = web.Response()
    access.set_session(answer, request, "id", 60, "Lax")
    [cookie] = answer.cookies.values()
    assert cookie.key == (f"__Host-{COOKIE}" if secure else COOKIE)
    assert bool(cookie["secure"]) is secure
