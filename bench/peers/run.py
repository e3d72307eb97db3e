"""One run: every peer is started, each round measures all of them in turn, and the races come last."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.bed import say
from bench.peers.install import Unavailable
from bench.peers.measure import Size, direct, of_peer, warm
from bench.peers.peer import Peer, Place, Running
from bench.peers.race import CALLS, Raced, race
from bench.peers.table import Round, Row


def run(
    peers: Sequence[Peer], directory: Path, provider_port: int, size: Size
) -> tuple[list[Row], Round]:
    """The rows, and the milliseconds of a call with no gateway in the last round."""
    rounds: dict[str, list[Round]] = {one.key: [] for one in peers}
    races: dict[str, list[Raced]] = {one.key: [] for one in peers}
    why: dict[str, str] = {}
    runs: dict[str, Running] = {}
    straight: Round = {}
    with ExitStack() as stack:
        for peer in peers:
            say(f"peers: {peer.name}, {peer.way}")
            with _faults(peer, why):
                place = _place(directory, peer, provider_port)
                runs[peer.key] = stack.enter_context(peer.run(place))
                warm(runs[peer.key], size)
        for number in range(size.rounds):
            say(f"peers: round {number + 1} of {size.rounds}")
            straight = direct(provider_port, size)
            for peer in peers:
                if peer.key not in why:
                    with _faults(peer, why):
                        rounds[peer.key].append(of_peer(runs[peer.key], straight, size))
        for peer in peers:
            if peer.key not in why:
                say(f"peers: {CALLS} calls at once, {peer.name}, {peer.way}")
                with _faults(peer, why):
                    races[peer.key] += _races(runs[peer.key], provider_port)
    return [
        Row(
            one,
            () if len(rounds[one.key]) < size.rounds else tuple(rounds[one.key]),
            tuple(races[one.key]),
            why.get(one.key, ""),
        )
        for one in peers
    ], straight


def _races(running: Running, provider_port: int) -> list[Raced]:
    """Of a peer with no budgets: with the way that has no limit."""
    if not running.races:
        return [race(running.way, provider_port, "no budgets")]
    found = []
    for one in running.races:
        with one.opened() as way:
            found.append(race(way, provider_port, one.budget))
    return found


@contextmanager
def _faults(peer: Peer, why: dict[str, str]) -> Iterator[None]:
    """A peer that fails is a row that says why, and the others go on."""
    try:
        yield
    except Unavailable as fault:
        why[peer.key] = str(fault)
    except Exception as fault:
        why[peer.key] = f"failed: {type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
    if peer.key in why:
        say(f"peers: {peer.name}: {why[peer.key]}")


def _place(directory: Path, peer: Peer, provider_port: int) -> Place:
    home = directory / peer.key
    home.mkdir()
    shutil.copyfile(directory / "provider.pem", home / "provider.pem")
    return Place(home, provider_port)
