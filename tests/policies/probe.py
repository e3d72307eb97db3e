"""A program without a network's good manners: tries to reach each place it is told and says what came of it.

    python -I -S probe.py '[["tcp", "10.0.0.1", 443, ""], ["udp", "fd00::1", 53, "eth0"]]'

Prints a JSON list: ``connected`` (tcp), ``sent`` (udp), ``answered`` (icmp: an echo), ``silence`` after a second, or the
name of the error. The fourth word of an attempt is a device to bind to.
"""

from __future__ import annotations

import errno
import json
import selectors
import socket
import sys
import time

Attempt = tuple[str, str, int, str]
DEADLINE_S = 1.0
_ECHO = {socket.AF_INET: b"\x08\0\0\0\0\0\0\1", socket.AF_INET6: b"\x80\0\0\0\0\0\0\1"}


def begin(protocol: str, address: str, port: int, device: str) -> tuple[socket.socket, str]:
    """A socket on which the attempt is under way, and what has come of it so far ("" if nothing)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0)}
    icmp = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    attempt = socket.socket(family, *kinds.get(protocol, (socket.SOCK_DGRAM, icmp)))
    attempt.setblocking(False)
    try:
        if device:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if protocol == "tcp":
            attempt.connect((address, port))
            return attempt, "connected"
        attempt.sendto(_ECHO[family] if protocol == "icmp" else b"data", (address, port))
    except BlockingIOError:
        return attempt, ""
    except OSError as error:
        return attempt, errno.errorcode.get(error.errno or 0, str(error))
    return attempt, "sent" if protocol == "udp" else ""


def main(attempts: list[Attempt]) -> list[str]:
    """What came of each, in order; all of them are under way at once."""
    begun = [begin(*attempt) for attempt in attempts]
    found = [outcome for _, outcome in begun]
    with selectors.DefaultSelector() as waiting:
        for number, (attempt, outcome) in enumerate(begun):
            if not outcome:
                event = (
                    selectors.EVENT_WRITE if attempts[number][0] == "tcp" else selectors.EVENT_READ
                )
                waiting.register(attempt, event, number)
        end = time.monotonic() + DEADLINE_S
        while waiting.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                waiting.unregister(key.fileobj)
                attempt, number = begun[key.data][0], key.data
                error = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                success = "connected" if attempts[number][0] == "tcp" else "answered"
                found[number] = errno.errorcode.get(error, str(error)) if error else success
    return [outcome or "silence" for outcome in found]


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
