"""Tries each way out of the place that it runs in, and the right ways, and says where the two are not as they should be.

Made by `tollhouse doctor --print-probe`. It needs Python 3.8 or newer and nothing else:

    tollhouse doctor --print-probe | kubectl exec -i POD -- python3 -
    tollhouse doctor --print-probe | kubectl exec -i POD -- python3 - --json

Each row sends one packet or opens one connection. Exit 0: all is as it should be; 1: it is not; 2: wrong use. The token is that
of the place: a gate token or a JWT in TOLLHOUSE_TOKEN or as the password in HTTPS_PROXY, or a gate token in a credential
variable. It is sent to Tollhouse's proxy and, where the network leads TCP 443 to Tollhouse, to a server that shows Tollhouse's
certificate.

Past 400 lines because the place that it is sent to gets one file, and has nothing but Python.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

PLAN: dict[str, Any] = {}
"""`tollhouse doctor` writes it here (doctor/plan.py)."""

CLOSED = "refused or no answer"
AT_ONCE = "refused at once"
LED = "led to Tollhouse, or " + CLOSED
SILENT = "no answer"
"""Of what a policy drops without a word, whatever it does with TCP and UDP."""
_TOKEN = re.compile(r"gate_[A-Za-z0-9_-]+")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NO_PROXY = "HTTPS_PROXY is not set here; set it, or make the probe with --gateway"
_MISSING = "there is no token here; set TOLLHOUSE_TOKEN"
_WRONG = "gate_" + "0" * 43
_MOST = 65536


class Tried(NamedTuple):
    name: str
    tried: str
    should: str
    happened: str
    ok: bool | None
    """None: it could not be tried."""


class Said(NamedTuple):
    status: int
    reason: str
    ours: bool
    """It has an id of Tollhouse's."""


class Failed(Exception):
    """The text is what happened."""


class Untried(Exception):
    """The text is why the way could not be tried."""


def words(error: BaseException) -> str:
    if isinstance(error, socket.timeout):
        return "no answer in %g s" % PLAN["timeout_s"]
    if isinstance(error, ssl.SSLCertVerificationError):
        return "TLS with a certificate that is not Tollhouse's"
    if isinstance(error, ssl.SSLError):
        return "TLS refused (%s)" % (error.reason or "no reason")
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0) or str(error) or type(error).__name__
    return str(error) or type(error).__name__


def dialled(host: str, port: int) -> socket.socket:
    """One connection, to the first address of a name."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[
            0
        ]
    except socket.gaierror:
        raise Failed("the name has no address here")
    made = socket.socket(family, kind, protocol)
    made.settimeout(PLAN["timeout_s"])
    try:
        made.connect(place)
    except BaseException:
        made.close()
        raise
    return made


def ours() -> ssl.SSLContext | None:
    """Trusts Tollhouse's CA and no other."""
    if not PLAN["ca"]:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=PLAN["ca"])
    return context


def anybodys() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < _MOST:
        more = connection.recv(4096)
        if not more:
            break
        data += more
    return data


def answer_of(head: bytes) -> Said:
    lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    try:
        status = int(lines[0].split(" ")[1])
    except (IndexError, ValueError):
        raise Failed("closed without an answer" if not head else "an answer that is no HTTP")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    return Said(status, headers.get("x-tollhouse-reason", ""), "x-tollhouse-call-id" in headers)


def asked(connection: socket.socket, token: str) -> Said:
    request = "GET %s HTTP/1.1\r\nhost: %s\r\naccept: */*\r\nconnection: close\r\n" % (
        PLAN["path"],
        PLAN["provider"],
    )
    if token:
        request += "%s: %s%s\r\n" % (PLAN["header"], PLAN["prefix"], token)
    connection.sendall((request + "\r\n").encode())
    return answer_of(read_head(connection))


# Ways out.


def tcp(host: str, port: int) -> tuple[str, bool]:
    """A connection that opens is a way out."""
    with dialled(host, port):
        return "connected", False


def direct(host: str) -> tuple[str, bool]:
    """TLS by a provider's name. Where TCP 443 is led to Tollhouse, Tollhouse's own certificate is what comes."""
    with dialled(host, PLAN["provider_port"]) as made:
        context = ours()
        if context is None:
            with anybodys().wrap_socket(made, server_hostname=PLAN["provider"]):
                return "TLS with somebody (this probe does not know Tollhouse's CA)", False
        try:
            with context.wrap_socket(made, server_hostname=PLAN["provider"]):
                return "led to Tollhouse", True
        except ssl.SSLCertVerificationError as error:
            return words(error), False


