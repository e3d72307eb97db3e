"""SECURITY.md rows 9 and 10: where a provider's name leads."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.support.attack import BODY, GET, HOST, Attacked, begin, post, watched
from tests.support.gateway import REAL_KEY
from tests.support.inproc import Inside, open_inside

from tollhouse.demo.standin import StandIn

NAME = "provider.test"


class Answering(AbstractResolver):
    """What the name server says, in turn; its last answer stays."""

    answers: ClassVar[list[list[str]]] = []
    asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        assert host == NAME
        type(self).asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6
                if ipaddress.ip_address(one).version == 6
                else socket.AF_INET,
                proto=6,
                flags=0,
            )
            for one in found
        ]

    async def close(self) -> None: ...


def opened(directory: Path, standin: StandIn, **entry: object) -> Iterator[Inside]:
    provider = {"connect_to": f"{NAME}:{standin.port}", "attempts": 1, **entry}
    with open_inside(
        directory,
        {"providers.openai": provider},
        standin=standin,
        resolver_factory=Answering,
    ) as inside:
        yield inside


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A provider that is somewhere on the internet, says the file; the stand-in is where loopback answers lead."""
    with StandIn(key=REAL_KEY, hosts=(HOST,)) as standin:
        yield from opened(tmp_path_factory.mktemp("public"), standin, allow_private=False)


@pytest.fixture
def attacked(public: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(public, caplog)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],
        ["::1"],
        ["fc00::1"],
        ["fe80::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["8.8.8.8", "127.0.0.1"],
    ],
    ids="+".join,
)
def test_a_name_that_leads_inside(attacked: Attacked, addresses: list[str]) -> None:
    """Row 9: a call is refused, nothing is dialled, and the hold is given back; one bad address spoils a good one beside it."""
    Answering.answers = [addresses]
    with attacked.tunnel() as client:
        answer = client.ask(post(BODY))
    attacked.refused(answer, 502, "upstream_address_refused", dialled=True)
    assert attacked.inside.standin.dialled == 0


def test_the_address_that_was_judged_is_dialled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 10: a name server that says another address the second time is not asked a second time."""
    with StandIn(key=REAL_KEY, hosts=(HOST,)) as standin:
        for inside in opened(tmp_path, standin, allow_private=True):
            Answering.answers, Answering.asked = [["127.0.0.1"], ["169.254.169.254"]], 0
            view = begin(inside)
            with view.tunnel() as client:
                assert client.ask(GET).status == 200
            view.clean()
            [line] = view.lines(1)
            assert (line["reason"], Answering.asked) == ("", 1)
