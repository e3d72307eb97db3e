"""AWS Signature Version 4 with botocore's signer, over the bytes that go out.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. AWS
computes the same signature from the request that it receives. It takes the path as it stands there,
with each of its bytes percent-encoded once more (a ``%`` too), and the query's names and values,
decoded and encoded anew. So whatever spelling of a path goes out, the signature is made of that
spelling.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote

from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.secret import Secret
from tollhouse.headers import AWS_SIGNATURE

SIGNING_HEADERS: Final = AWS_SIGNATURE | {"authorization"}
"""The headers of a signature, in lower case. Only `sign` makes them."""
CLOCK_OFF_S: Final = 240.0
"""A clock that is off by more is said to be wrong. AWS refuses a signature whose time is 5 minutes
from its own."""

# https://docs.aws.amazon.com/general/latest/gr/bedrock.html and .../bedrock/latest/userguide/vpc-interface-endpoints.html
_HOST: Final = re.compile(
    r"(?:vpce-[a-z0-9-]+\.)?(bedrock(?:-[a-z]+)*)\.([a-z]{2,}(?:-[a-z]+)+-[0-9]+)(?:\.vpce)?"
    r"\.(?:amazonaws\.com(?:\.cn)?|api\.aws)(?::[0-9]+)?"
)
_SENDABLE: Final = re.compile(r'/[!"$-~]*')
# No two spaces in a row: AWS joins them into one, but not between quotes, as some of its documents
# say.
_VALUE: Final = re.compile(r"(?!.*  )[ -~]*")
_TOKEN: Final = re.compile(r"[!-~]+")
_SKEWED: Final = (
    "InvalidSignature",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
)


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """AwsKeys in the form that botocore's signer takes. The repr of botocore's own class would show
    them."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)


def scope(host: str) -> tuple[str, str] | None:
    """Region and signing name of an AWS host, with or without a port. None for a host whose name
    does not say them.

    ``bedrock`` signs for all of Bedrock but ``bedrock-mantle.REGION.api.aws``, which is a service of its own (openai-python
    `_bedrock_auth.py`, anthropic-python `bedrock/_mantle.py`).
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return None
    return found[2], "bedrock-mantle" if found[1] == "bedrock-mantle" else "bedrock"


def keys_of(text: str) -> AwsKeys | None:
    """The keys in a secret's text, which is a JSON object of ``access_key_id``, ``secret_access_key`` and, for temporary
    ones, ``session_token``; None for anything else. For `Secret.derived`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    values = [
        found.get("access_key_id"),
        found.get("secret_access_key"),
        found.get("session_token") or None,
    ]
    if not all(
        isinstance(value, str) and _TOKEN.fullmatch(value) for value in values if value is not None
    ):
        return None
    access_key, secret_key, token = values
    # A ``/`` or ``,`` in the id would end its field of the header.
    if access_key is None or secret_key is None or not access_key.isalnum():
        return None
    return AwsKeys(access_key, secret_key, token)


def prepare() -> None:
    """Loads botocore, which takes 0.2 s and more. The thread that reads the key calls it, so that
    no call waits for it.

    Raises `CredentialUnavailable` when it is not installed.
    """
    try:
        import botocore.auth  # type: ignore[import-untyped]
        import botocore.awsrequest  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        missing = True
    else:
        missing = False
    if missing:
        raise CredentialUnavailable(
            "An AWS key needs botocore to sign with, which is not installed: `pip install 'tollhouse[bedrock]'`."
        )


