"""`tollhouse run`: the process around a `Gateway`. Its signals, its exit code, and what it says on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from typing import Any, Final

from tollhouse.config.load import Config, catalog
from tollhouse.control.lock import StateBusy, StateLock
from tollhouse.credential.environment import provider_keys_in
from tollhouse.gateway import CANNOT_START, Gateway
from tollhouse.trust.state_directory import exposures

log = logging.getLogger(__name__)


SWITCH_S: Final = 0.0005
"""After this time a thread that computes (for example one that reads a large body) gives the
interpreter to the event loop. Python's own 5 ms would add up over the turns that one call takes."""


async def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task_factory)
    loop.set_exception_handler(tell_of_failure)
    sys.unraisablehook = tell_of_unraisable
    gateway = Gateway(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, gateway.hang_up)
    try:
        await gateway.start()
    except CANNOT_START as e:
        return _cannot_start(e)
    # Modules, prices and the CA live as long as the process. The collector need not look at them again.
    gc.collect()
    gc.freeze()
    if not gateway.stopping.is_set():
        where = " ".join(
            f"{kind}={gateway.addresses.get(kind, 'off')}"
            for kind in ("proxy", "base_url", "transparent", "admin")
        )
        _say(f"ready {where}")
    await gateway.stopping.wait()
    await gateway.stop()
    return 0


def eager_task_factory(
    loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
) -> asyncio.Task[Any]:
    """Makes a task that runs at once, until it first waits. asyncio's own factory refuses the
    ``eager_start`` that uvloop 0.23 passes on Python 3.13.0."""
    options.pop("eager_start", None)
    return asyncio.Task(coro, loop=loop, eager_start=True, **options)


def tell_of_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Writes to the log what the loop has caught. If a connection is given up in the same turn in
    which bytes of it came, uvloop's transport says that its handle is closed: that is one line.
    Anything else is logged in full."""
    error = context.get("exception")
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error):
        log.warning(
            "a connection was given up while bytes of it came, and is closed: %s",
            context.get("message"),
        )
    else:
        loop.default_exception_handler(context)


def tell_of_unraisable(failed: sys.UnraisableHookArgs) -> None:
    """Writes to the log what no code could catch, without the object that it was about: of a server's name that is no ASCII,
    `ssl` shows the client's bytes there, after it has ended the handshake."""
    kind = failed.exc_type.__name__
    log.warning("%s in code that nobody calls, and it is passed over: %s", kind, failed.err_msg)


def _say(text: str) -> None:
    """Writes one line to stderr. If nobody reads stderr, the gateway goes on."""
    with contextlib.suppress(OSError):
        print(f"tollhouse: {text}", file=sys.stderr, flush=True)


def _cannot_start(error: BaseException) -> int:
    text = (
        f"{error.strerror}: {error.filename}"
        if isinstance(error, OSError) and error.filename
        else str(error)
    )
    _say(f"cannot start: {' '.join(text.split())}")
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


def run(config: Config) -> int:
    """`tollhouse run`: 0 after a clean stop, 1 if the gateway can't start."""
    _occupy_standard_descriptors()
    logging.basicConfig(
        level=logging.WARNING,
        format="tollhouse: %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    found = provider_keys_in(os.environ, catalog(config))
    if found:
        _say(
            f"cannot start: {', '.join(found)} in the gateway's own environment. A provider key belongs into Vault and "
            "nowhere else: take it out of the environment (and renew it, since it has been there)."
        )
        return 1
    if config.redis.url == "embedded":
        _say(
            "embedded stores are for one machine: "
            "projects and tokens survive a restart, spend does not."
        )
    elif config.vault.address == "embedded":
        _say("the embedded Vault is for one machine: gateways on others do not find its keys.")
    if config.redis.unsafe_fail_open:
        _say(
            "UNSAFE: [redis] unsafe_fail_open = true: while Redis is away, identities proven in the last 5 minutes call "
            "without any limit of money, rate or concurrency; what they spent is charged when it is back."
        )
    _raise_file_limit(config.limits.max_connections)
    try:
        exposed = list(exposures(config.state.directory))
        for exposure in exposed:
            _say(f"cannot start: {exposure}")
        if exposed:
            return 1
        lock = StateLock.take(config.state.directory)
    except StateBusy:
        _say(
            f"cannot start: another gateway uses {config.state.directory}; stop it or name another [state] directory."
        )
        return 1
    except OSError as e:
        return _cannot_start(e)
    with lock:
        return _run_loop(config)


def _run_loop(config: Config) -> int:
    sys.setswitchinterval(SWITCH_S)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(serve(config))
    return asyncio.run(serve(config), loop_factory=uvloop.new_event_loop)
