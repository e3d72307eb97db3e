"""Which path is meant. The bytes that will be sent are judged, and a path that two parsers could
read differently is refused."""

from __future__ import annotations

import re
from binascii import a2b_qp

from tollhouse.accounts.token import carries_token
from tollhouse.denial import Refused
from tollhouse.providers import CREDENTIAL_HEADERS

_ALLOWED = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")
_QUERY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/?\[\]|^`{}\"<>]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Encoded ``.``, ``/``, ``\`` and NUL. One parser may decode them into another path, and another
# parser may not.
_ENCODED_STRUCTURE = re.compile(r"%(?:2e|2f|5c|00)", re.IGNORECASE)
_ENCODED_SLASH = re.compile(r"%2f", re.IGNORECASE)
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?=/|\Z)")

CREDENTIAL_PARAMETERS = frozenset(
    {
        "key",
        "api-key",
        "api_key",
        "apikey",
        "access_token",
        "oauth_token",
        "authorization",
        "subscription-key",
        "token",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
        "bearer_token",
        "awsaccesskeyid",
        "signature",
        *CREDENTIAL_HEADERS,
    }
)
"""Query parameters in which providers take a credential (lower case), or in which a client may have written its header."""
PAYER_PARAMETERS = frozenset({"quotauser", "userproject"})
SHAPE_PARAMETERS = frozenset({"fields", "callback", "jsonp"})
"""Google's parameters that change an answer so that its usage can't be read; each of Google's is also taken with a ``$``
before it (https://cloud.google.com/apis/docs/system-parameters)."""
SIGNATURE_PARAMETERS = frozenset(
    {"x-amz-algorithm", "x-amz-date", "x-amz-expires", "x-amz-signedheaders"}
)
"""The rest of a presigned URL of AWS (its credential is among `CREDENTIAL_PARAMETERS`):
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html."""
HEAD_PARAMETERS = frozenset({"$httpheaders", "$httpmethod", "$ct", "$req"})
"""Google's parameters that stand for the request's own head: headers (any, so credentials and payers too), method, content
type and body. https://cloud.google.com/apis/docs/system-parameters; the first as browsers send it:
https://github.com/google/closure-library/blob/master/closure/goog/net/rpc/httpcors.js."""
_DROPPED_PARAMETERS = PAYER_PARAMETERS | SHAPE_PARAMETERS | SIGNATURE_PARAMETERS
_READABLE_ALT = frozenset({"sse", "json"})
MAX_QUERY_PIECES = 256
"""Each piece between ``&`` or ``;`` is decoded before it is known who asks."""


def split_target(raw: str, encoded: re.Pattern[str] | None = None) -> tuple[str, str]:
    """Path and query of an origin-form target, unchanged. Raises `Refused` (400) for a target that
    could be read in two ways. A path that ``encoded`` fits may hold an encoded ``/``
    (`Family.encoded`); with it as a plain one the path still has no empty or dot segment."""
    path, _, query = raw.partition("?")
    if not _ALLOWED.fullmatch(path):
        raise Refused("bad_request", "The path has a character that a URL may not have unescaped.")
    if _BAD_ESCAPE.search(raw):
        raise Refused("bad_request", "The URL has a broken percent-escape.")
    plain = path
    if encoded is not None and encoded.fullmatch(path):
        plain = _ENCODED_SLASH.sub("/", path)
    if "//" in plain or _DOT_SEGMENT.search(plain) or _ENCODED_STRUCTURE.search(plain):
        raise Refused(
            "bad_request", "The path has an empty or dot segment, or an encoded `/`, `\\` or `.`."
        )
    if not _QUERY.fullmatch(query):
        raise Refused("bad_request", "The query has a character that a URL may not have unescaped.")
    pieces = 1 + query.count("&") + query.count(";")
    if pieces > MAX_QUERY_PIECES:
        raise Refused(
            "bad_request", f"The query has {pieces} pieces, the limit is {MAX_QUERY_PIECES}."
        )
    if carries_token(decoded(path)):
        raise Refused(
            "bad_request", "The path carries a gate token, which must not reach the provider."
        )
    return path, query


def take_credentials(query: str) -> tuple[str, list[str]]:
    """The query as it will be sent, and the credentials that stood in it. Credential, signature,
    payer, shape and head parameters are taken out, and so is any parameter with a gate token. The
    others stay byte for byte, in order. Raises `Refused` (400) for a credential behind a ``;``,
    which some servers take for ``&``."""
    if not query:
        return "", []
    kept: list[str] = []
    taken: list[str] = []
    for part in query.split("&"):
        raw_name, equals, raw_value = part.partition("=")
        name, value = decoded(raw_name), decoded(raw_value)
        known = _known(name)
        plain = known.removeprefix("$")
        if plain in CREDENTIAL_PARAMETERS:
            taken.append(value)
            continue
        if ";" in part and any(_names_credential(piece) for piece in part.split(";")):
            raise Refused("bad_request", "The query has a credential behind a `;`.")
        if (
            plain in _DROPPED_PARAMETERS
            or known in HEAD_PARAMETERS
            or carries_token(name + equals + value)
        ):
            continue
        if plain == "alt" and value.lower() not in _READABLE_ALT:
            continue
        kept.append(part)
    return "&".join(kept), taken


def _names_credential(piece: str) -> bool:
    return _known(decoded(piece.partition("=")[0])).removeprefix("$") in CREDENTIAL_PARAMETERS


def _known(name: str) -> str:
    """A decoded name in the spelling of the lists above."""
    return name.strip().lower()


def decoded(text: str) -> str:
    """``text`` of a query with its percent-escapes undone and ``+`` as a space. Bytes that are not
    UTF-8 become U+FFFD.

    Quoted-printable is the same encoding with another sign, and its decoder is C:
    `urllib.parse.unquote_plus` takes 4 ms of the loop for the longest query.
    """
    raw = (
        text.encode("utf-8", "surrogateescape")
        .replace(b"=", b"=3D")
        .replace(b"%", b"=")
        .replace(b"+", b" ")
    )
    return a2b_qp(raw).decode("utf-8", "replace")
