"""The way to a receiver, over real TLS: guarded, no redirect, bounded, and without a secret in what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.alerts.test_webhooks import OTHER, SECRET
from tests.support.connect_proxy import ConnectProxy
from tests.support.webhook_receiver import WebhookReceiver, webhook_receiver

from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.receiver import Interest, Receiver, WebhookPlace
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.secret import Secret
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.providers import UpstreamProxy

URL_SECRET = "the-url-is-a-secret"
BODY = AlertEvent("alert.test", ("x",), 0.0, 0.0, {"test": True}).body


class Stored:
    """The store of secrets."""

    def __init__(self, **fields: str) -> None:
        self.fields = fields

    async def get(self, path: str, *names: str) -> tuple[Secret, ...]:
        if missing := [name for name in names if name not in self.fields]:
            raise CredentialUnavailable(f"There is no text in {missing[0]!r} at {path}.")
        return tuple(Secret(self.fields[name]) for name in names)


@pytest.fixture
def server() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as made:
        yield made


@pytest.fixture
def place(server: WebhookReceiver, tmp_path: Path) -> WebhookPlace:
    url = f"https://localhost:{server.port}/{URL_SECRET}"
    ca = server.write_ca(tmp_path / "ca.pem")
    return WebhookPlace(url, ca_file=ca, allow_private=True)


def receiver(place: WebhookPlace, stored: Stored | None = None, **more: Any) -> Receiver:
    return Receiver("a", "generic", Interest(), place, stored or Stored(), **more)


async def told(place: WebhookPlace, stored: Stored | None = None, **more: Any) -> Any:
    one = receiver(place, stored, **more)
    try:
        found = await one.tell("msg_1", BODY)
    finally:
        await one.close()
    assert URL_SECRET not in repr((found, one, place))
    return found


async def test_it_is_told(server: WebhookReceiver, place: WebhookPlace, tmp_path: Path) -> None:
    """By files: the URL and two secrets, of which each verifies."""
    (tmp_path / "url").write_text(place.url + "\n")
    (tmp_path / "signing").write_text(f"{OTHER}\n{SECRET}\n")
    by_files = replace(place, url="", url_file=tmp_path / "url", signing_file=tmp_path / "signing")
    assert await told(by_files) == (204, "", 0.0, False)
    [request] = server.received
    assert request.path == f"/{URL_SECRET}"
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(request.body, request.headers)


async def test_by_the_store(server: WebhookReceiver, place: WebhookPlace) -> None:
    """URL and secret are read from it; what it lacks is said."""
    stored = Stored(url=place.url, signing_secret=SECRET)
    by_store = replace(place, url="", path="alerts/a", fields=("url", "signing_secret"))
    assert (await told(by_store, stored)).status == 204
    Webhook(SECRET).verify(server.received[0].body, server.received[0].headers)
    why = (await told(by_store, Stored(url=place.url))).why
    assert why == "There is no text in 'signing_secret' at alerts/a."
    for wrong in ("http://localhost/x", "https://user:word@localhost/x", "nothing"):
        found = await told(by_store, Stored(url=wrong, signing_secret=SECRET))
        assert found.why.startswith("The URL ")
        assert wrong not in found.why
    assert len(server.received) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "169.254.169.254"])
async def test_addresses_that_are_not_public(
    server: WebhookReceiver, place: WebhookPlace, host: str
) -> None:
    """As providers': refused unless the file says otherwise, and a metadata address always."""
    url = f"https://{host}:{server.port}/{URL_SECRET}"
    found = await told(replace(place, url=url, allow_private=host == "169.254.169.254"))
    assert found.status == 0
    assert "address" in found.why
    assert server.received == []


async def test_no_redirect_is_followed(server: WebhookReceiver, place: WebhookPlace) -> None:
    server.answers, server.headers = [302], {"Location": place.url}
    assert await told(place) == (
        302,
        "The receiver answered 302: its own log says why.",
        0.0,
        False,
    )
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("status", "header", "wait", "gone"),
    [
        (410, "", 0.0, True),
        (404, "60", 0.0, False),
        (429, "60", 60.0, False),
        (503, "Thu, 01 Jan 1970 00:01:40 GMT", 90.0, False),
        (503, "9999999", 3600.0, False),
        (503, "soon", 0.0, False),
        (503, "-1", 0.0, False),
    ],
)
async def test_what_it_answers(
    server: WebhookReceiver,
    place: WebhookPlace,
    status: int,
    header: str,
    wait: float,
    gone: bool,
) -> None:
    server.answers, server.headers = [status], {"Retry-After": header}
    found = await told(place, wall_clock=lambda: 10.0)
    assert found[1].startswith(f"The receiver answered {status}: ")
    assert (found[0], *found[2:]) == (status, wait, gone)


async def test_one_that_hangs(server: WebhookReceiver, place: WebhookPlace) -> None:
    """It is given up in time, and in no longer."""
    server.hang()
    found = await told(place, bound_s=0.2)
    assert (found.status, found.retry_after_s) == (0, 0.0)
    assert "in time" in found.why or "0.2 s" in found.why


async def test_an_answer_without_end(server: WebhookReceiver, place: WebhookPlace) -> None:
    """Its head says that the receiver has it, and is all that is read."""
    server.answers, server.headers = [200], {"Transfer-Encoding": "chunked"}
    assert await told(place) == (200, "", 0.0, False)


async def test_through_a_proxy(server: WebhookReceiver, place: WebhookPlace) -> None:
    """It asks for the receiver by its name, which the proxy looks up, and TLS is the receiver's."""
    tunnels = ProxyTunnels(Stored())
    url = f"https://localhost:{server.port}/{URL_SECRET}"
    with ConnectProxy({f"localhost:{server.port}": ("127.0.0.1", server.port)}) as proxy:
        way = UpstreamProxy("localhost", proxy.port, False)
        found = await told(
            replace(place, url=url), connector=lambda host: tunnels.connector(way, host)
        )
        unknown = await told(
            replace(place, url="https://nobody.example/x"),
            connector=lambda host: tunnels.connector(way, host),
        )
    await tunnels.close()
    assert found.status == 204
    assert [one.split()[1] for one in proxy.asked] == [
        f"localhost:{server.port}",
        "nobody.example:443",
    ]
    assert unknown.status == 0
    assert unknown.why


async def test_two_at_a_time(server: WebhookReceiver, place: WebhookPlace) -> None:
    one = receiver(place)
    found = await asyncio.gather(*(one.tell(f"msg_{n}", BODY) for n in range(2)))
    await one.close()
    assert [each.status for each in found] == [204, 204]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "", "url_file": "missing"}, "to_file names can't be read"),
        ({"url": ""}, "There is no URL: give to, to_file, or secret with the field url."),
        ({"signing_file": "missing"}, "signing_secret_file names can't be read"),
        ({"signing_file": "ca.pem"}, "has not the form of one"),
        ({"ca_file": None}, "certificate can't be verified"),
        ({"url": "https://localhost:1/x"}, "can't be reached"),
    ],
)
async def test_what_keeps_it_from_being_told(
    server: WebhookReceiver,
    place: WebhookPlace,
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
) -> None:
    paths = {
        key: tmp_path / value for key, value in change.items() if key.endswith("_file") and value
    }
    assert words in (await told(replace(place, **{**change, **paths}))).why
    assert server.received == []