class Unsignable(Exception):
    """A request that AWS might read in another way than it is signed. ``why`` is a sentence for the
    workload."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def sign(
    secret: Secret,
    *,
    region: str,
    service: str,
    method: str,
    host: str,
    path_and_query: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    now: datetime,
) -> list[tuple[str, str]]:
    """The headers to add: ``authorization``, ``x-amz-date``, ``x-amz-content-sha256`` and, with a session token,
    ``x-amz-security-token``.

    Only ``host``, ``content-type`` and ``x-amz-*`` are signed: no hop on the way to AWS has a
    reason to change them. ``host`` is the value of the Host header. ``now`` has a time zone. Raises
    `CredentialUnavailable` without botocore and for a secret without AWS keys. Raises `Unsignable`
    before anything secret is looked at.
    """
    path, query = _target(path_and_query)
    signed = [("host", host), *_to_sign(headers)]
    prepare()
    keys = secret.derived(keys_of)
    if keys is None:
        raise CredentialUnavailable(
            "The secret holds no AWS keys: access_key_id, secret_access_key."
        )
    added = [
        ("x-amz-date", now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")),
        ("x-amz-content-sha256", hashlib.sha256(body).hexdigest()),
    ]
    if keys.token is not None:
        added.append(("x-amz-security-token", keys.token))
    try:
        authorization = _authorization(
            keys, region, service, method, f"https://{host}{path}", query, signed + added
        )
    except Exception as error:
        # The exception is dropped: its frames hold the key.
        problem = type(error).__name__
    else:
        return [("authorization", authorization), *added]
    raise CredentialUnavailable(f"Signing failed in the gateway itself ({problem}).")


def clock_off_s(error: str, date: str | None, now: datetime) -> float | None:
    """By how many seconds our clock is ahead of AWS's, if AWS may have refused the signature
    because of that. Else None.

    ``error`` is the answer's ``x-amzn-errortype``, ``date`` its Date header.
    """
    if not error.startswith(_SKEWED) or date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    off_s = (now - theirs).total_seconds()
    return off_s if abs(off_s) > CLOCK_OFF_S else None


def _target(path_and_query: str) -> tuple[str, list[tuple[str, str]]]:
    """The path as it is, and the decoded names and values of the query."""
    path, _, query = path_and_query.partition("?")
    if not _SENDABLE.fullmatch(path_and_query):
        raise Unsignable("The URL has a character that can't be signed for AWS; percent-encode it.")
    if "+" in query:
        raise Unsignable("What a `+` in a query means is for AWS to guess; write %20 or %2B.")
    if ";" in query:
        raise Unsignable("What a `;` in a query means is for AWS to guess; write & or %3B.")
    parts = [part.partition("=") for part in query.split("&")] if query else []
    if not all(name for name, _, _ in parts):
        raise Unsignable("The query has a parameter without a name, which AWS may count or not.")
    try:
        return path, [
            (unquote(name, errors="strict"), unquote(value, errors="strict"))
            for name, _, value in parts
        ]
    except UnicodeDecodeError:
        raise Unsignable(
            "The query has a percent-escape that is not UTF-8, which AWS does not take."
        ) from None


def _to_sign(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    chosen = []
    for key, value in headers:
        name = key.lower()
        if name in SIGNING_HEADERS:
            raise Unsignable(f"The request has a header {name} of its own.")
        if name == "content-type" or name.startswith("x-amz-"):
            if not _VALUE.fullmatch(value):
                raise Unsignable(
                    f"The header {name} has a character that is not printable ASCII, or spaces in a row."
                )
            chosen.append((name, value))
    return chosen


def _authorization(
    keys: AwsKeys,
    region: str,
    service: str,
    method: str,
    url: str,
    query: list[tuple[str, str]],
    signed: list[tuple[str, str]],
) -> str:
    """Does what botocore's ``add_auth`` does, step by step. ``add_auth`` takes the machine's time,
    and writes the session token to the log at level debug."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request: Any = AWSRequest(method, url, params=query)
    for name, value in signed:
        # Each assignment adds a header.
        request.headers[name] = value
    request.context["timestamp"] = request.headers["x-amz-date"]
    signer: Any = SigV4Auth(keys, service, region)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    names = signer.signed_headers(signer.headers_to_sign(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
        f"SignedHeaders={names}, Signature={signer.signature(to_sign, request)}"
    )
