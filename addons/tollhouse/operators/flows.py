"""A call as mitmproxy's `HTTPFlow`, and what addons have changed in it. No credential is on a flow: it is made of what is
left when the workload's are stripped, and the provider's key is put on by dispatch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState, Server

from tollhouse.admit.gate import opened
from tollhouse.admit.path import split_target, take_credentials
from tollhouse.admit.strip import strip
from tollhouse.call import Admitted
from tollhouse.denial import Refused
from tollhouse.headers import HOP_BY_HOP
from tollhouse.listen.mitm.message import ReceivedRequest, SentResponse

_VERSIONS: Final = {"1.0": b"HTTP/1.0", "1.1": b"HTTP/1.1", "2": b"HTTP/2.0"}
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_UNSAFE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_SENT: Final = HOP_BY_HOP | {"content-length", "alt-svc", "set-cookie", "set-cookie2"}
BODILESS: Final = (204, 304)
"""Statuses whose answers have no body (RFC 9110 15.3.5, 15.4.5)."""


def new_flow(admitted: Admitted) -> http.HTTPFlow:
    """A live flow, whose request has no body yet. ``metadata`` says whose call it is."""
    head, provider = admitted.arrival.head, admitted.provider
    client = Client(
        peername=(head.client_ip, 0),
        sockname=("", 0),
        state=ConnectionState.OPEN,
        tls=head.scheme == "https",
        sni=head.sni,
        alpn=b"h2" if head.http_version == "2" else b"http/1.1",
    )
    server = Server(
        address=(admitted.host, provider.port),
        tls=not provider.unsafe_plaintext,
        sni=admitted.host,
    )
    flow = http.HTTPFlow(client, server, live=True)
    flow.request = _request(admitted)
    flow.metadata.update(
        {
            "tollhouse.call_id": admitted.id,
            "tollhouse.tenant": admitted.project.tenant,
            "tollhouse.project": admitted.project.id,
            "tollhouse.identity": admitted.identity.token_id,
            "tollhouse.provider": provider.name,
            "tollhouse.operation": admitted.operation.kind,
        }
    )
    return flow


def _request(admitted: Admitted) -> http.Request:
    head, provider = admitted.arrival.head, admitted.provider
    default = 80 if provider.unsafe_plaintext else 443
    authority = admitted.host if provider.port == default else f"{admitted.host}:{provider.port}"
    fields = [(b"host", authority.encode())] if head.http_version != "2" else []
    fields += [(_bytes(k), _bytes(v)) for k, v in admitted.headers if k != "content-encoding"]
    if (length := head.get("content-length")) is not None:
        fields.append((b"content-length", _bytes(length)))
    request = ReceivedRequest(
        head.method.encode(),
        b"http" if provider.unsafe_plaintext else b"https",
        authority.encode() if head.http_version == "2" else b"",
        _bytes(_target(admitted)),
        _VERSIONS[head.http_version],
        http.Headers(fields),
    )
    request.data.host, request.data.port = admitted.host, provider.port
    return request


def _target(admitted: Admitted) -> str:
    return f"{admitted.path}?{admitted.query}" if admitted.query else admitted.path


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class SentAs:
    """What a flow's request was made of, to see what addons have changed."""

    def __init__(self, flow: http.HTTPFlow) -> None:
        self._place = _place(flow.request)
        self._method = flow.request.data.method
        self._path = flow.request.data.path

    def judged(
        self,
        admitted: Admitted,
        flow: http.HTTPFlow,
        ours: frozenset[str],
        *,
        plain: bytes,
        came: bytes,
        coding: str,
    ) -> Admitted:
        """``admitted`` with the request as it is on the flow, judged by the rules of the gates before. ``plain`` is the body
        that the addons were given, ``came`` the same in its ``coding``. Raises `Refused`."""
        request = flow.request
        if not isinstance(request, http.Request):
            raise failed("replaced the request by something else")
        if _place(request) != self._place:
            raise failed(
                "changed the request's scheme, host or port, which stay as they were judged"
            )
        if request.data.method != self._method:
            raise failed("changed the request's method, which stays as it was judged")
        headers = strip(checked(request.headers), admitted.provider, ours)
        body = request.raw_content if request.raw_content is not None else b""
        if not isinstance(body, bytes):
            raise failed("set the request's body to something that is no bytes")
        if coding and body == plain and all(name != "content-encoding" for name, _ in headers):
            body = came
            headers.append(("content-encoding", coding))
        changed = admitted._replace(headers=tuple(headers), body=body)
        return changed if request.data.path == self._path else _aimed(changed, request.path)


