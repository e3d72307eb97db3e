"""What the answer of a token endpoint means. Its text is not repeated: it may hold what was sent. Of an error, only a code that
the provider's entry names is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from tollhouse.credential.cloud.token_host import HostAnswer
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.providers import ExchangeStep, ExchangeTerms

LONGEST_S: Final = 86_400.0
_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
_SHORTEST_S: Final = 1.0
_MOST_WAIT_S: Final = 300.0
_NO_DATE: Final = (ValueError, TypeError, OverflowError, IndexError)
"""What `parsedate_to_datetime` raises for what is no date."""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """``text`` is the token, or the JSON of keys to sign with."""

    text: str = field(repr=False)
    life_s: float


class Busy(StoreAway):
    """The endpoint asks to be left alone for ``wait_s``."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


def outcome(
    answer: HostAnswer, step: ExchangeStep, exchange: ExchangeTerms, host: str, now: float
) -> Exchanged | CredentialUnavailable:
    """What ``answer`` gives, or why there is nothing. ``now`` is seconds since the epoch, when it was asked."""
    document = _document(answer.data)
    if answer.status == 200:
        return _given(answer, document, step, host, now)
    if 300 <= answer.status < 400:
        return StoreAway(
            f"network: {host} answers with a redirect ({answer.status}); the subject token is sent nowhere else."
        )
    codes = _codes(answer.data, document)
    known = next((one for one in exchange.refusals if one.code in codes), None)
    if answer.status == 429 or answer.status >= 500 or (known is not None and known.away):
        what = f" {known.why}" if known is not None and known.away else ""
        wait_s = _retry_after_s(answer.headers, now)
        return Busy(f"network: {host} can't give one now ({answer.status}).{what}", wait_s)
    if known is not None:
        clock = _clock_off(answer.headers, now)
        return CredentialUnavailable(
            f"{known.fault}: {host} refuses ({answer.status} {known.code}). {known.why}{clock}"
        )
    if answer.status in (400, 401, 403, 404):
        clock = _clock_off(answer.headers, now)
        return CredentialUnavailable(
            f"rule: {host} refuses ({answer.status}) and does not say why in words that are known.{clock}"
        )
    return StoreAway(f"network: {host} gives none ({answer.status}).")


def _document(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _given(
    answer: HostAnswer, document: Any, step: ExchangeStep, host: str, now: float
) -> Exchanged | CredentialUnavailable:
    if step.gives == "keys":
        found = _keys(answer.data)
        text, life_s = (None, None) if found is None else (found[0], _left(answer, found[1], now))
    elif not isinstance(document, dict):
        text, life_s = None, None
    elif step.gives == "camel":
        text, life_s = document.get("accessToken"), _left(answer, document.get("expireTime"), now)
    else:
        kind = document.get("token_type", "Bearer")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            return StoreAway(f"network: what {host} answers is no bearer token.")
        text, life_s = document.get("access_token"), _number(document.get("expires_in"))
    if not isinstance(text, str) or (step.gives != "keys" and not _TOKEN.fullmatch(text)):
        return StoreAway(f"network: what {host} answers is no credential.")
    if life_s is None:
        return StoreAway(f"network: {host} does not say how long the credential lives.")
    if life_s < _SHORTEST_S:
        return StoreAway(
            f"network: the credential that {host} gives has ended already, by its own date."
        )
    return Exchanged(text, min(life_s, LONGEST_S))


def _number(value: object) -> float | None:
    # Some endpoints write the number as a string, by RFC 6749's older drafts; that is refused: it is none of those here.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _left(answer: HostAnswer, ends: object, now: float) -> float | None:
    """Seconds until ``ends`` (RFC 3339). The clock of the endpoint counts, where it shows it: ours may be wrong."""
    if not isinstance(ends, str) or len(ends) > 64:
        return None
    try:
        moment = datetime.fromisoformat(ends)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    theirs = _date(answer.headers)
    return moment.timestamp() - (now if theirs is None else theirs)


def _date(headers: Mapping[str, str]) -> float | None:
    try:
        found = parsedate_to_datetime(headers.get("date", ""))
    except _NO_DATE:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _clock_off(headers: Mapping[str, str], now: float) -> str:
    theirs = _date(headers)
    off_s = 0.0 if theirs is None else now - theirs
    if abs(off_s) < 60:
        return ""
    return f" The clock of this machine is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the endpoint's: set it."


def _retry_after_s(headers: Mapping[str, str], now: float) -> float:
    asked = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,6}", asked):
        return min(float(asked), _MOST_WAIT_S)
    try:
        moment = parsedate_to_datetime(asked).timestamp()
    except _NO_DATE:
        return 0.0
    return min(max(moment - now, 0.0), _MOST_WAIT_S)


_FIELDS: Final = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


def _keys(data: bytes) -> tuple[str, str] | None:
    """Keys in the form of the store's secrets, and when they end. The XML is not parsed: these four elements hold no markup, and
    a parser of XML would take entities."""
    text = data.decode("utf-8", "replace")
    found = [re.findall(rf"<{name}>([!-%'-;=?-~]{{1,8192}})</{name}>", text) for name in _FIELDS]
    if any(len(one) != 1 for one in found):
        return None
    access_key, secret_key, token, ends = (one[0] for one in found)
    if not access_key.isalnum():
        return None
    keys = {
        "access_key_id": access_key,
        "secret_access_key": secret_key,
        "session_token": token,
    }
    return json.dumps(keys, separators=(",", ":"), sort_keys=True), ends


def _codes(data: bytes, document: Any) -> list[str]:
    """The codes that the error names, in any of the forms that endpoints have."""
    if not isinstance(document, dict):
        return re.findall(r"<Code>([A-Za-z]{1,64})</Code>", data.decode("ascii", "replace"))[:4]
    error = document.get("error")
    numbers = document.get("error_codes")
    codes = [str(one) for one in numbers[:8]] if isinstance(numbers, list) else []
    if isinstance(error, dict):
        codes += [one for one in (error.get("type"), error.get("status")) if isinstance(one, str)]
    elif isinstance(error, str):
        codes.append(error)
    return codes
