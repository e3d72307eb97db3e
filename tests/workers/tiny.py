"""A supervisor with workers that make no call, as a program: ``python tiny.py CONFIG WORKERS HUNG_S``. Files beside CONFIG steer
it:

crash-N   worker N ends as soon as it was ready     hang-N   its loop stands still then; it takes the file away
nonsense  worker 1 sends lines that are no messages  full     no process can be forked
    fault    no generation can be made
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, cast

from tollhouse import loop
from tollhouse.config.load import Config, load_config
from tollhouse.prices.kept import Snapshot
from tollhouse.share import Share
from tollhouse.trust.ca import CertificateAuthority
from tollhouse.trust.leaf import LeafStore
from tollhouse.workers.channel import ChildChannel
from tollhouse.workers.generation import Generation
from tollhouse.workers.listening import Sockets
from tollhouse.workers.supervisor import Supervisor, freeze
from tollhouse.workers.systemd import Notifier


def say(text: str) -> None:
    """In one piece: several processes write there."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Maker:
    """`generation.Maker`."""

    def __init__(self, config: Path, size: int) -> None:
        self._config = config
        self._size = size

    def load(self) -> Config:
        return load_config(self._config)

    def generation(self, number: int, config: Config, before: Generation | None) -> Generation:
        if (self._config.parent / "fault").exists():
            raise RuntimeError("a fault of ours")
        sockets = before.sockets if before is not None else Sockets(self._size)
        return Generation(
            number,
            config,
            sockets.following(config),
            cast(CertificateAuthority, None),
            cast(LeafStore, None),
            cast(Snapshot, None),
            self._size,
        )

    def work(self, config: Config, share: Share, end: socket.socket) -> int:
        return loop.run(lambda: _work(self._config.parent, share, end))

    def attend(self, config: Config, end: socket.socket, admin: socket.socket | None) -> int:
        return loop.run(lambda: _attend(end))


async def _work(directory: Path, share: Share, end: socket.socket) -> int:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    if share.number == 1 and (directory / "nonsense").exists():
        end.sendall(b'no JSON\n[]\n{}\n{"kind":"result"}\n{"kind":"status"}\n')
    channel = await ChildChannel.open(end)
    heeding = asyncio.create_task(_heed(channel, stopping))
    channel.send({"kind": "prepared"})
    crash, hang = directory / f"crash-{share.number}", directory / f"hang-{share.number}"
    while not stopping.is_set():
        channel.send({"kind": "status", "status": {"reasons": []}})
        if crash.exists():
            os._exit(7)
        if hang.exists():
            hang.unlink()
            say(f"hangs {os.getpid()}")
            _stand_still()
        try:
            await asyncio.wait_for(stopping.wait(), 0.1)
        except TimeoutError:
            pass
    heeding.cancel()
    await channel.close()
    return 0


async def _heed(channel: ChildChannel, stopping: asyncio.Event) -> None:
    async for message in channel.messages():
        match message["kind"]:
            case "apply":
                channel.send({"kind": "applied"})
            case "open":
                channel.send({"kind": "ready"})
            case "retire":
                stopping.set()
    stopping.set()


def _stand_still() -> None:
    time.sleep(3600)


async def _attend(end: socket.socket) -> int:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    channel = await ChildChannel.open(end)
    said: Any = None
    while not stopping.is_set():
        channel.send({"kind": "beat"})
        channel.send({"kind": "ask", "what": "workers", "id": 1})
        async for message in channel.messages():
            if message["kind"] == "answer":
                rows = [(row["worker"], row["pid"], row["state"]) for row in message["result"]]
                break
            if said != (said := (message["reasons"], message["warnings"])):
                say(f"status {'; '.join(message['reasons'] + message['warnings'])}")
        else:
            return 0
        say("workers " + " ".join(f"{number}:{pid}:{state}" for number, pid, state in rows))
        try:
            await asyncio.wait_for(stopping.wait(), 0.1)
        except TimeoutError:
            pass
    return 0


def main(config: Path, size: int, hung_s: float) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    made = Maker(config, size)
    real_fork = os.fork

    def fork() -> int:
        if (config.parent / "full").exists():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real_fork()

    os.fork = fork
    generation = made.generation(1, made.load(), None)
    freeze()
    return Supervisor(
        made,
        generation,
        say,
        cannot_start=(OSError, ValueError),
        notifier=Notifier(os.environ),
        hung_s=hung_s,
    ).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
