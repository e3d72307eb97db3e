"""`tollhouse check`: the collector of telemetry."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.programs import free_port

from tollhouse.check.collector import check_collector
from tollhouse.check.finding import Finding
from tollhouse.config.load import Config, load_config

STORES = '[vault]\naddress = "embedded"\n[redis]\nurl = "embedded"\n'


def configured(directory: Path, endpoint: str) -> Config:
    file = directory / "tollhouse.toml"
    file.write_text(f'{STORES}[otel]\nendpoint = "{endpoint}"\n')
    return load_config(file)


async def test_without_one(tmp_path: Path) -> None:
    file = tmp_path / "tollhouse.toml"
    file.write_text(STORES)
    assert await check_collector(load_config(file)) == []


async def test_one_that_answers(tmp_path: Path) -> None:
    """It is sent a request without spans; one that refuses it is said with its status."""
    with OtlpReceiver() as receiver:
        config = configured(tmp_path, receiver.endpoint)
        [found] = await check_collector(config)
        assert found == Finding("ok", f"The OTLP collector at {receiver.endpoint} takes spans.")
        assert [path for path, _ in receiver.requests] == ["/v1/traces"]
        receiver.status = 401
        [found] = await check_collector(config)
        assert (found.level, found.why.partition(".")[0]) == ("warn", "it answers 401")


async def test_one_that_is_away(tmp_path: Path) -> None:
    """The gateway would run."""
    [found] = await check_collector(configured(tmp_path, f"http://127.0.0.1:{free_port()}"))
    assert found.level == "warn"
    assert "Connection refused" in found.why
    assert "The gateway runs all the same" in found.why


@pytest.mark.parametrize(("name", "warned"), [("collector.invalid", True), ("localhost", False)])
async def test_a_credential_over_plain_http(tmp_path: Path, name: str, warned: bool) -> None:
    """Said, where it would cross a network."""
    config = configured(tmp_path, f"http://{name}:{free_port()}")
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20a"}
    found = await check_collector(config, environ)
    assert any("crosses the network readable" in one.why for one in found) is warned
