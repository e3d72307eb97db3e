"""Prices through the running gateway: the line names them, and newer ones are taken without a restart."""

from __future__ import annotations

import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from tests.e2e.test_sdk import CHAT, cost_of
from tests.support.gateway import Road, open_road
from tests.support.price_file import price_file

from tollhouse.demo import standin_answers as answers
from tollhouse.prices.source import version_of


def a_call(road: Road) -> None:
    with road.sdk() as client:
        client.chat.completions.create(**CHAT)


def update(road: Road, file: Path) -> subprocess.CompletedProcess[str]:
    config = road.directory / "tollhouse.toml"
    command = [sys.executable, "-m", "tollhouse", "prices", "update", "--config", str(config)]
    return subprocess.run(
        [*command, "--from", str(file)], capture_output=True, text=True, check=False
    )


def test_newer_prices_hold_at_once(tmp_path: Path) -> None:
    """A call is charged by genai-prices' release, and the next one by the file that was taken between them. A broken file
    changes nothing."""
    usage = answers.chat_usage(CHAT)
    newer, broken = tmp_path / "newer.json", tmp_path / "broken.json"
    newer.write_bytes(price_file(100))
    broken.write_bytes(price_file(200)[:-9])
    with open_road(tmp_path / "road") as road:
        a_call(road)
        done = update(road, newer)
        assert done.returncode == 0, done.stderr
        assert "the running gateway uses it" in done.stderr
        a_call(road)
        refused = update(road, broken)
        assert (refused.returncode, refused.stdout) == (1, "")
        road.gateway.signal(signal.SIGHUP)
        a_call(road)
        before, after, last = road.wait_lines(3)
    dearer = Decimal(usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 200) / 10**6
    assert (before["price"], Decimal(before["cost_usd"])) == (
        f"genai-prices {version_of()}",
        cost_of(CHAT),
    )
    assert after["price"].startswith("genai-prices file ")
    assert Decimal(after["cost_usd"]) == Decimal(last["cost_usd"]) == dearer
    assert last["price"] == after["price"]
