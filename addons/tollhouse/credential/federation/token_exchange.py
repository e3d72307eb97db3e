"""A subject token, exchanged at its provider's endpoint: one step, or two where the first token stands for an account.

Each step goes to the host that the provider's entry names, over verified TLS, and to no other. Redirects are not followed, an
answer is read up to a bound, and no exception holds what was sent.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from tollhouse.credential.cloud.token_host import Connector, HostAnswer, TokenHost
from tollhouse.credential.federation.exchange_answers import Exchanged, outcome
from tollhouse.credential.federation.subject_token import SubjectToken
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.providers import ExchangeStep, Federation


class ConnectTo(AbstractResolver):
    """Every name is this address. A name in it is looked up."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return await self._system.resolve(self._host, self._port, family)

    async def close(self) -> None:
        await self._system.close()


class TokenExchange:
    """Of one provider. ``connector`` and ``tls`` are as in `TokenHost`; the first looks after ``connect_to``, too.
    ``wall_clock`` gives seconds since the epoch."""

    def __init__(
        self,
        federation: Federation,
        *,
        connector: Connector | None = None,
        tls: ssl.SSLContext | None = None,
        bound_s: float = 8.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._federation = federation
        self._wall_clock = wall_clock
        values = federation.parameters
        to = federation.connect_to
        quoted = {name: quote(value, safe="@") for name, value in values.items()}
        ca_file = None if federation.ca_file is None else Path(federation.ca_file)
        resolver = aiohttp.ThreadedResolver if to is None else (lambda: ConnectTo(*to))
        self._steps = [
            (
                step,
                TokenHost(
                    step.url.format_map(quoted),
                    ca_file=ca_file,
                    resolver_factory=resolver,
                    connector=connector,
                    tls=tls,
                    bound_s=bound_s,
                ),
            )
            for step in federation.exchange.steps
            if not step.when or values[step.when]
        ]

    async def exchange(self, subject: SubjectToken) -> Exchanged:
        """Raises `CredentialUnavailable`, and `StoreAway` if there was no answer."""
        found = await self._exchange(subject)
        if isinstance(found, CredentialUnavailable):
            # The exception is made here: the frames of another one would hold the token.
            raise found
        return found

    async def close(self) -> None:
        for _, host in self._steps:
            await host.close()

    async def _exchange(self, subject: SubjectToken) -> Exchanged | CredentialUnavailable:
        values = {**self._federation.parameters, "subject_token": subject.text}
        given: Exchanged | CredentialUnavailable = StoreAway("network: there is no endpoint.")
        for step, host in self._steps:
            now = self._wall_clock()
            answer = await _post(step, host, values)
            if isinstance(answer, StoreAway):
                return answer
            before = given
            given = outcome(answer, step, self._federation.exchange, host.host, now)
            if isinstance(given, CredentialUnavailable):
                return given
            if isinstance(before, Exchanged):
                given = Exchanged(given.text, min(given.life_s, before.life_s))
            values["access_token"] = given.text
        return given


async def _post(
    step: ExchangeStep, host: TokenHost, values: Mapping[str, str]
) -> HostAnswer | StoreAway:
    headers = {name: value.format_map(values) for name, value in step.headers}
    fields = {
        name: [one.format_map(values) for one in value]
        if isinstance(value, tuple)
        else value.format_map(values)
        for name, value in step.fields
    }
    fields = {name: value for name, value in fields.items() if value}
    if step.sent_as == "json":
        headers["Content-Type"] = "application/json"
        body = json.dumps(fields).encode()
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(fields).encode()
    try:
        return await host.post(body, headers)
    except StoreAway as error:
        return StoreAway(f"network: {error.why}")
