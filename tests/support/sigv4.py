"""What AWS does with a signed request, written from its specification and not from anybody's signer: the canonical request
out of the bytes that arrived, and whether the signature is that of the secret key.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tollhouse.demo.standin_book import Received

Headers = Sequence[tuple[str, str]]

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([A-Za-z0-9]+)/([0-9]{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


def encoded(raw: bytes, keep: bytes = b"") -> str:
    """UriEncode of the specification, byte by byte."""
    return "".join(
        chr(byte) if byte in _UNRESERVED or byte in keep else f"%{byte:02X}" for byte in raw
    )


def decoded(raw: bytes) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), raw)


def canonical_path(path: bytes) -> str:
    """Of a service that is not S3: empty and dot segments resolved, then each byte that arrived encoded."""
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            kept = kept[:-1]
        elif segment not in (b"", b"."):
            kept.append(segment)
    whole = b"/" + b"/".join(kept)
    return encoded(whole + (b"/" if kept and path.endswith(b"/") else b""), keep=b"/")


def canonical_query(query: bytes) -> str:
    pairs = []
    for part in query.split(b"&") if query else []:
        name, _, value = part.partition(b"=")
        pairs.append((encoded(decoded(name)), encoded(decoded(value))))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical(
    method: str, target: bytes, headers: Headers, names: Sequence[str], payload: str
) -> str:
    path, _, query = target.partition(b"?")
    lines = []
    for name in names:
        values = [re.sub(" +", " ", value.strip()) for key, value in headers if key.lower() == name]
        lines.append(f"{name}:{','.join(values)}\n")
    return "\n".join(
        [
            method,
            canonical_path(path),
            canonical_query(query),
            "".join(lines),
            ";".join(names),
            payload,
        ]
    )


def signature(
    secret_key: str, date: str, region: str, service: str, time: str, canonical_request: str
) -> str:
    key = ("AWS4" + secret_key).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    hashed = hashlib.sha256(canonical_request.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{time}\n{date}/{region}/{service}/aws4_request\n{hashed}"
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def problem(
    method: str,
    target: bytes,
    headers: Headers,
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    session_token: str = "",
    region: str,
    service: str = "bedrock",
    now: datetime,
) -> str:
    """Why AWS would refuse this request; empty if it would not."""

    def one(name: str) -> str:
        values = [value for key, value in headers if key.lower() == name]
        return values[0] if len(values) == 1 else ""

    found = _AUTHORIZATION.fullmatch(one("authorization"))
    if found is None:
        return "IncompleteSignature"
    names = found[5].split(";")
    if names != sorted(set(names)) or "host" not in names:
        return "InvalidSignature: host is not signed, or the names are not in order"
    unsigned = {key.lower() for key, _ in headers if key.lower().startswith("x-amz-")} - set(names)
    if unsigned:
        return f"InvalidSignature: {sorted(unsigned)} not signed"
    if found[1] != access_key or one("x-amz-security-token") != session_token:
        return "UnrecognizedClient"
    time = one("x-amz-date")
    at = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if (found[2], found[3], found[4]) != (time[:8], region, service):
        return f"InvalidSignature: credential scope {found[2:5]}"
    if abs(now - at) > timedelta(minutes=5):
        return "InvalidSignature: signature expired"
    payload = hashlib.sha256(body).hexdigest()
    if one("x-amz-content-sha256") not in ("", payload):
        return "InvalidSignature: the body is another"
    wanted = signature(
        secret_key,
        found[2],
        region,
        service,
        time,
        canonical(method, target, headers, names, payload),
    )
    return "" if hmac.compare_digest(wanted, found[6]) else "InvalidSignature"


def problem_of(received: Received, keys: Mapping[str, str], region: str) -> str:
    """Why AWS would refuse what has just arrived at a stand-in; empty if it would not."""
    return problem(
        received.method,
        received.target.encode("latin-1"),
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in received.headers],
        received.body,
        access_key=keys["access_key_id"],
        secret_key=keys["secret_access_key"],
        session_token=keys.get("session_token", ""),
        region=region,
        now=datetime.now(UTC),
    )
