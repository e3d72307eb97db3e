"""Threads that hold neither the loop, nor the call, nor the process's end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.workers import Workers


async def test_runs_in_a_daemon_thread() -> None:
    """The job's result comes back from a thread that the interpreter does not wait for."""
    thread = await Workers(1, 5).run(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon


async def test_a_job_that_takes_too_long_is_given_up_but_keeps_its_place() -> None:
    """Its caller is let go; the next job waits for its place, and gets it when the thread ends."""
    workers, release, ran = Workers(1, 0.05), threading.Event(), threading.Event()
    with pytest.raises(StoreAway, match=r"within 0\.05 s"):
        await workers.run(release.wait)
    with pytest.raises(StoreAway):
        await workers.run(ran.set)
    assert not ran.is_set()
    release.set()
    await workers.run(ran.set, bound_s=5)
    assert ran.is_set()


async def test_at_most_so_many_at_once() -> None:
    """More jobs than places wait for each other."""
    lock, running, most = threading.Lock(), 0, 0
    both = threading.Barrier(2)

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(5)
        with lock:
            running -= 1

    workers = Workers(2, 5)
    await asyncio.gather(*(workers.run(job) for _ in range(6)))
    assert most == 2


async def test_refusal_comes_without_its_frames() -> None:
    """What the job raised has no traceback of the thread and no context, which would hold its locals."""

    def job() -> None:
        token = "hush"
        try:
            raise ValueError(token)
        except ValueError:
            raise StoreAway("away")  # noqa: B904 - the context is what must not come along

    with pytest.raises(StoreAway, match="away") as caught:
        await Workers(1, 5).run(job)
    assert caught.value.__context__ is None
    frames = [entry.frame.code.name for entry in caught.traceback]
    assert "job" not in frames


async def test_any_other_exception_is_a_refusal_by_its_class_name() -> None:
    """Its text might hold a secret."""

    def job() -> None:
        raise RuntimeError("hush")

    with pytest.raises(CredentialUnavailable, match="RuntimeError") as caught:
        await Workers(1, 5).run(job)
    assert "hush" not in caught.value.why
    assert not isinstance(caught.value, StoreAway)


def test_a_loop_that_is_gone_is_no_error() -> None:
    """A thread that ends after its loop was closed ends in silence."""
    release, started = threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        release.wait(5)

    async def main() -> None:
        with pytest.raises(StoreAway):
            await Workers(1, 0.02).run(job)

    asyncio.run(main())
    assert started.is_set()
    threads = [thread for thread in threading.enumerate() if thread.name == "tollhouse-credential"]
    release.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
