"""The table [[alerts]]: who is told, and of what."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from tollhouse.config.models import Table, UpstreamProxyConfig
from tollhouse.config.store_places import VaultPlace
from tollhouse.config.values import FilePath, List, Name, Text

AlertKind = Literal[
    "budget.refused",
    "call.unpriced",
    "key.age",
    "key.refused",
    "key.stale",
    "breaker.open",
    "spool.waiting",
]
"""What is told beside thresholds, by the ``type`` of its message."""
OF_PROJECTS: Final[frozenset[AlertKind]] = frozenset({"budget.refused", "call.unpriced"})
"""Those that are about one project or tenant. The others are about the gateway."""
EVERYONE: Final = ("*",)
SLACK_HOST: Final = "hooks.slack.com"


def url_problem(text: str) -> str:
    """Why nothing can be sent to ``text``; empty if it can. The URL itself is not repeated, as it may be a secret."""
    try:
        parts = urlsplit(text)
        sound = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        return "is not a URL; write https://HOST/PATH"
    if not sound:
        return (
            "must be an https:// URL, because whoever reads a message on its way could forge the next; a private CA is named "
            "as ca_file"
        )
    if "@" in parts.netloc or parts.fragment or not text.isascii() or not text.isprintable():
        return "has a user name, a fragment or a character that no URL has; write https://HOST/PATH"
    return ""


def _url(given: SecretStr) -> SecretStr:
    if problem := url_problem(given.get_secret_value()):
        raise ValueError(problem)
    return given


def _percent(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[1-9][0-9]{0,2}%", value):
        raise ValueError('must be a whole share of a limit in quotes, from "1%" to "999%"')
    return int(value.removesuffix("%"))


class AlertConfig(Table):
    """One receiver. The value of ``to`` may be a secret, as Slack's is, and is shown nowhere."""

    name: Name | None = None
    """None: the host in ``to``. What waits for a receiver waits under its name."""
    at: Annotated[tuple[Annotated[int, BeforeValidator(_percent)], ...], List] = ()
    """Shares of each limit, in per cent."""
    on: Annotated[tuple[AlertKind, ...], List] | None = None
    """None: all of them; of `OF_PROJECTS` alone where projects are named."""
    projects: Annotated[tuple[Text, ...], List, Field(min_length=1)] = EVERYONE
    tenants: Annotated[tuple[Text, ...], List] | None = None
    """Whose own limits are told. None: those of all tenants, and of none where projects are named."""
    form: Literal["generic", "slack"] | None = None
    """None: ``slack`` where ``to`` leads to `SLACK_HOST`."""
    to: Annotated[SecretStr, AfterValidator(_url)] | None = None
    to_file: FilePath | None = None
    """A file with the URL, read at each attempt."""
    signing_secret_file: FilePath | None = None
    """``whsec_...`` of Standard Webhooks; several while it is exchanged."""
    secret: VaultPlace | None = None
    """The path below the mount of a secret with the fields that no file has: ``url``, ``signing_secret``."""
    ca_file: FilePath | None = None
    """PEM of the roots trusted for it instead of the public ones."""
    allow_private: bool = False
    upstream_proxy: UpstreamProxyConfig | Literal["off"] | None = None
    """``off``: dialled directly, whatever ``[upstream] proxy`` says."""
    key_age_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """How old the version of a key may be in Vault before ``key.age`` is told."""

    @property
    def host(self) -> str:
        """Of ``to``; empty without one."""
        return "" if self.to is None else urlsplit(self.to.get_secret_value()).hostname or ""

    @property
    def port(self) -> int:
        """Of ``to``; that of https without one."""
        return (None if self.to is None else urlsplit(self.to.get_secret_value()).port) or 443

    @property
    def called(self) -> str:
        """The receiver's name."""
        return self.name or self.host

    @property
    def speaks(self) -> Literal["generic", "slack"]:
        return self.form or ("slack" if self.host == SLACK_HOST else "generic")

    @property
    def everyone(self) -> bool:
        return "*" in self.projects

    @property
    def tells(self) -> frozenset[AlertKind]:
        """What is told beside thresholds."""
        if self.on is not None:
            return frozenset(self.on)
        return _ALL if self.everyone else OF_PROJECTS

    @property
    def fields(self) -> tuple[str, ...]:
        """What is read from ``secret``."""
        wanted = []
        if self.to is None and self.to_file is None:
            wanted.append("url")
        if self.speaks == "generic" and self.signing_secret_file is None:
            wanted.append("signing_secret")
        return tuple(wanted) if self.secret is not None else ()


_ALL: Final[frozenset[AlertKind]] = OF_PROJECTS | {
    "key.age",
    "key.refused",
    "key.stale",
    "breaker.open",
    "spool.waiting",
}