def handshake(host: str, name: str | None) -> tuple[str, bool]:
    """TLS by somebody else's name, or by none: nobody may answer it."""
    with dialled(host, 443) as made, anybodys().wrap_socket(made, server_hostname=name):
        return "TLS with somebody", False


def ping(host: str) -> tuple[str, bool]:
    """An ICMP echo, which can carry data out as well. Linux sends it for users of net.ipv4.ping_group_range alone."""
    six = ":" in host
    family, protocol = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    )
    try:
        made = socket.socket(family, socket.SOCK_DGRAM, protocol)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            raise
        raise Untried("this user may send no ICMP echo (%s)" % words(error))
    with made:
        made.settimeout(PLAN["timeout_s"])
        made.connect((host, 0))
        # The checksum of IPv6, which has the addresses in it, is made by the kernel.
        made.send(b"\x80\0\0\0\0\0\0\1" if six else b"\x08\0\xf7\xfe\0\0\0\1")
        made.recv(4096)
    return "answered", False


def gateways_dns(host: str) -> tuple[str, bool]:
    """A name server on the gateway's host that asks the world is a way out in names, and its UDP port says what else is open."""
    try:
        address = socket.getaddrinfo(host, 53, type=socket.SOCK_DGRAM)[0][4][0]
    except socket.gaierror:
        raise Failed("the name has no address here")
    if address == name_server():
        raise Untried("it is this place's own name server: see dns-txt")
    return dns(str(address))