def _aimed(admitted: Admitted, target: str) -> Admitted:
    """Another path or query: judged as `admit.gate.Aim` and `Open` judge those of a client."""
    if not target.startswith("/"):
        raise failed("set a path that does not begin with /")
    path, query = split_target(target, admitted.provider.family.encoded)
    query, _ = take_credentials(query)
    method = admitted.arrival.head.method
    operation, objects = opened(
        admitted.provider,
        method,
        path,
        query,
        admitted.host,
        socket=admitted.arrival.head.asks_for_websocket,
    )
    return admitted._replace(path=path, query=query, operation=operation, objects=objects)


def _place(request: http.Request) -> tuple[object, ...]:
    data = request.data
    hosts = tuple(v for k, v in request.headers.fields if k.lower() in (b"host", b":authority"))
    return data.scheme, data.host, data.port, data.authority, hosts


def refuse_odd_charset(message: http.Message, whose: str) -> None:
    """mitmproxy decodes a text by its charset, and takes content codings for charsets as well: ``charset=gzip`` would be
    inflated without a bound. Raises `Refused`."""
    for part in message.headers.get("content-type", "").split(";")[1:]:
        name, _, value = part.partition("=")
        charset = value.strip().strip("\"'")
        if name.strip().lower() != "charset" or not charset:
            continue
        try:
            # Other codecs of Python than those of texts raise LookupError.
            "".encode(charset)
            known = charset.lower() not in ("idna", "punycode")
        except (LookupError, ValueError):
            known = False
        if not known:
            code = "bad_request" if whose == "request" else "upstream_bad_answer"
            raise Refused(code, f"The {whose}'s charset is {charset[:40]!a}, which is none.")


def new_response(status: int, headers: Sequence[tuple[str, str]]) -> http.Response:
    fields = [(_bytes(k), _bytes(v)) for k, v in headers]
    return SentResponse(b"HTTP/1.1", status, b"", http.Headers(fields))


def sent_head(flow: http.HTTPFlow) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of the flow's response, without those of a connection and the length. Raises `Refused`."""
    response = flow.response
    if not isinstance(response, http.Response):
        raise failed("took the response away")
    status = response.data.status_code
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise failed(f"set the status {str(status)[:20]!a}, which is no answer's")
    headers = checked(response.headers)
    sent = [(k, v) for k, v in headers if k not in _NOT_SENT and not k.startswith("x-tollhouse-")]
    return status, sent


def sent_switch(flow: http.HTTPFlow) -> list[tuple[str, str]]:
    """The headers that the answer to a handshake has beside those of the handshake itself. Raises `Refused`."""
    response = flow.response
    if not isinstance(response, http.Response) or response.data.status_code != 101:
        raise failed("changed the status of the answer to a handshake, which stays 101")
    return [
        (k, v)
        for k, v in checked(response.headers)
        if k not in _NOT_SENT and not k.startswith(("x-tollhouse-", "sec-websocket-"))
    ]


def sent_body(flow: http.HTTPFlow) -> bytes:
    """The response's body. Raises `Refused`."""
    assert flow.response is not None
    body = flow.response.raw_content
    if body is not None and not isinstance(body, bytes):
        raise failed("set the response's body to something that is no bytes")
    return body or b""


def checked(headers: http.Headers) -> list[tuple[str, str]]:
    """The fields, names in lower case. Raises `Refused` for what would be another message on the wire."""
    found = []
    for name, value in headers.fields:
        value = value.strip(b" \t")
        if not _NAME.fullmatch(name) or _UNSAFE.search(value):
            raise failed(
                "set a header with a malformed name, or with control characters in its value"
            )
        found.append((name.decode().lower(), value.decode("utf-8", "surrogateescape")))
    return found


def failed(what: str) -> Refused:
    """An addon did ``what``, which can't be."""
    return Refused("addon_failed", f"An addon {what}.", gate="addons")
