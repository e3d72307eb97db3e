"""`tollhouse run`: what is looked at before anything starts, the supervisor, its exit code, and what is said on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Final

from tollhouse.cannot_start import CANNOT_START
from tollhouse.config.load import (
    Config,
    ConfigError,
    catalog,
    load_config,
    taken_once,
    unenforced,
)
from tollhouse.control.lock import StateBusy, StateLock
from tollhouse.credential.environment import provider_keys_in
from tollhouse.prices import kept
from tollhouse.share import Share
from tollhouse.stores import open_ca
from tollhouse.trust.leaf import LeafStore
from tollhouse.trust.state_directory import exposures
from tollhouse.workers import privileges
from tollhouse.workers.desk import attend
from tollhouse.workers.generation import Generation
from tollhouse.workers.inheritance import Inheritance
from tollhouse.workers.listening import Sockets
from tollhouse.workers.supervisor import Supervisor, freeze
from tollhouse.workers.systemd import Notifier, given_sockets
from tollhouse.workers.worker import one_line, work

log = logging.getLogger(__name__)

MOST_WORKERS: Final = 64


def run(config: Config, workers: int | None = None, *, judge: bool = False) -> int:
    """`tollhouse run`: 0 after a clean stop, 1 if the gateway can't start. ``workers`` are as many as this process has cores,
    unless given. With ``judge`` nothing is started: 0 if it could be."""
    _occupy_standard_descriptors()
    logging.basicConfig(
        level=logging.WARNING,
        format="tollhouse: %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    inherited = Inheritance.taken(os.environ, time.monotonic())
    size = 1 if config.redis.embedded else min(workers or cores(), MOST_WORKERS)
    if size > 1 and (name := taken_once(config)):
        _say(
            f"one worker: {name} takes a subject token once, and several workers would share that of one file; "
            'with subject = { source = "vault", ... } each has its own.'
        )
        size = 1
    bound: Sockets | None = None
    try:
        if inherited is None and not judge and privileges.wanted(config.process):
            _raise_file_limit(config.limits.max_connections)
            bound = Sockets.of_unit(size, given_sockets(os.environ)).following(config)
            privileges.become(config.process, config.state.directory)
    except (privileges.CannotBecome, *CANNOT_START) as e:
        return _cannot_start(one_line(e))
    if why := _refused(config):
        return _cannot_start(why)
    if judge:
        return _judged(config)
    if inherited is None:
        _warn(config)
    _raise_file_limit(config.limits.max_connections)
    if inherited is not None:
        return _supervise(config, size, StateLock(inherited.lock), inherited, None)
    try:
        lock = StateLock.take(config.state.directory)
    except StateBusy:
        return _cannot_start(
            f"another gateway uses {config.state.directory}; stop it or name another [state] directory."
        )
    except OSError as e:
        return _cannot_start(one_line(e))
    with lock:
        return _supervise(config, size, lock, None, bound)


def _judged(config: Config) -> int:
    """0 if all that is opened before the first worker can be; the listeners' ports are those of the gateway that asks."""
    try:
        open_ca(config, catalog(config))
        kept.current(config.state.directory, time.time())
    except CANNOT_START as e:
        return _cannot_start(one_line(e))
    return 0


def _refused(config: Config) -> str:
    """Why no gateway may start here; empty if it may."""
    if found := provider_keys_in(os.environ, catalog(config)):
        return (
            f"{', '.join(found)} in the gateway's own environment. A provider key belongs into Vault and "
            "nowhere else: take it out of the environment (and renew it, since it has been there)."
        )
    try:
        exposed = list(exposures(config.state.directory))
    except OSError as e:
        return one_line(e)
    return "\n".join(map(str, exposed))