def datagram(host: str, port: int, data: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.settimeout(PLAN["timeout_s"])
        made.connect((host, port))
        made.send(data)
        return made.recv(4096)


def quic(host: str) -> tuple[str, bool]:
    """RFC 9000, 6: a server that does not know the version of a long packet says which it knows."""
    packet = b"\xc0\x1a\x2a\x3a\x4a\x08" + b"tollhous\x08" + b"probe..." + b"\0" * 1200
    datagram(host, 443, packet[:1200])
    return "answered", False


def question(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return (
        struct.pack("!6H", 0x7011, 0x0100, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack("!2H", kind, 1)
    )


def dns(host: str) -> tuple[str, bool]:
    datagram(host, 53, question(PLAN["provider"], 1))
    return "answered", False


def resolv_conf() -> str:
    try:
        with open("/etc/resolv.conf") as file:
            return file.read()
    except OSError:
        return ""


def name_server() -> str:
    """The first one of the place, "" if there is none."""
    found = re.search(r"(?m)^\s*nameserver\s+([0-9a-fA-F.:]+)", resolv_conf())
    return found.group(1) if found else ""


def txt() -> tuple[str, bool]:
    """The place's own name server: does it ask the world? A name that exists: NXDOMAIN is a rule of the server's own."""
    server = name_server()
    if not server:
        return "there is no name server", True
    reply = datagram(server, 53, question(PLAN["outside"], 16))
    code = reply[3] & 15 if len(reply) > 3 else 15
    if code == 0:
        return "answered by %s" % server, False
    return "refused by %s (RCODE %d)" % (server, code), True


def right_name(server: str) -> tuple[str, bool]:
    """Without a proxy a program looks for the provider's address itself."""
    reply = datagram(server, 53, question(PLAN["provider"], 1))
    if len(reply) < 12 or not reply[2] & 0x80:
        return "%s gave what is no answer" % server, False
    code, records = reply[3] & 15, struct.unpack_from("!H", reply, 6)[0]
    if code == 0 and records:
        return "answered by %s" % server, True
    return "no address from %s (RCODE %d)" % (server, code), False


# Ways through the proxy.


def tunnel(target: str, token: str) -> tuple[socket.socket, bytes]:
    proxy = urlsplit(PLAN["proxy"])
    if not proxy.hostname:
        raise Failed("the proxy has no host")
    made = dialled(proxy.hostname, proxy.port or 8080)
    if proxy.scheme == "https":
        context = ours() or anybodys()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        made = context.wrap_socket(made, server_hostname=proxy.hostname)
    head = "CONNECT %s HTTP/1.1\r\nhost: %s\r\n" % (target, target)
    if token and PLAN["proxy_auth"]:
        head += "proxy-authorization: Bearer %s\r\n" % token
    made.sendall((head + "\r\n").encode())
    return made, read_head(made)


def through(token: str) -> Said:
    made, head = tunnel("%s:%d" % (PLAN["provider"], PLAN["provider_port"]), token)
    with made:
        opened = answer_of(head)
        if opened.status != 200:
            return opened
        context = ours() or anybodys()
        with context.wrap_socket(made, server_hostname=PLAN["provider"]) as inside:
            return asked(inside, token)


def refusal(token: str, reason: str) -> tuple[str, bool]:
    answer = through(token)
    happened = "%d %s" % (answer.status, answer.reason or "without a reason")
    return happened, answer.reason == reason and answer.status in (401, 403, 407)


def other_host() -> tuple[str, bool]:
    made, head = tunnel("%s:443" % PLAN["outside"], "")
    with made:
        answer = answer_of(head)
    return "%d %s" % (answer.status, answer.reason), answer.reason == "host_not_allowed"


def passed(answer: Said) -> tuple[str, bool]:
    """What matters is that the gateway let it through; a provider without that path may say so."""
    if answer.reason:
        return "%d %s" % (answer.status, answer.reason), False
    if not answer.ours:
        return "%d, and not from Tollhouse" % answer.status, False
    return "%d" % answer.status, answer.status < 400


def right_proxy(token: str) -> tuple[str, bool]:
    return passed(through(token))


def right_transparent(host: str, token: str) -> tuple[str, bool]:
    context = ours()
    assert context is not None
    with dialled(host, PLAN["provider_port"]) as made:
        with context.wrap_socket(made, server_hostname=PLAN["provider"]) as inside:
            return passed(asked(inside, token))


def own_token() -> str:
    """The token that the place has for Tollhouse. A provider's own key is never taken for one, nor a login that is a JWT."""
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
    try:
        password = unquote(urlsplit(proxy).password or "")
    except ValueError:
        password = ""
    for text, may_be_jwt in (
        (os.environ.get("TOLLHOUSE_TOKEN", ""), True),
        (password, True),
        *((os.environ.get(name, ""), False) for name in PLAN["variables"]),
    ):
        text = text.strip()
        if _TOKEN.fullmatch(text) or (may_be_jwt and _JWT.fullmatch(text)):
            return text
    return ""


def closed(
    name: str,
    tried: str,
    way: Callable[..., tuple[str, bool]],
    *arguments: Any,
    should: str = CLOSED,
) -> Tried:
    """A way out, which is closed if it fails."""
    at_once = should == CLOSED and PLAN["at_once"]
    should = AT_ONCE if at_once else should
    try:
        happened, ok = way(*arguments)
    except Untried as error:
        return untried(name, tried, should, words(error))
    except socket.timeout as error:
        happened, ok = words(error), not at_once
    except Exception as error:
        happened, ok = words(error), True
    return Tried(name, tried, should, happened, ok)


def opened(
    name: str, tried: str, should: str, way: Callable[..., tuple[str, bool]], *arguments: Any
) -> Tried:
    """A way that has to work, as far as it goes."""
    try:
        happened, ok = way(*arguments)
    except Exception as error:
        happened, ok = words(error), False
    return Tried(name, tried, should, happened, ok)


def untried(name: str, tried: str, should: str, why: str) -> Tried:
    return Tried(name, tried, should, "not tried: " + why, None)


def checks() -> list[Callable[[], Tried]]:
    """All rows, in their order."""
    found: list[Callable[[], Tried]] = []

    def add(kind: Callable[..., Tried], *arguments: Any, **more: Any) -> None:
        found.append(lambda: kind(*arguments, **more))

    provider, port, token = PLAN["provider"], PLAN["provider_port"], own_token()
    families = [("ipv4", PLAN["addresses"][0]), ("ipv6", PLAN["addresses"][1])]
    led = LED if PLAN["transparent"] else CLOSED
    for family, address in families:
        add(
            closed,
            "direct-" + family,
            "TLS for %s, %s port %d" % (provider, address, port),
            direct if PLAN["transparent"] else tcp,
            *((address,) if PLAN["transparent"] else (address, port)),
            should=led,
        )
    for family, address in families:
        add(
            closed,
            "raw-ip-" + family,
            "TLS without a name, %s port 443" % address,
            handshake,
            address,
            None,
        )
    for family, address in families:
        add(closed, "udp-443-" + family, "QUIC, %s UDP port 443" % address, quic, address)
    for family, address in families:
        add(closed, "other-port-" + family, "TCP, %s port 8443" % address, tcp, address, 8443)
    for family, resolver in zip(("ipv4", "ipv6"), PLAN["resolvers"]):
        add(closed, "dns-udp-" + family, "DNS, %s UDP port 53" % resolver, dns, resolver)
        add(closed, "dns-tcp-" + family, "DNS, %s TCP port 53" % resolver, tcp, resolver, 53)
        add(closed, "dns-tls-" + family, "DNS over TLS, %s port 853" % resolver, tcp, resolver, 853)
        add(
            closed,
            "dns-https-" + family,
            "DNS over HTTPS, %s port 443" % resolver,
            handshake,
            resolver,
            PLAN["doh"],
        )
    add(
        closed,
        "dns-txt",
        "TXT of %s, the place's own name server" % PLAN["outside"],
        txt,
        should="no answer from the world",
    )
    for family, address in families:
        add(closed, "ping-" + family, "ICMP echo, %s" % address, ping, address, should=SILENT)
    add(closed, "metadata", "cloud metadata, 169.254.169.254 port 80", tcp, "169.254.169.254", 80)
    for name in ("redis", "vault", "admin"):
        host, store = PLAN[name] or ("", 0)
        tried = "the gateway's %s, %s port %d" % (name, host, store)
        if host:
            add(closed, name, tried, tcp, host, store)
        else:
            add(
                untried,
                name,
                "the gateway's %s" % name,
                CLOSED,
                "it is on the gateway's loopback alone",
            )
    gateway, tried = PLAN["gateway"] or urlsplit(PLAN["proxy"]).hostname, "DNS, the gateway's host"
    if gateway:
        tried = "%s, %s UDP port 53" % (tried, gateway)
        add(closed, "gateway-dns", tried, gateways_dns, gateway, should=SILENT)
    else:
        add(untried, "gateway-dns", tried, SILENT, "its host is not known here")
    if PLAN["proxy"]:
        missing, unknown = "identity_missing", "identity_unknown"
        add(opened, "proxy-no-token", "the proxy, without a token", missing, refusal, "", missing)
        add(
            opened,
            "proxy-wrong-token",
            "the proxy, with a wrong token",
            unknown,
            refusal,
            _WRONG,
            unknown,
        )
        add(
            opened,
            "proxy-other-host",
            "the proxy, to %s" % PLAN["outside"],
            "host_not_allowed",
            other_host,
        )
        if token:
            add(
                opened,
                "right-proxy",
                "the proxy, with this place's token",
                "200",
                right_proxy,
                token,
            )
        else:
            add(
                untried,
                "right-proxy",
                "the proxy, with this place's token",
                "200",
                _MISSING,
            )
    elif PLAN["proxy"] is None:
        add(untried, "right-proxy", "the proxy", "200", _NO_PROXY)
    if PLAN["transparent"]:
        tried = "the address of %s, the place's own name server" % provider
        server = name_server()
        if server:
            add(opened, "right-dns", tried, "an address", right_name, server)
        else:
            add(untried, "right-dns", tried, "an address", "there is no name server")
        for family, address in families:
            name, tried = "right-" + family, "%s without a proxy, over %s" % (provider, family)
            if token and PLAN["ca"]:
                add(opened, name, tried, "200", right_transparent, address, token)
            else:
                why = _MISSING if PLAN["ca"] else "Tollhouse's CA is not known"
                add(untried, name, tried, "200", why)
    return found


def table(rows: list[Tried]) -> str:
    state = {True: "ok", False: "WRONG", None: "-"}
    lines = [("", "row", "tried", "should be", "happened")]
    lines += [(state[row.ok], row.name, row.tried, row.should, row.happened) for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(4)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths + [0])).rstrip()
        for line in lines
    )


def main(arguments: list[str]) -> int:
    if [one for one in arguments if one != "--json"] or not PLAN:
        print("made by `tollhouse doctor --print-probe`; the one option is --json", file=sys.stderr)
        return 2
    if PLAN["proxy"] is None:
        named = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        PLAN["proxy"] = named or None
    made = checks()
    with ThreadPoolExecutor(len(made)) as at_once:
        rows = list(at_once.map(lambda check: check(), made))
    wrong = [row.name for row in rows if row.ok is False]
    if "--json" in arguments:
        print(
            json.dumps(
                {"ok": not wrong, "wrong": wrong, "rows": [row._asdict() for row in rows]}, indent=2
            )
        )
    else:
        print(table(rows))
        print()
        print(
            "%d rows, %d not as they should be%s"
            % (len(rows), len(wrong), ": " + ", ".join(wrong) if wrong else "")
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
