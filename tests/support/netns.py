"""Network namespaces of a test's own, without names: they are gone when the last process and descriptor in them are, even
after SIGKILL, and two test runs can't meet in one.

    near, far = Namespace(), Namespace()
    join(near, far)                              # "wire" in each of them, no way to anywhere else
    near.run(socket.create_connection, ...)      # in this process, on a thread that lives in `near`
    subprocess.run([*near.enter, "curl", ...])   # or a process in it

Sockets belong for good to the namespace of the thread that made them; threads and processes inherit it.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, ParamSpec, Self, TypeVar

from tests.support.requires import program

P = ParamSpec("P")
T = TypeVar("T")
WIRE = "wire"
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python has no name for it


class Namespace:
    """A network namespace with nothing in it but ``lo``. A context manager."""

    def __init__(self) -> None:
        # The one thread of the pool lives in the namespace; no other thread of the process does.
        self._thread = ThreadPoolExecutor(
            1, "netns", initializer=os.unshare, initargs=(os.CLONE_NEWNET,)
        )
        self._descriptor = self.run(os.open, "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.ip("link", "set", "lo", "up")

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``function(*args, **kwargs)`` on a thread inside."""
        return self._thread.submit(function, *args, **kwargs).result(120)

    @property
    def path(self) -> str:
        """What ``ip`` and ``nsenter`` take for a namespace, for as long as this process runs."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @property
    def enter(self) -> tuple[str, ...]:
        """A command that becomes the one after it, inside."""
        return ("nsenter", f"--net={self.path}", "--")

    def ip(self, *arguments: str) -> None:
        self.do(program("netns"), *arguments)

    def do(self, *command: str) -> str:
        """What a command prints on stdout, run inside as root; `AssertionError` with its words unless it exits 0."""
        done = subprocess.run(
            [*self.enter, *command], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def sysctl(self, name: str, value: str) -> None:
        self.run(Path("/proc/sys/net", name).write_text, value)

    def close(self) -> None:
        os.close(self._descriptor)
        self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def join(near: Namespace, far: Namespace, *, near_device: str = WIRE) -> None:
    """A veth pair between the two: ``near_device`` in the one, `WIRE` in the other, both up, without addresses."""
    near.ip("link", "add", near_device, "type", "veth", "peer", "name", WIRE, "netns", far.path)
    near.ip("link", "set", near_device, "up")
    far.ip("link", "set", WIRE, "up")


def add_addresses(where: Namespace, *addresses: str, device: str = WIRE) -> None:
    """``ADDRESS/PREFIX`` of either family, usable at once (no duplicate address detection)."""
    for address in addresses:
        where.ip("address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))


def as_user(uid: int) -> tuple[str, ...]:
    """A command that runs the one after it as ``uid``, for which no account is needed.

    It keeps one capability, CAP_DAC_READ_SEARCH, since the interpreter and the checkout may lie below root's home, where
    nobody else may look. That one has no say over networks, and does not let it write.
    """
    sets = [
        f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")
    ]
    return (
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--no-new-privs",
        *sets,
        "--",
    )


def with_etc(directory: Path) -> tuple[str, ...]:
    """A command that runs the one after it with the files of ``directory`` over those of the same names in /etc. The
    mounts are in a namespace of its own and go with it."""
    script = 'for f in "$0"/*; do mount --bind "$f" "/etc/${f##*/}" || exit 1; done; exec "$@"'
    return ("unshare", "--mount", "--", "sh", "-c", script, str(directory))


@dataclass(frozen=True)
class Frame:
    """An IP packet that came over the wire: what of it says where it wants to go."""

    protocol: str
    """``tcp``, ``udp``, ``icmp``, ``icmp6`` or the protocol's number."""
    source: str
    destination: str
    source_port: int = 0
    port: int = 0
    """Of the destination; the type of an ICMP message."""
    opens: bool = False
    """TCP: a SYN without ACK."""


class Sniffer:
    """Everything that comes over the wire into a namespace, in order, whether anybody there listens or not."""

    _PROTOCOLS: ClassVar = {
        socket.IPPROTO_TCP: "tcp",
        socket.IPPROTO_UDP: "udp",
        1: "icmp",
        58: "icmp6",
    }

    def __init__(self, where: Namespace, device: str = WIRE) -> None:
        self._socket = where.run(
            socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003)
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self._socket.bind((device, 0x0003))
        self._socket.setblocking(False)

    def take(self) -> list[Frame]:
        """What has come since it was last asked, without the link's own upkeep (ARP, IPv6 neighbour discovery)."""
        frames: list[Frame] = []
        while True:
            try:
                data, (_, ethertype, kind, *_) = self._socket.recvfrom(65535)
            except BlockingIOError:
                return frames
            if kind != socket.PACKET_OUTGOING and (frame := self._parse(ethertype, data)):
                frames.append(frame)

    def _parse(self, ethertype: int, data: bytes) -> Frame | None:
        if ethertype == 0x0800:
            number, rest = data[9], data[(data[0] & 15) * 4 :]
            ends = [socket.inet_ntop(socket.AF_INET, data[at : at + 4]) for at in (12, 16)]
        elif ethertype == 0x86DD:
            number, rest = data[6], data[40:]
            ends = [socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (8, 24)]
            if number == 0:  # Hop-by-hop options: multicast listener reports have them.
                number, rest = rest[0], rest[8 * (rest[1] + 1) :]
        else:
            return None
        protocol = self._PROTOCOLS.get(number, str(number))
        if protocol in ("tcp", "udp"):
            source_port, port = struct.unpack("!HH", rest[:4])
            opens = protocol == "tcp" and rest[13] & 0x12 == 0x02
            return Frame(protocol, ends[0], ends[1], source_port, port, opens)
        kind = rest[0] if rest else 0
        if protocol == "icmp6" and (133 <= kind <= 136 or kind in (131, 132, 143)):
            return None
        return Frame(protocol, ends[0], ends[1], 0, kind)

    def close(self) -> None:
        self._socket.close()


class Ears:
    """Listeners that answer nothing: who dials them is connected by the kernel, and `heard` says so."""

    def __init__(self, where: Namespace) -> None:
        self._where = where
        self._sockets: dict[tuple[str, str, int], socket.socket] = {}

    def listen(self, protocol: str, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        ear = self._where.run(socket.socket, family, kind)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind((address, port))
        if protocol == "tcp":
            ear.listen(64)
        ear.setblocking(False)
        self._sockets[protocol, address, port] = ear

    def heard(self) -> set[tuple[str, str, int]]:
        """Which of them anything has reached since it was last asked."""
        found = set()
        for name, ear in self._sockets.items():
            while True:
                try:
                    if name[0] == "tcp":
                        ear.accept()[0].close()
                    else:
                        ear.recvfrom(2048)
                except BlockingIOError:
                    break
                found.add(name)
        return found

    def close(self) -> None:
        for ear in self._sockets.values():
            ear.close()
