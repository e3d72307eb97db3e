"""URLs of several servers: what is read, and what is refused without showing it."""

from __future__ import annotations

import pytest

from tollhouse.ledger.store.urls import Servers, parse_servers


def test_a_cluster() -> None:
    """Account and options are percent-decoded; IPv6 loses its brackets."""
    url = "redis+cluster://gate:pass%2Fw%40rd@a.internal:7000,[::1]:7001?ssl=true&ssl_ca_certs=/etc/ca%20s.pem"
    places = (("a.internal", 7000), ("::1", 7001))
    assert parse_servers(url) == Servers(places, "gate", "pass/w@rd", True, "/etc/ca s.pem")
    assert parse_servers("redis+cluster://:pw@h:1/") == Servers((("h", 1),), None, "pw")
    assert "pass" not in repr(parse_servers(url))


def test_sentinels() -> None:
    """The Sentinels' own account is behind the question mark."""
    url = "redis+sentinel://u:p@h:1,g:2/main/3?ssl=true&sentinel_username=s&sentinel_password=w%26"
    assert parse_servers(url) == Servers(
        (("h", 1), ("g", 2)), "u", "p", True, None, "main", 3, "s", "w&"
    )
    assert parse_servers("redis+sentinel://h:1/main") == Servers(
        (("h", 1),), None, None, master="main"
    )


@pytest.mark.parametrize(
    "rest",
    [
        "h",
        "h:0",
        "h:70000",
        "h:1,",
        "h:1,g",
        "::1:7000",
        "[::1:7000",
        "h:1/0",
        "h:1?db=1",
        "h:1?ssl=yes",
        "h:1?ssl=true&ssl=false",
        "h:1?ssl_ca_certs=/ca.pem",
        "h:1?ssl=true&ssl_ca_certs=",
        "h:1?sentinel_password=hunter2",
        "h:1?ssl",
        "h:1#x",
        "",
    ],
)
def test_what_a_cluster_url_may_not_be(rest: str) -> None:
    """Each says what such a URL is, and nothing of this one."""
    with pytest.raises(
        ValueError, match=r"write redis\+cluster://\[USER:PASSWORD@\]HOST:PORT"
    ) as raised:
        parse_servers(f"redis+cluster://me:hunter2@{rest}")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "rest", ["h:1", "h/m", "h:1,/m", "h:1/m/x", "h:1/m?sentinel_pasword=hunter2"]
)
def test_what_a_sentinel_url_may_not_be(rest: str) -> None:
    """The same of Sentinels."""
    with pytest.raises(
        ValueError, match=r"write redis\+sentinel://\[USER:PASSWORD@\]HOST:PORT"
    ) as raised:
        parse_servers(f"redis+sentinel://me:hunter2@{rest}")
    assert "hunter2" not in str(raised.value)
