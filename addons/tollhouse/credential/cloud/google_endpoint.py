"""One POST to Google's token endpoint, for google-auth, which signs what is posted. Blocks, in a thread.

google-auth would bring `requests`, whose session looks at proxies of the environment (perhaps ourselves), follows
redirects, and raises exceptions that hold the request with its assertion. `http.client` does none of that.
"""

from __future__ import annotations

import functools
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi

from tollhouse.credential.cloud.google import SCOPE, TOKEN_URI, Minted, account_of, as_minted, prepare
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret

_HOST: Final = str(urlsplit(TOKEN_URI).hostname)
_PATH: Final = urlsplit(TOKEN_URI).path
_MAX_ANSWER: Final = 65_536
_CLOCK_OFF_S: Final = 300.0

# RFC 6749 5.2 and what Google adds: https://developers.google.com/identity/protocols/oauth2/service-account#error-codes. No
# other text of the answer is repeated.
_CODES: Final = frozenset(
    {
        "access_denied",
        "admin_policy_enforced",
        "deleted_client",
        "disabled_client",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "org_internal",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)

Dial = Callable[[float], socket.socket]


def _dial(timeout_s: float) -> socket.socket:
    return socket.create_connection((_HOST, 443), timeout_s)


class _Failure(Exception):
    """Carries what is to be raised past google-auth's frames, which hold the assertion."""

    def __init__(self, error: CredentialUnavailable) -> None:
        super().__init__(type(error).__name__)
        self.error = error


@dataclass(frozen=True, slots=True)
class _Answer:
    """As google-auth wants it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    data: bytes = field(repr=False)


class TokenEndpoint:
    """``ca_file`` (PEM) stands for the public roots, ``dial`` for the way to the endpoint's port 443; TLS is verified for
    its name whatever is dialled. One minting takes at most ``bound_s`` from the connection on."""

    def __init__(self, *, ca_file: Path | None = None, dial: Dial = _dial, bound_s: float = 8.0) -> None:
        self._dial = dial
        self._bound_s = bound_s
        self._ca_file = ca_file

    def mint(self, account: Secret) -> Minted:
        """A token of ``account``. Raises `CredentialUnavailable`, `StoreAway` when nobody can tell; neither has anything
        of what was sent or received about it."""
        prepare()
        outcome = self._outcome(account)
        if isinstance(outcome, CredentialUnavailable):
            raise outcome
        return outcome

    def _outcome(self, account: Secret) -> Minted | CredentialUnavailable:
        info = account_of(account.reveal())
        if isinstance(info, str):
            return CredentialUnavailable(f"The service account can't be used: {info}.")
        from google.oauth2 import service_account

        answers: list[Minted] = []

        def post(
            url: str, method: str = "GET", body: bytes | None = None, headers: Any = None, *_: Any, **__: Any
        ) -> _Answer:
            if (url, method) != (TOKEN_URI, "POST"):
                raise _Failure(CredentialUnavailable("google-auth wants to ask something else than for a token."))
            answer = self._post(body or b"", headers or {})
            answers.append(_judged(answer))
            return answer

        try:
            make: Any = service_account.Credentials.from_service_account_info
            credentials = make(info, scopes=[SCOPE])
        except Exception as error:
            # The parser's own words may quote what it read.
            return CredentialUnavailable(f"The service account's private_key can't be used ({type(error).__name__}).")
        try:
            credentials.refresh(post)
        except _Failure as failure:
            return failure.error
        except Exception as error:
            return CredentialUnavailable(
                f"Minting an access token failed in the gateway itself ({type(error).__name__})."
            )
        return answers[-1]

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        # Not ssl.create_default_context: it reads SSL_CERT_FILE, and writes keys to SSLKEYLOGFILE if the environment says so.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cafile=str(self._ca_file or certifi.where()))
        return context

    def _post(self, body: bytes, headers: Mapping[str, str]) -> _Answer:
        """Raises `_Failure`."""
        try:
            raw = self._dial(self._bound_s)
        except OSError as error:
            raise _Failure(_unreachable(error)) from None
        raw.settimeout(self._bound_s)
        connection = http.client.HTTPConnection(_HOST, 443)
        connection.sock = line = self._tls.wrap_socket(raw, server_hostname=_HOST, do_handshake_on_connect=False)
        # A timeout is for each wait on the socket; this ends them all.
        deadline = threading.Timer(self._bound_s, _cut, (line,))
        deadline.daemon = True
        deadline.start()
        try:
            line.do_handshake()
            sent = {"Host": _HOST, "Connection": "close", **{key: str(value) for key, value in headers.items()}}
            connection.request("POST", _PATH, body, sent)
            response = connection.getresponse()
            data = response.read(_MAX_ANSWER + 1)
            if len(data) > _MAX_ANSWER:
                raise _Failure(StoreAway(f"What {_HOST} answers is too long for a token."))
            return _Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, data)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = _unreachable(error)
        finally:
            deadline.cancel()
            connection.close()
        raise _Failure(failure)


def _cut(line: ssl.SSLSocket) -> None:
    try:
        # Not its own method, which takes the TLS away under the thread that reads.
        socket.socket.shutdown(line, socket.SHUT_RDWR)
    except OSError:
        pass  # It is closed already.


def _judged(answer: _Answer) -> Minted:
    """Raises `_Failure` for every answer but a token."""
    try:
        document = json.loads(answer.data)
    except (ValueError, RecursionError):
        document = None
    if answer.status == 200:
        minted = as_minted(document)
        if minted is not None:
            return minted
        raise _Failure(StoreAway(f"What {_HOST} answers is no access token."))
    if 300 <= answer.status < 400:
        raise _Failure(
            StoreAway(f"{_HOST} answers with a redirect ({answer.status}); the assertion is sent nowhere else.")
        )
    code = document.get("error") if isinstance(document, dict) else None
    if answer.status not in (400, 401, 403) or not isinstance(code, str):
        raise _Failure(StoreAway(f"{_HOST} gives no token ({answer.status})."))
    shown = f"{answer.status}, {code}" if code in _CODES else str(answer.status)
    raise _Failure(CredentialUnavailable(f"Google refuses the service account ({shown}). {_hint(answer)}"))


def _hint(answer: _Answer) -> str:
    """What to look at. An assertion is good for an hour by Google's clock, RFC 7523 3."""
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
        off_s = (datetime.now(UTC) - theirs).total_seconds()
    except (ValueError, TypeError):
        off_s = 0.0
    if abs(off_s) > _CLOCK_OFF_S:
        return (
            f"The clock of this machine is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} Google's: set it."
        )
    return "Its key may be deleted or disabled, or be another account's."


def _unreachable(error: Exception) -> StoreAway:
    """Its own text is not used."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreAway(f"TLS with {_HOST} fails: its certificate can't be verified.")
    if isinstance(error, ssl.SSLError):
        return StoreAway(f"TLS with {_HOST} fails.")
    if isinstance(error, socket.gaierror):
        return StoreAway(f"The name {_HOST} can't be resolved.")
    if isinstance(error, TimeoutError):
        return StoreAway(f"{_HOST} does not answer in time.")
    if isinstance(error, http.client.HTTPException | ValueError):
        return StoreAway(f"What {_HOST} answers is no HTTP.")
    return StoreAway(f"{_HOST} can't be reached, or broke off ({type(error).__name__}).")
