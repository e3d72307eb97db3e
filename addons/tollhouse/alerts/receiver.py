"""Who is told: what of, and the way there. It is guarded as the way to providers is, and follows no redirect.

Neither a URL nor a secret of a receiver is in any text that is made here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from tollhouse import files
from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.webhooks import BadSigningSecret, Form, request_of, signing_keys
from tollhouse.config.alert_tables import AlertKind, url_problem
from tollhouse.credential.cloud.token_host import Connector, HostAnswer, TokenHost
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.dispatch.guard import refused_address
from tollhouse.dispatch.proxied import StoreSecrets
from tollhouse.dispatch.resolve import AddressRefused, guarded, is_address

BOUND_S: Final = 15.0
"""Of one attempt. Standard Webhooks recommends 15 to 30 s."""
_LONGEST_TOLD_S: Final = 3600.0
"""Of ``Retry-After``."""


class AlertAttempt(NamedTuple):
    """How one attempt ended. ``why`` is empty if the receiver has it. ``retry_after_s`` is what the receiver asks for."""

    status: int = 0
    """0: nothing was answered."""
    why: str = ""
    retry_after_s: float = 0.0
    gone: bool = False
    """The receiver wants no more of it: 410."""


_TODO: Final = {
    401: ": the URL or the signing secret is not one that it takes",
    403: ": the URL or the signing secret is not one that it takes",
    404: ": the URL is not one of its own",
    410: ": it wants no more; name another one, or take it out of [[alerts]]",
    429: ": it is tried again later",
}
_ITS_LOG: Final = ": its own log says why"


class NotSendable(Exception):
    """No attempt could be made. Its text is safe to show."""


@dataclass(frozen=True, slots=True)
class Interest:
    """What a receiver is told of. None is all."""

    at: tuple[int, ...] = ()
    kinds: frozenset[AlertKind] = frozenset()
    projects: frozenset[str] | None = None
    tenants: frozenset[str] | None = None
    key_age_days: int = 90

    def in_limits_of(self, tenant: str, project: str) -> bool:
        """Of a project, or of a whole tenant where ``project`` is empty."""
        if project:
            return self.projects is None or project in self.projects
        return self.tenants is None or tenant in self.tenants

    def has(self, event: AlertEvent) -> bool:
        mine = not event.tenant or self.in_limits_of(event.tenant, event.project)
        if event.type == "budget.threshold":
            return mine and event.threshold in self.at
        if event.type == "key.age" and event.data["bound_days"] != self.key_age_days:
            return False
        return mine and event.type in self.kinds


@dataclass(frozen=True, slots=True)
class WebhookPlace:
    """Where a receiver is, and what signs. Each value is from the configuration itself, from a file or from the store."""

    url: str = field(default="", repr=False)
    url_file: Path | None = None
    signing_file: Path | None = None
    path: str = ""
    """Of the secret in the store."""
    fields: tuple[str, ...] = ()
    """That are read from it: ``url``, ``signing_secret``."""
    ca_file: Path | None = None
    allow_private: bool = False


class Receiver:
    """``secrets`` gives what is in the store. ``connector`` makes the way through a proxy to a host and port. It belongs to one
    event loop."""

    def __init__(
        self,
        name: str,
        form: Form,
        interest: Interest,
        address: WebhookPlace,
        secrets: StoreSecrets,
        *,
        connector: Callable[[tuple[str, int]], Connector] | None = None,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
        wall_clock: Callable[[], float] = time.time,
        bound_s: float = BOUND_S,
    ) -> None:
        self.name = name
        self.form = form
        self.interest = interest
        self._address = address
        self._secrets = secrets
        self._connector = connector
        self._resolver_factory = resolver_factory or aiohttp.ThreadedResolver
        self._wall_clock = wall_clock
        self._bound_s = bound_s
        self._host: tuple[str, TokenHost] | None = None

    async def tell(self, message_id: str, body: str) -> AlertAttempt:
        """Makes one attempt. Raises nothing but a cancellation."""
        try:
            async with asyncio.timeout(self._bound_s):
                host, keys = await self._prepared()
                sent, headers = request_of(self.form, message_id, body, self._wall_clock(), keys)
                return _judged(await host.post(sent, headers), self._wall_clock())
        except Exception as error:
            return AlertAttempt(why=self._why(error))

    async def look(self) -> str:
        """Why no attempt could be made; empty if one could. Nobody is dialled."""
        try:
            async with asyncio.timeout(self._bound_s):
                await self._prepared()
        except Exception as error:
            return self._why(error)
        return ""

    async def close(self) -> None:
        kept, self._host = self._host, None
        if kept is not None:
            await kept[1].close()

    def _why(self, error: Exception) -> str:
        match error:
            case TimeoutError():
                return f"There was no answer within {self._bound_s:g} s: look whether it runs, and what stands before it."
            case NotSendable() | BadSigningSecret():
                return str(error)
            case CredentialUnavailable() | AddressRefused():
                return error.why
        # Its text may hold what was sent.
        return f"The gateway has a fault at it ({type(error).__name__}): report it."

    async def _prepared(self) -> tuple[TokenHost, tuple[bytes, ...]]:
        """The way to the receiver, and what signs."""
        address = self._address
        stored: dict[str, str] = {}
        if address.fields:
            found = await self._secrets.get(address.path, *address.fields)
            stored = {name: one.reveal() for name, one in zip(address.fields, found, strict=True)}
        url = stored.get("url") or address.url or await _read(address.url_file, "to_file")
        keys: tuple[bytes, ...] = ()
        if "signing_secret" in stored:
            keys = signing_keys(stored["signing_secret"])
        elif address.signing_file is not None:
            keys = signing_keys(await _read(address.signing_file, "signing_secret_file"))
        return await self._way(url.strip()), keys

    async def _way(self, url: str) -> TokenHost:
        if self._host is not None and self._host[0] == url:
            return self._host[1]
        if problem := url_problem(url):
            raise NotSendable(f"The URL {problem}.")
        parts = urlsplit(url)
        name, allow_private = parts.hostname or "", self._address.allow_private
        if is_address(name) and (rule := refused_address(name, allow_private=allow_private)):
            # aiohttp asks no resolver for an address.
            raise NotSendable(f"{name} is {rule}; allow_private = true lets a private one through.")
        connector = None
        if self._connector is not None:
            connector = self._connector((name, parts.port or 443))
        made = TokenHost(
            url,
            ca_file=self._address.ca_file,
            resolver_factory=lambda: _Guarded(self._resolver_factory(), allow_private),
            connector=connector,
            bound_s=self._bound_s,
            reads_body=False,
        )
        before, self._host = self._host, (url, made)
        if before is not None:
            await before[1].close()
        return made


class _Guarded(AbstractResolver):
    def __init__(self, inner: AbstractResolver, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return await guarded(
            self._inner, host, host, port, allow_private=self._allow_private, family=family
        )

    async def close(self) -> None:
        await self._inner.close()


def _judged(answer: HostAnswer, now: float) -> AlertAttempt:
    """2xx alone is a success, a redirect is none: Standard Webhooks."""
    status = answer.status
    if 200 <= status < 300:
        return AlertAttempt(status)
    wait = _seconds(answer.headers.get("retry-after", ""), now) if status in (429, 503) else 0.0
    return AlertAttempt(
        status,
        f"The receiver answered {status}{_TODO.get(status, _ITS_LOG)}.",
        wait,
        gone=status == 410,
    )


def _seconds(text: str, now: float) -> float:
    """Of ``Retry-After`` (RFC 9110 10.2.3); 0 for what is neither form."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), _LONGEST_TOLD_S)
    try:
        wait = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), _LONGEST_TOLD_S)


async def _read(file: Path | None, key: str) -> str:
    if file is None:
        raise NotSendable("There is no URL: give to, to_file, or secret with the field url.")
    try:
        return (await asyncio.to_thread(files.read, file)).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise NotSendable(f"The file that {key} names can't be read ({why}).") from None
