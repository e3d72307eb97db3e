"""The event loop of a process of ours, and what is said when something fails on it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

log = logging.getLogger(__name__)

SWITCH_S: Final = 0.0005
"""After this time a thread that computes (for example one that reads a large body) gives the
interpreter to the event loop. Python's own 5 ms would add up over the turns that one call takes."""

MOST_TASKS: Final = 200
"""That are told of at once."""
_DEEPEST: Final = 20


def run[T](main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs ``main`` on a new loop: uvloop's, where it is installed."""
    sys.setswitchinterval(SWITCH_S)
    sys.unraisablehook = tell_of_unraisable
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_prepared(main))
    return asyncio.run(_prepared(main), loop_factory=uvloop.new_event_loop)


async def _prepared[T](main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task_factory)
    loop.set_exception_handler(tell_of_failure)
    return await main()


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


def tasks_stand() -> str:
    """Where each task of the running loop waits, a line a frame, the outermost first; for a person who asks why something does not
    move on. No value is shown."""
    found = []
    for task in itertools.islice(asyncio.all_tasks(), MOST_TASKS):
        found.append(f"task {task.get_name()}:")
        found += [f"    {frame}" for frame in itertools.islice(_frames(task.get_coro()), _DEEPEST)]
    return "\n".join(found)


def _frames(waits: Any) -> Iterator[str]:
    while waits is not None:
        for kind in ("cr", "gi", "ag"):
            code = getattr(waits, f"{kind}_code", None)
            if code is not None:
                frame = getattr(waits, f"{kind}_frame", None)
                line = frame.f_lineno if frame is not None else 0
                yield f"{code.co_filename}:{line} {code.co_qualname}"
                following = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                waits = getattr(waits, following, None)
                break
        else:
            yield type(waits).__name__
            return
