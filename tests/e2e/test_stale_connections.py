"""A request that meets a connection which the provider has closed, through the running gateway. It is one that creates something,
so that it must not be sent twice."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.faulty import ClosingProvider, FaultyProvider, Wire
from tests.support.inproc import open_inside

from tollhouse.demo.standin_tls import make_server_tls
from tollhouse.dispatch.answer import Answer

HOST = "api.openai.com"
MADE = json.dumps(
    {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-4o-2024-08-06",
        "output": [],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
    MADE
)


@pytest.mark.skipif(sys.platform != "linux", reason="it asks Linux what was acknowledged")
@pytest.mark.parametrize(
    ("how", "repeated"), [(Wire.goodbye, True), (Wire.reset, False)], ids=["closed", "reset"]
)
def test_closed_before_the_request_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Wire], None], repeated: bool
) -> None:
    """Where it is proven that the provider has not read it, it is sent once more and charged once. Else it is given up, and is
    charged as one of unknown fate."""
    tls = make_server_tls([HOST], "good")
    (tmp_path / "closing-ca.pem").write_bytes(tls.ca_pem)
    serve = ClosingProvider(ANSWER + MADE, how)
    with FaultyProvider(serve, tls.context).running() as provider:
        entry = {
            "connect_to": f"127.0.0.1:{provider.port}",
            "allow_private": True,
            "ca_file": "closing-ca.pem",
        }
        with open_inside(tmp_path, {"providers.openai": entry}, placed=False) as inside:
            send = inside.gateway.upstream.send

            async def closed_meanwhile(*given: Any, on_leaving: Any, **more: Any) -> Answer:
                """The connection is closed behind the last look at it, and before the first byte of the request."""

                def leaving() -> None:
                    on_leaving()
                    if len(serve.read) == 1:
                        serve.close()

                return await send(*given, on_leaving=leaving, **more)

            with httpx2.Client(
                proxy=inside.proxy_url, verify=inside.context, trust_env=False, timeout=30
            ) as client:

                def ask() -> httpx2.Response:
                    return client.post(
                        f"https://{HOST}/v1/responses", json={"model": "gpt-4o", "input": "kept"}
                    )

                assert ask().status_code == 200
                monkeypatch.setattr(inside.gateway.upstream, "send", closed_meanwhile)
                answer = ask()
            line = inside.lines()[-1]
            assert inside.held() == []
    outcomes = [(one["outcome"], one.get("unknown", False)) for one in line["attempts"]]
    if repeated:
        assert (answer.status_code, len(serve.read)) == (200, 2)
        assert outcomes == [("upstream_unreachable", False), ("200", False)]
        assert (line["charged_by"], line["attempts_unknown"]) == ("usage", 0)
    else:
        assert (answer.status_code, len(serve.read)) == (502, 1)
        assert answer.headers["x-should-retry"] == "false"
        assert "see whether it has" in answer.json()["error"]["message"]
        assert (line["charged_by"], line["attempts_unknown"]) == ("estimate", 1)
