"""The listening sockets: one for each worker, kept over generations and programs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tollhouse.config.load import Config, load_config
from tollhouse.demo.gateway_config import write_config
from tollhouse.workers.listening import CannotListen, Sockets


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    def make(**listen: str) -> Config:
        return load_config(write_config(tmp_path, None, {"listen": listen}))

    return make


@pytest.fixture
def opened(configure: Callable[..., Config]) -> Iterator[Sockets]:
    sockets = Sockets(2).following(configure())
    yield sockets
    sockets.close()


def test_each_worker_has_its_own_at_one_address(opened: Sockets) -> None:
    """Two sockets with one port, which is free to others of no kind."""
    [one], [other] = (opened.of_worker(slot)["proxy"] for slot in (0, 1))
    assert one is not other
    assert one.getsockname() == other.getsockname()
    assert opened.addresses()["proxy"] == f"127.0.0.1:{one.getsockname()[1]}"
    assert opened.admin is not None
    assert set(opened.addresses()) == {"proxy", "base_url", "admin"}


def test_what_has_not_changed_is_kept(opened: Sockets, configure: Callable[..., Config]) -> None:
    """The same sockets follow where the address is the same; a new address is bound, an old one is closed with the old ones."""
    following = opened.following(configure(base_url="127.0.0.2:0"))
    assert following.of_worker(1)["proxy"] == opened.of_worker(1)["proxy"]
    assert following.addresses()["base_url"].startswith("127.0.0.2:")
    old = opened.of_worker(0)["base_url"][0]
    opened.close(kept=following)
    assert old.fileno() == -1
    assert following.of_worker(0)["proxy"][0].fileno() >= 0
    following.close()


@pytest.mark.parametrize("option", [None, socket.SO_REUSEPORT])
def test_an_address_that_is_taken(configure: Callable[..., Config], option: int | None) -> None:
    """Also where the other program would share it; nothing that was bound before stays open."""
    with closing(socket.socket()) as other:
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(CannotListen, match=r"listen\.base_url: .* cannot be listened on"):
            Sockets(2).following(configure(base_url=f"127.0.0.1:{other.getsockname()[1]}"))
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_across_a_program(opened: Sockets) -> None:
    """Packed and unpacked they are the same sockets by their descriptors."""
    packed = opened.packed()
    again = Sockets.unpacked(2, packed)
    try:
        assert again.addresses() == opened.addresses()
        assert not any(os.get_inheritable(one.fileno()) for one in again.of_worker(0)["proxy"])
        assert again.of_worker(1)["proxy"][0].fileno() == opened.of_worker(1)["proxy"][0].fileno()
    finally:
        for kinds in (again.of_worker(0), again.of_worker(1)):
            for sockets in kinds.values():
                for one in sockets:
                    one.detach()
        if again.admin is not None:
            again.admin.detach()


def test_sockets_of_a_unit(configure: Callable[..., Config]) -> None:
    """They go round the workers; a listener without one is bound as the file says; a name that is none is refused."""
    given = [("proxy", socket.create_server(("127.0.0.1", 0)))]
    sockets = Sockets.of_unit(2, given).following(configure())
    assert sockets.of_worker(0)["proxy"] == sockets.of_worker(1)["proxy"] == (given[0][1],)
    assert "base_url" in sockets.addresses()
    with pytest.raises(ValueError, match="FileDescriptorName="):
        Sockets.of_unit(2, [("web", given[0][1])])
    sockets.close()
