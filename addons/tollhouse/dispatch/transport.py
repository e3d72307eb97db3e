"""An answer of aiohttp's parser under our rules, and the meaning of aiohttp's exceptions."""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from tollhouse.codings import KNOWN
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.http_client import RoundTrip
from tollhouse.dispatch.inflating import NOT_OF_PLAIN, Inflating
from tollhouse.dispatch.proxy import ProxyFailed
from tollhouse.dispatch.resolve import AddressRefused
from tollhouse.headers import HOP_BY_HOP

_MAX_ANSWER_HEADERS: Final = 65_536
"""Characters of an answer's header names and values."""

_TOO_OLD: Final = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"})
"""OpenSSL's words for a server that knows no version of ours: told by its alert, or by its hello."""
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def as_answer(round_trip: RoundTrip, where: str) -> Answer:
    """The answer. Raises UpstreamError("upstream_bad_answer") for one that can't be passed on, and
    closes its connection."""
    given = round_trip.headers
    text = "".join(chain.from_iterable(given.items()))
    problem = ""
    coding = ",".join(given.getall("content-encoding", ())).strip().lower()
    if coding == "identity":
        coding = ""
    if not 200 <= round_trip.status <= 599:
        problem = f"It answered {round_trip.status}, which was not asked for."
    elif len(text) > _MAX_ANSWER_HEADERS:
        problem = f"The headers of its answer are larger than {_MAX_ANSWER_HEADERS} characters."
    elif not text.isprintable() and _FORBIDDEN.search(text):
        problem = "The headers of its answer contain control characters."
    elif coding and coding not in KNOWN:
        problem = "Its answer has a content coding that was not asked for and is not known."
    if problem:
        round_trip.close()
        raise UpstreamError("upstream_bad_answer", f"{where}: {problem}", "maybe")
    headers = [
        (name, value) for key, value in given.items() if (name := key.lower()) not in HOP_BY_HOP
    ]
    headers = without_named(headers, ",".join(given.getall("connection", ())))
    read = _BodyReader(round_trip, where).read
    if coding:
        headers = [pair for pair in headers if pair[0] not in NOT_OF_PLAIN]
        read = Inflating(read, coding, where).read
    return Answer(round_trip.status, headers, read, round_trip.close)


def without_named(headers: list[tuple[str, str]], connection: str) -> list[tuple[str, str]]:
    """``headers`` without those that ``Connection`` names. These are hop-by-hop as well: RFC 9110
    7.6.1."""
    if not connection:
        return headers
    named = {token.strip().lower() for token in connection.split(",")} - {"", "keep-alive", "close"}
    return [pair for pair in headers if pair[0].lower() not in named] if named else headers


class _BodyReader:
    __slots__ = ("_round_trip", "_where")

    def __init__(self, round_trip: RoundTrip, where: str) -> None:
        self._round_trip = round_trip
        self._where = where

    async def read(self) -> bytes:
        try:
            return await self._round_trip.content.readany()
        except TimeoutError:
            cut = AnswerCut(
                "upstream_timeout", f"{self._where} fell silent in the middle of its answer."
            )
        except (aiohttp.ClientError, OSError, RuntimeError, HttpProcessingError):
            cut = AnswerCut("upstream_bad_answer", f"{self._where} broke off its answer.")
        # When the connection breaks, aiohttp throws away the bytes that were not read yet. The
        # count of tokens may be among them.
        if left := self._round_trip.take_left():
            return left
        self._round_trip.close()
        raise cut


def translated(error: Exception, where: str) -> UpstreamError:
    """aiohttp's exception as one of ours. The order of the cases matters: aiohttp's classes inherit
    from each other and from OSError."""
    match error:
        case ProxyFailed():
            return UpstreamError(error.code, error.why, "no")
        case AddressRefused():
            return UpstreamError("upstream_address_refused", error.why, "no")
        case aiohttp.ConnectionTimeoutError():
            return UpstreamError("upstream_timeout", f"No connection with {where} in time.", "no")
        case aiohttp.ClientConnectorCertificateError():
            detail = (
                getattr(error.certificate_error, "verify_message", "")
                or "certificate not valid for this host"
            )
            return UpstreamError("upstream_tls", f"{where}: {detail}.", "no")
        case aiohttp.ClientConnectorSSLError():
            detail = getattr(error.os_error, "reason", None) or "handshake failed"
            if detail in _TOO_OLD:
                detail = f"it offers no TLS 1.2 or newer, and nothing older is spoken ({detail})"
            return UpstreamError("upstream_tls", f"{where}: {detail}.", "no")
        case aiohttp.ClientConnectorDNSError():
            return UpstreamError(
                "upstream_unreachable", f"The name of {where} could not be resolved.", "no"
            )
        case aiohttp.ClientConnectorError():
            detail = error.os_error.strerror or type(error.os_error).__name__
            return UpstreamError("upstream_unreachable", f"{where}: {detail}.", "no")
        case aiohttp.ClientPayloadError():
            return UpstreamError(
                "upstream_bad_answer", f"{where} sent what is no HTTP answer.", "maybe"
            )
        case TimeoutError():
            return UpstreamError("upstream_timeout", f"{where} sent no answer in time.", "maybe")
        case _:
            return UpstreamError(
                "upstream_unreachable",
                f"{where} closed the connection before it answered.",
                "maybe",
            )