def _warn(config: Config) -> None:
    if config.redis.url == "embedded":
        _say(
            "embedded stores are for one machine and one worker; "
            "a crash may lose the spend of its last second."
        )
    elif config.vault.address == "embedded":
        _say("the embedded Vault is for one machine: gateways on others do not find its keys.")
    if config.redis.unsafe_fail_open:
        _say(
            "UNSAFE: [redis] unsafe_fail_open = true: while Redis is away, identities proven in the last 5 minutes call "
            "without any limit of money, rate or concurrency; what they spent is charged when it is back."
        )


def _supervise(
    config: Config,
    size: int,
    lock: StateLock,
    inherited: Inheritance | None,
    bound: Sockets | None,
) -> int:
    """``size`` is of workers. ``bound`` are sockets that were bound as root."""
    notifier = Notifier(os.environ)
    try:
        if inherited is not None:
            sockets = Sockets.unpacked(size, inherited.sockets)
        elif bound is not None:
            sockets = bound
        else:
            sockets = Sockets.of_unit(size, given_sockets(os.environ))
        made = _GenerationMaker(config.path, sockets, size)
        number = inherited.generation if inherited is not None else 1
        generation = made.generation(number, config, None)
    except CANNOT_START as e:
        return _cannot_start(one_line(e))
    _load_all(config)
    freeze()
    supervisor = Supervisor(
        made,
        generation,
        _say,
        cannot_start=CANNOT_START,
        notifier=notifier,
        lock=lock.descriptor,
    )
    if inherited is not None:
        supervisor.adopt(inherited)
    return supervisor.run()


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many this process may use, by its affinity and by its container's limit (``cpu.max`` of
    https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        most, _, period = quota.read_text().strip().partition(" ")
        return max(1, min(allowed or 1, -(-int(most) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return allowed or 1


class _GenerationMaker:
    """`generation.Maker` for `tollhouse run`. ``sockets`` are those that there are before the first generation."""

    def __init__(self, path: Path, sockets: Sockets, size: int) -> None:
        self._path = path
        self._sockets = sockets
        self._size = size

    def load(self) -> Config:
        config = load_config(self._path)
        if problems := unenforced(config):
            raise ConfigError(problems)
        return config

    def generation(self, number: int, config: Config, before: Generation | None) -> Generation:
        ca = open_ca(config, catalog(config))
        prices = kept.current(config.state.directory, time.time())
        return Generation(
            number,
            config,
            (before.sockets if before is not None else self._sockets).following(config),
            ca,
            LeafStore(ca),
            prices,
            self._size,
        )

    def work(self, config: Config, share: Share, end: socket.socket) -> int:
        return work(config, share, end, _say)

    def attend(self, config: Config, end: socket.socket, admin: socket.socket | None) -> int:
        return attend(config, end, admin)


def _load_all(config: Config) -> None:
    """What each worker would load for itself is loaded before the fork, so that they share its memory."""
    import tollhouse.dispatch.upstream
    import tollhouse.listen.mitm

    if config.listen.admin is not None:
        import tollhouse.site.metrics
    if config.otel.endpoint is not None:
        from tollhouse.telemetry.telemetry import installed

        installed()
    if not config.vault.embedded:
        import tollhouse.credential.vault.auth
        import tollhouse.credential.vault.reader
    if config.redis.embedded:
        import tollhouse.ledger.store.embedded_redis  # noqa: F401
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401


def _say(text: str) -> None:
    """Writes one line to stderr, in one piece: other processes of the gateway write there as well. If nobody reads stderr, the
    gateway goes on."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):
        sys.stderr.write(f"tollhouse: {text}\n")
        sys.stderr.flush()


def _cannot_start(why: str) -> int:
    for line in why.splitlines():
        _say(f"cannot start: {line}")
    return 1


def _raise_file_limit(connections: int) -> None:
    """Raises the limit of descriptors for ``connections`` clients and their calls. The usual soft
    limit of 1024 is enough for 500 calls."""
    wanted = 2 * connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _occupy_standard_descriptors() -> None:
    """Opens /dev/null where stdin, stdout or stderr are closed. Else the next opened file would get
    that descriptor, and this process and its children would take it for stdin, stdout or stderr."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
