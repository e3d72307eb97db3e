"""Servers that count what comes to each place, in a network namespace that has nothing else, while a program runs.

    unshare --net python -I -S counting.py '[["tcp", "127.0.0.2", 443], ["udp", "fd00::2", 53]]' silent sh -s -- --json

Prints how many connections or packets came to each place, as a JSON list. ``closing`` ends each connection at once; ``silent``
says nothing. UDP is never answered; an ICMP echo is answered by the kernel.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
from pathlib import Path


def opened(protocol: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if protocol == "icmp":
        number = socket.IPPROTO_ICMPV6 if ":" in host else socket.IPPROTO_ICMP
        made = socket.socket(family, socket.SOCK_RAW, number)
    else:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    if protocol == "tcp":
        made.listen(64)
    made.setblocking(False)
    return made


def is_echo(server: socket.socket) -> bool:
    """Whether what has come is an echo, and no answer to one. A raw socket of IPv4 gives the header of IP before it."""
    packet = server.recv(4096)
    if server.family == socket.AF_INET6:
        return packet[0] == 128
    return packet[(packet[0] & 15) * 4] == 8


def main(places: list[tuple[str, str, int]], how: str, command: list[str]) -> list[int]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
    for host in sorted({host for _, host, _ in places if not host.startswith("127.")}):
        word = [f"{host}/128", "nodad"] if ":" in host else [f"{host}/32"]
        subprocess.run(["ip", "address", "add", word[0], "dev", "lo", *word[1:]], check=True)
    counts = [0] * len(places)
    kept: list[socket.socket] = []
    waiting = selectors.DefaultSelector()
    for number, place in enumerate(places):
        waiting.register(opened(*place), selectors.EVENT_READ, number)

    def take(wait_s: float) -> bool:
        ready = waiting.select(wait_s)
        for key, _ in ready:
            server = key.fileobj
            assert isinstance(server, socket.socket)
            protocol = places[key.data][0]
            if protocol == "icmp":
                counts[key.data] += is_echo(server)
                continue
            if protocol == "udp":
                server.recv(4096)
            else:
                made = server.accept()[0]
                if how == "closing":
                    made.close()
                else:
                    kept.append(made)
            counts[key.data] += 1
        return bool(ready)

    program = subprocess.Popen(command, stdin=sys.stdin, stdout=subprocess.DEVNULL)
    while program.poll() is None:
        take(0.05)
    # What the kernel has taken for the program is here when the program has ended.
    while take(0):
        pass
    return counts


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:])))
