"""Which headers of a request are taken off before it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tollhouse.accounts.token import carries_token
from tollhouse.admit.subprotocols import HEADER, without_keys
from tollhouse.denial import Refused
from tollhouse.headers import AWS_SIGNATURE, HOP_BY_HOP, THIS_MESSAGE
from tollhouse.providers import BUILT_IN, CREDENTIAL_HEADERS, Provider

_HOP_BY_HOP = HOP_BY_HOP | THIS_MESSAGE | {"http2-settings", "via"}
# Headers that say who the client is, and headers by which a server takes another method, path or
# host.
_NEVER = frozenset(
    {
        "cookie",
        "cookie2",
        "forwarded",
        "x-real-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-client-ip",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-goog-quota-user",
        "x-goog-fieldmask",
        # Of the handshake with us. The one with the provider has its own.
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "sec-websocket-accept",
        *AWS_SIGNATURE,
        *CREDENTIAL_HEADERS,
    }
)
_WHO_PAYS = frozenset(name for provider in BUILT_IN for name in provider.who_pays)
_DROPPED = _HOP_BY_HOP | _NEVER | _WHO_PAYS
_NEVER_PREFIXES = ("proxy-", "x-forwarded-", "x-tollhouse-", "x-coreason-")
_ONCE = ("proxy-authorization", "content-type", *CREDENTIAL_HEADERS)


def strip(
    headers: Iterable[tuple[str, str]], provider: Provider, ours: frozenset[str]
) -> list[tuple[str, str]]:
    """The headers that may be sent to ``provider``. ``ours`` are the configured names of the project and trace headers.

    Raises `Refused` (400) for a credential or a content type that is given twice: nobody knows
    which one counts.
    """
    headers = list(headers)
    names = [key for key, _ in headers]
    if len(set(names)) < len(names):
        for name in _ONCE:
            if names.count(name) > 1:
                raise Refused("bad_request", f"The request has more than one {name} header.")
    named: set[str] = set()
    if "connection" in names:
        named.update(
            token.strip().lower()
            for key, value in headers
            if key == "connection"
            for token in value.split(",")
        )
    if HEADER in names:
        offered = ((key, without_keys(v) if key == HEADER else v) for key, v in headers)
        headers = [pair for pair in offered if pair[1] or pair[0] != HEADER]
    dropped = _dropped(provider.who_pays, ours)
    kept = [
        pair
        for pair in headers
        # Servers that pass headers on as variables (CGI) take ``_`` for ``-``.
        if (name := pair[0].replace("_", "-")) not in dropped
        and not name.startswith(_NEVER_PREFIXES)
    ]
    if named:
        kept = [pair for pair in kept if pair[0] not in named]
    # A tool may repeat the gate token in any header. Hardly any call has one: all values are searched at once.
    if carries_token("\n".join([value for _, value in kept])):
        kept = [pair for pair in kept if not carries_token(pair[1])]
    return kept


@lru_cache(maxsize=256)
def _dropped(who_pays: frozenset[str], ours: frozenset[str]) -> frozenset[str]:
    return _DROPPED | who_pays | ours
