"""Redis URLs: they are read and judged here. Connections are made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

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
class _Option:
    """An option of one server's URL: what its value must be, and whether it needs TLS."""

    allows: Callable[[str], object]
    must_be: str
    tls: bool = False


_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ANY: Final = _Option(bool, "a text")
_WHOLE: Final = _Option(_NUMBER.fullmatch, "a whole number")
_SECONDS: Final = _Option(
    re.compile(r"(?!0*\.?0*\Z)[0-9]{1,5}(\.[0-9]{1,6})?").fullmatch, "a number of seconds above 0"
)
_SWITCH: Final = _Option(
    re.compile("true|false|yes|no|1|0", re.IGNORECASE).fullmatch, "true or false"
)
_FILE: Final = _Option(bool, "a path", tls=True)
_ONE_SERVER: Final = {
    "db": _WHOLE,
    "username": _ANY,
    "password": _ANY,
    "client_name": _ANY,
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _SWITCH,
    "health_check_interval": _WHOLE,
    "max_connections": _Option(re.compile("[1-9][0-9]{0,8}").fullmatch, "a whole number above 0"),
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_check_hostname": _Option(_SWITCH.allows, _SWITCH.must_be, tls=True),
    "ssl_cert_reqs": _Option(
        re.compile("none|optional|required").fullmatch, "none, optional or required", tls=True
    ),
}
"""The options of redis-py's ``from_url`` that do not change how the ledger speaks."""


def check_one_server(parts: SplitResult) -> None:
    """Judges the database and the options of a ``redis://``, ``rediss://`` or ``unix://`` URL. Host
    and port are not looked at. Raises `ValueError`. Its text has no value of the URL, and no
    unknown name: that may be a part of a password."""
    try:
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        query = [("", "")]
    options = dict(query)
    if options.keys() - _ONE_SERVER.keys():
        known = ", ".join(_ONE_SERVER)
        raise ValueError(
            f"has an option behind its ? that is not known, and it may be one that was misspelt; known are {known}, and "
            "TLS is rediss:// in place of redis://"
        )
    if len(options) != len(query) or parts.fragment:
        raise ValueError(
            "has an option twice, or a part behind a #, and which counts would be a guess; remove it"
        )
    for name, value in options.items():
        option = _ONE_SERVER[name]
        if not option.allows(value):
            raise ValueError(
                f"has the option {name} with a value that is not {option.must_be}; correct the value"
            )
        if option.tls and parts.scheme != "rediss":
            raise ValueError(
                f"has the option {name} without TLS, so it would do nothing; write rediss://, or remove it"
            )
    path = parts.path.strip("/")
    if parts.scheme == "unix" or not path:
        return
    if not _NUMBER.fullmatch(path):
        raise ValueError(
            "names a database that is not a number, and database 0 would be taken in silence; write redis://HOST:PORT/DB "
            "with a number, or no database for 0"
        )
    if "db" in options:
        raise ValueError(
            "names the database twice, behind the last / and as db; remove one of them"
        )


@dataclass(frozen=True, slots=True)
class Servers:
    """``places`` are hosts (IPv6 without brackets) and ports of some nodes or of the Sentinels.
    Only Sentinels have ``master`` and ``db``. ``ca_file`` is None for the machine's own roots."""

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
    """Reads a URL that begins with `CLUSTER` or `SENTINEL`. Raises `ValueError`, whose text has no
    value of the URL."""
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
