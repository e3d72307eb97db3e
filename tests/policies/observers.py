"""Who looks at a router's rules, and what he finds: doctor in a workload's place or a user's, the gateway, the administrator, and
whoever listens on the wire."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tests.policies.probe import Attempt
from tests.policies.router import (
    ATTACKER,
    ATTACKER6,
    CLOSED,
    GATEWAY_UID,
    NOBODY,
    OUTER,
    OUTER6,
    PROXY_PORT,
    USER_UID,
    Router,
)
from tests.support.netns import WIRE
from tests.support.requires import program

OF_GATEWAY: tuple[Attempt, ...] = (("tcp", NOBODY, 443, ""),)
BOUND: tuple[Attempt, ...] = (("tcp", ATTACKER, 443, WIRE), ("tcp", ATTACKER6, 443, WIRE))
"""From sockets that insist on the device, which a redirection would carry past a filter."""
REFUSED: tuple[Attempt, ...] = (("udp", ATTACKER, 443, ""), ("udp", ATTACKER6, 443, ""))
_COUNTED = re.compile(r"counter packets (\d+)")

# RFC 3810: who listens to which groups. Reports go to all routers that are able to read them.
_REPORTS_TO, _ALL_NODES, _GROUP = "ff02::16", "ff02::1", "ff02::7011"
_REPORT = 143
_IS_INCLUDE, _IS_EXCLUDE, _TO_INCLUDE, _TO_EXCLUDE = 1, 2, 3, 4
_QUERY = struct.pack("!BBHHH16sBBH", 130, 0, 0, 1, 0, bytes(16), 2, 125, 0)
_ROUTER_ALERT = bytes((0, 0, 5, 2, 0, 0, 1, 0))


def looked(router: Router, place: str, timeout_s: float = 2.0) -> dict[str, str]:
    """All that is tried from one place, and what came of it. ``timeout_s`` is how long an answer is waited for."""
    match place:
        case "workload" | "user":
            rows = router.doctor(user=place == "user", timeout_s=timeout_s)["rows"]
            state = {True: "ok", False: "WRONG", None: "-"}
            return {row["name"]: f"{state[row['ok']]} {row['happened']}" for row in rows}
        case "gateway":
            outcomes = router.attempt(OF_GATEWAY, GATEWAY_UID)
            names = (f"{kind} {address}" for kind, address, *_ in OF_GATEWAY)
            return dict(zip(names, outcomes, strict=True))
        case "bound":
            router.sniffer.take()
            router.attempt(BOUND, USER_UID)
            loopback = {frame.destination for frame in router.sniffer.take()} & {"127.0.0.1", "::1"}
            return {"left": " ".join(sorted(loopback))}
        case "counted":
            before = counted(router, "leave")
            router.attempt(REFUSED, USER_UID)
            return {"leave": str(counted(router, "leave") - before)}
        case "asked":
            return {CLOSED: router.workload.run(ask, CLOSED, timeout_s)}
        case "groups":
            return {
                "joined": router.far.run(
                    reported,
                    lambda: router.router.run(join_and_leave),
                    {_TO_INCLUDE, _TO_EXCLUDE},
                    timeout_s,
                ),
                "queried": router.far.run(
                    reported, send_query, {_IS_INCLUDE, _IS_EXCLUDE}, timeout_s
                ),
            }
        case "far":
            return {
                f"{address} {port}": router.far.run(_reached, address, port, within_s)
                for address in (OUTER, OUTER6)
                for port, within_s in ((22, timeout_s), (PROXY_PORT, 0.2))
            }
    raise AssertionError(place)


def counted(router: Router, chain: str) -> int:
    """How many packets came to the end of it."""
    listed = router.router.do(program("nft"), "list", "chain", "inet", "tollhouse", chain)
    [packets] = _COUNTED.findall(listed)
    return int(packets)


def ask(address: str, timeout_s: float) -> str:
    """A question to a name server, from the thread's own namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    question = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\3api\6openai\3com\0\0\1\0\1"
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.settimeout(timeout_s)
        try:
            made.connect((address, 53))
            made.send(question)
            return "answered" if made.recv(512) else ""
        except OSError as error:
            return type(error).__name__


def _reached(address: str, port: int, within_s: float) -> str:
    try:
        socket.create_connection((address, port), timeout=within_s).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def _member(group: str, made: socket.socket) -> None:
    asked = socket.inet_pton(socket.AF_INET6, group) + struct.pack(
        "@I", socket.if_nametoindex(WIRE)
    )
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, asked)


def join_and_leave() -> None:
    """Of a multicast group on the wire, in the thread's own namespace."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
        _member(_GROUP, made)


def send_query() -> None:
    """As a multicast router asks all nodes which groups they listen to."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as made:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, _ROUTER_ALERT)
        made.sendto(_QUERY, (_ALL_NODES, 0, 0, socket.if_nametoindex(WIRE)))


def reported(begin: Callable[[], None], kinds: set[int], within_s: float) -> str:
    """Whether a report with a record of one of these kinds comes over the wire after ``begin``."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as made:
        _member(_REPORTS_TO, made)
        # What this side says itself comes back to it.
        addresses = Path("/proc/thread-self/net/if_inet6").read_text().split()
        begin()
        end = time.monotonic() + within_s
        with contextlib.suppress(TimeoutError):
            while (left := end - time.monotonic()) > 0:
                made.settimeout(left)
                data, (source, *_) = made.recvfrom(4096)
                sender = socket.inet_pton(socket.AF_INET6, source.partition("%")[0]).hex()
                if data[0] == _REPORT and data[8] in kinds and sender not in addresses:
                    return "reported"
    return "silence"
