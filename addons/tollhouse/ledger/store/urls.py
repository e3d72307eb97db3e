"""Redis URLs that name several servers: what they say, and nothing of how they are reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

CLUSTER: Final = "redis+cluster://"
SENTINEL: Final = "redis+sentinel://"

_TLS: Final = frozenset({"ssl", "ssl_ca_certs"})
_FORMS: Final = {
    CLUSTER: "redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT, without a database, with ssl=true and ssl_ca_certs behind a ?",
    SENTINEL: (
        "redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/MASTER/DB, with sentinel_username, sentinel_password, "
        "ssl=true and ssl_ca_certs behind a ?"
    ),
}


@dataclass(frozen=True, slots=True)
class Servers:
    """``places`` are the hosts (IPv6 without brackets) and ports that are asked who is who. ``master`` and ``db`` are of
    Sentinels alone. ``ca_file`` is None for the machine's own roots."""

    places: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None = field(repr=False)
    tls: bool = False
    ca_file: str | None = None
    master: str = ""
    db: int = 0
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


def parse_servers(url: str) -> Servers:
    """Reads a URL that begins with `CLUSTER` or `SENTINEL`. Raises `ValueError`, without a value of the URL."""
    kind = CLUSTER if url.startswith(CLUSTER) else SENTINEL
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong(kind) from None
    options = dict(query)
    known = _TLS if kind == CLUSTER else _TLS | {"sentinel_username", "sentinel_password"}
    account, _, hosts = parts.netloc.rpartition("@")
    master, _, db = parts.path.strip("/").partition("/")
    places = tuple(_place(text) for text in hosts.split(","))
    ssl = options.get("ssl", "false")
    if (
        None in places
        or parts.fragment
        or len(options) != len(query)
        or options.keys() - known
        or ssl not in ("true", "false")
        or options.get("ssl_ca_certs") == ""
        or ("ssl_ca_certs" in options and ssl != "true")
        or bool(master) is not (kind == SENTINEL)
        or not (db or "0").isdecimal()
    ):
        raise _wrong(kind)
    user, _, password = account.partition(":")
    return Servers(
        tuple(place for place in places if place is not None),
        unquote(user) or None,
        unquote(password) or None,
        ssl == "true",
        options.get("ssl_ca_certs"),
        unquote(master),
        int(db or 0),
        options.get("sentinel_username") or None,
        options.get("sentinel_password") or None,
    )


def _place(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) <= 65535:
        return None
    bare = host.removeprefix("[").removesuffix("]")
    return None if ":" in bare and bare == host else (bare, int(port))


def _wrong(kind: str) -> ValueError:
    return ValueError(
        f"is not what a URL of {'a Cluster' if kind == CLUSTER else 'Sentinels'} is; write {_FORMS[kind]}"
    )
