"""The listening sockets of all workers. The supervisor keeps a copy of each: connections that wait in the queue of a worker
which dies, or is replaced, are taken by its successor.

Each worker has sockets of its own (SO_REUSEPORT), so that the kernel spreads connections evenly. One socket that all workers
shared would give most connections to the worker that woke last.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from tollhouse.call import ListenerKind
from tollhouse.config.load import Address, Config

ADMIN: Final = "admin"
KINDS: Final[tuple[ListenerKind, ...]] = get_args(ListenerKind)

Wanted = dict[str, Address | None]


class CannotListen(OSError):
    """The text says which listener, why, and what to do."""


@dataclass(frozen=True, slots=True)
class _Listener:
    wanted: Address | None
    """As the configuration names it; None for sockets of a socket unit."""
    groups: tuple[tuple[socket.socket, ...], ...]
    """For each worker its sockets: one for each address that the host has."""

    @property
    def address(self) -> Address:
        host, port = self.groups[0][0].getsockname()[:2]
        return Address(host, port)

    def sockets(self) -> Iterator[socket.socket]:
        for group in self.groups:
            yield from group


class Sockets:
    """The sockets of one configuration. What does not change is shared with those of the next."""

    def __init__(self, workers: int, listeners: Mapping[str, _Listener] | None = None) -> None:
        self._workers = workers
        self._listeners = dict(listeners or {})

    @staticmethod
    def wanted(config: Config) -> Wanted:
        listen = config.listen
        return {
            "proxy": listen.proxy,
            "base_url": listen.base_url,
            "transparent": listen.transparent,
            ADMIN: listen.admin,
        }

    @classmethod
    def of_unit(cls, workers: int, given: Sequence[tuple[str, socket.socket]]) -> Sockets:
        """Those that systemd has passed, by the names proxy, base_url, transparent and admin. Raises `ValueError`."""
        names = (*KINDS, ADMIN)
        named: dict[str, list[socket.socket]] = {}
        for name, one in given:
            if name not in names:
                raise ValueError(
                    f"systemd has passed a socket named {name!r}: FileDescriptorName= in its unit must be one of {', '.join(names)}"
                )
            named.setdefault(name, []).append(one)
        return cls(
            workers,
            {
                name: _Listener(None, tuple((found[slot % len(found)],) for slot in range(workers)))
                for name, found in named.items()
            },
        )

    def following(self, config: Config) -> Sockets:
        """The sockets for ``config``: these, where the address is the same, and new ones. Raises `CannotListen`, and has opened
        nothing then."""
        found: dict[str, _Listener] = {}
        with contextlib.ExitStack() as made:
            for name, address in self.wanted(config).items():
                old = self._listeners.get(name)
                if old is not None and old.wanted is None:
                    found[name] = old
                elif address is None:
                    continue
                elif old is not None and old.wanted == address:
                    found[name] = old
                else:
                    groups = self._bound(name, address, 1 if name == ADMIN else self._workers)
                    found[name] = _Listener(address, groups)
                    for one in found[name].sockets():
                        made.callback(one.close)
            made.pop_all()
        return Sockets(self._workers, found)

    @staticmethod
    def _bound(name: str, address: Address, workers: int) -> tuple[tuple[socket.socket, ...], ...]:
        try:
            return _bind(address, workers)
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotListen(
                f"listen.{name}: {address} cannot be listened on ({why}); free it or choose another"
            ) from None

    def of_worker(self, slot: int) -> dict[ListenerKind, tuple[socket.socket, ...]]:
        """``slot`` is from 0."""
        return {
            kind: self._listeners[kind].groups[slot] for kind in KINDS if kind in self._listeners
        }

    @property
    def admin(self) -> socket.socket | None:
        found = self._listeners.get(ADMIN)
        return found.groups[0][0] if found is not None else None

    def addresses(self) -> dict[str, str]:
        return {name: str(listener.address) for name, listener in self._listeners.items()}

    def close(self, kept: Sockets | None = None) -> None:
        """Closes those that are not of ``kept``."""
        used = set(kept._all()) if kept is not None else set()
        for one in self._all():
            if one not in used:
                one.close()

    def close_doors(self) -> None:
        """Closes those of the workers, and not the admin listener's."""
        for name in KINDS:
            if name in self._listeners:
                for one in self._listeners.pop(name).sockets():
                    one.close()

    def close_all_but(self, kept: Collection[socket.socket]) -> None:
        """In a child: as long as any process has a copy of a socket, the kernel takes connections for it."""
        for one in self._all():
            if one not in kept:
                one.close()

    def _all(self) -> Iterator[socket.socket]:
        for listener in self._listeners.values():
            yield from listener.sockets()

    # Across an exec.

    def packed(self) -> dict[str, Any]:
        """As JSON. The descriptors are open in the next program."""
        for one in self._all():
            os.set_inheritable(one.fileno(), True)
        return {
            name: {
                "wanted": [listener.wanted.host, listener.wanted.port] if listener.wanted else None,
                "groups": [[one.fileno() for one in group] for group in listener.groups],
            }
            for name, listener in self._listeners.items()
        }

    @classmethod
    def unpacked(cls, workers: int, packed: Mapping[str, Any]) -> Sockets:
        opened: dict[int, socket.socket] = {}

        def adopt(descriptor: int) -> socket.socket:
            if descriptor not in opened:
                os.set_inheritable(descriptor, False)
                opened[descriptor] = socket.socket(fileno=descriptor)
            return opened[descriptor]

        listeners = {}
        for name, saved in packed.items():
            groups = tuple(tuple(adopt(one) for one in group) for group in saved["groups"])
            wanted = Address(*saved["wanted"]) if saved["wanted"] else None
            listeners[name] = _Listener(wanted, groups)
        return cls(workers, listeners)


def _bind(address: Address, workers: int) -> tuple[tuple[socket.socket, ...], ...]:
    """Raises `OSError`."""
    places = list(
        dict.fromkeys(
            (family, place)
            for family, _, _, _, place in socket.getaddrinfo(
                address.bound_to, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )
    )
    with contextlib.ExitStack() as made:
        columns: list[list[socket.socket]] = []
        for family, place in places:
            # SO_REUSEPORT lets another program of this user share the port without a word. So the first look is without it.
            bound_to = _free(family, place) if workers > 1 else place
            columns.append([])
            for _ in range(workers):
                one = _socket(family)
                made.callback(one.close)
                if workers > 1:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                one.bind(bound_to)
                columns[-1].append(one)
        made.pop_all()
    return tuple(zip(*columns, strict=True))


def _free(family: int, place: Any) -> Any:
    """The address, with a port in place of 0."""
    with _socket(family) as probe:
        probe.bind(place)
        return probe.getsockname()


def _socket(family: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return one
