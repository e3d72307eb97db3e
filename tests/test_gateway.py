"""Starting and stopping: what cannot start says so in one line and leaves nothing open, and what runs stops in order."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.attack import BODY, begin, post
from tests.support.inproc import open_inside
from tests.support.lines import lines_of
from tests.support.redis_server import RedisServer, free_port
from tollhouse.call import Covered
from tollhouse.cannot_start import CANNOT_START, GatewayError
from tollhouse.config.load import Config
from tollhouse.demo.gateway_config import Settings
from tollhouse.demo.standin_script import Behaviour, Steps
from tollhouse.gateway import Gateway


def listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def nothing_is_open(gateway: Gateway, config: Config) -> None:
    """No port, no socket, no task."""
    assert not any(listening(address) for address in gateway.addresses.values() if address != "off")
    assert not (config.state.directory / "control.sock").exists()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def broken_ledger(config: Config) -> None:
    (config.state.directory / "ledger.json").write_text("{")


def broken_vault(config: Config) -> None:
    (config.state.directory / "vault.enc").write_text("x")


FAILURES: dict[str, tuple[Settings, Callable[[Config], None], str]] = {
    "a CA that is not there": (
        {"ca": {"cert_file": "none.pem", "key_file": "none-key.pem"}},
        lambda config: None,
        "none.pem",
    ),
    "a CA that reaches too little": (
        {"providers.vllm": {"family": "openai", "hosts": ["llm.example"]}},
        lambda config: None,
        "llm.example",
    ),
    "lines into a directory that is not there": (
        {"log": {"calls": "none/calls.jsonl"}},
        lambda config: None,
        "log.calls",
    ),
    "an embedded ledger that is broken": ({}, broken_ledger, "ledger.json"),
    "a provider's roots that are not there": (
        {"providers.openai": {"ca_file": "none.pem"}},
        lambda config: None,
        "providers.openai",
    ),
    "the admin port is taken": (
        {"listen": {"admin": "TAKEN"}},
        lambda config: None,
        "listen.admin",
    ),
    "the proxy port is taken": (
        {"listen": {"proxy": "TAKEN"}},
        lambda config: None,
        "listen.proxy",
    ),
    "the base URL's port is taken": (
        {"listen": {"base_url": "TAKEN"}},
        lambda config: None,
        "listen.base_url",
    ),
    "a listener's certificate that is none": (
        {"listen": {"tls": {"cert_file": "tollhouse.toml", "key_file": "tollhouse.toml"}}},
        lambda config: None,
        "[listen] tls",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_cannot_start(
    configure: Callable[..., Config], taken: str, failure: str
) -> None:
    """It says what and where, and what had been opened before is closed."""
    settings, prepare, said = FAILURES[failure]
    if failure == "a CA that reaches too little":
        # Made for the built-in hosts alone.
        await _started_once(configure())
    config = configure(json.loads(json.dumps(settings).replace("TAKEN", taken)))
    prepare(config)
    gateway = Gateway(config)
    with pytest.raises(CANNOT_START) as error:
        await gateway.start()
    assert said in str(error.value)
    assert taken not in gateway.addresses.values()
    nothing_is_open(gateway, config)
    await gateway.stop()


async def _started_once(config: Config) -> None:
    gateway = Gateway(config)
    await gateway.start()
    await gateway.stop()


async def test_a_fault_of_ours_at_the_start(configure: Callable[..., Config]) -> None:
    """Anything else is not hidden in a sentence, and leaves nothing open either."""

    class Faulty(Gateway):
        async def open_listeners(self) -> None:
            raise RuntimeError("injected")

    config = configure()
    gateway = Faulty(config)
    with pytest.raises(RuntimeError, match="injected"):
        await gateway.start()
    nothing_is_open(gateway, config)


async def test_a_control_socket_that_is_answered(configure: Callable[..., Config]) -> None:
    """Another gateway on the same state directory, past the lock: it goes on, the second does not start."""
    first = Gateway(configure())
    await first.start()
    second = Gateway(configure())
    with pytest.raises(GatewayError, match="control socket"):
        await second.start()
    assert first.readiness.reasons() == []
    assert listening(first.addresses["proxy"])
    assert (first.config.state.directory / "control.sock").exists()
    await first.stop()
    nothing_is_open(first, first.config)


async def test_start_and_stop(configure: Callable[..., Config]) -> None:
    """Ready when it takes calls, nothing left behind, and a second stop does nothing."""
    config = configure()
    gateway = Gateway(config)
    assert gateway.readiness.reasons() == ["starting"]
    await gateway.start()
    assert gateway.readiness.reasons() == []
    assert all(listening(gateway.addresses[kind]) for kind in ("proxy", "base_url", "admin"))
    await gateway.stop()
    assert gateway.readiness.reasons() == ["stopping"]
    nothing_is_open(gateway, config)
    await gateway.stop()


async def test_a_stop_before_the_start(configure: Callable[..., Config]) -> None:
    """There is nothing to close."""
    await Gateway(configure()).stop()


async def test_something_that_will_not_close(configure: Callable[..., Config]) -> None:
    """The rest is closed all the same."""

    async def boom() -> None:
        raise RuntimeError("injected")

    config = configure()
    gateway = Gateway(config)
    await gateway.start()
    gateway.on_stop(boom)
    await gateway.stop()
    nothing_is_open(gateway, config)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - after each turn of the loop
            await asyncio.sleep(0)


async def test_no_listener_before_the_stores_answer(
    configure: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Redis is away: it says so, takes nothing, and is ready once Redis is there; so again when it goes later."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.port = free_port()
    port = free_port()
    config = configure({"redis": {"url": server.url}, "listen": {"proxy": f"127.0.0.1:{port}"}})
    gateway = Gateway(config, health_every_s=0.0)
    starting = asyncio.ensure_future(gateway.start())
    await until(lambda: any("redis" in reason for reason in gateway.readiness.reasons()))
    assert not listening(f"127.0.0.1:{port}")
    assert not (gateway.config.state.directory / "control.sock").exists()
    with server:
        await starting
        assert gateway.readiness.reasons() == []
        assert listening(f"127.0.0.1:{port}")
        server.stop()
        await until(lambda: any("redis" in reason for reason in gateway.readiness.reasons()))
        server.start()
        await until(lambda: gateway.readiness.reasons() == [])
        assert (
            caplog.text.count("not ready, and every call is refused: redis")
            == caplog.text.count("ready again")
            >= 1
        )
        await gateway.stop()


async def test_a_stop_while_it_waits_for_the_stores(configure: Callable[..., Config]) -> None:
    """It ends the start, which raises nothing and opens nothing."""
    config = configure({"redis": {"url": f"redis://127.0.0.1:{free_port()}/0"}})
    gateway = Gateway(config)
    starting = asyncio.ensure_future(gateway.start())
    await until(lambda: any("redis" in reason for reason in gateway.readiness.reasons()))
    gateway.stopping.set()
    await starting
    assert gateway.addresses.keys() == {"admin"}
    await gateway.stop()
    nothing_is_open(gateway, config)


def test_it_is_not_ready_again_while_it_drains(tmp_path: Path) -> None:
    """The look at the ledger goes on, since holds are renewed to the last; it does not call the gateway ready."""
    with open_inside(tmp_path, health_every_s=0.0) as inside:
        steps = Steps()
        inside.standin.script(Behaviour(steps=steps))
        host, port = inside.gateway.addresses["base_url"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=20) as client:
            body = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"wait"}]}'
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (inside.token.encode(), len(body), body)
            )
            steps.release(1)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")

            async def stop() -> list[list[str]]:
                stopping = asyncio.ensure_future(inside.gateway.stop())
                seen = []
                for _ in range(200):
                    await asyncio.sleep(0)
                    seen.append(list(inside.gateway.readiness.reasons()))
                assert not stopping.done()
                steps.release_all()
                await stopping
                return seen

            seen = inside.do(stop())
        assert seen == [["stopping"]] * 200
        [line] = inside.lines()
        assert (line["charged_by"], line["reason"]) == ("usage", "")


class _Hanging:
    """A gate that hears nothing, behind the one that holds."""

    name = "hanging"
    gives = Covered

    async def __call__(self, covered: Covered, exchange: object) -> Covered:
        return await asyncio.get_running_loop().create_future()


def test_a_call_that_hangs_when_the_gateway_ends(tmp_path: Path) -> None:
    """It is cut while there are a ledger and a log: nobody could settle it behind that."""
    with open_inside(tmp_path, {"limits": {"drain_s": 0}}) as inside:
        journey, attacked = inside.gateway.journey, begin(inside)
        journey.gates = (*journey.gates, _Hanging())
        drained, cut, cuts = journey.drained, journey.cut, list[int]()

        async def at_once_before_the_cut(seconds: float | None) -> bool:
            return await drained(seconds if cuts or seconds is None else 0)

        def noted() -> int:
            cuts.append(cut())
            return cuts[-1]

        journey.drained, journey.cut = at_once_before_the_cut, noted  # type: ignore[method-assign]
        with attacked.tunnel() as client:
            client.send(post(BODY))
            inside.until(lambda gateway: bool(gateway.purse.held))
            purse = inside.gateway.purse
            inside.do(inside.gateway.stop())
            assert (cuts, len(purse.held)) == ([1], 0)
    [line] = lines_of(tmp_path / "calls.jsonl")
    assert (line["reason"], line["charged_by"], line["status"]) == ("stopped", "none", 0)
