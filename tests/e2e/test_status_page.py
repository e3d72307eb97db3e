"""The status page in a browser: Debian's Chromium, by real clicks, and axe-core's rules of accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.requires import program

pytestmark = pytest.mark.requires("chromium")

HOSTILE = "<img src=x onerror=alert(1)>"
NEAR = "proj_near"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway with some calls: one that was refused, and one project whose limit is nearly used up."""
    settings: dict[str, dict[str, Any]] = {
        "projects.proj_empty": {"tenant": "acme", "limits": ["0.000001 usd/day"]},
        f"projects.{NEAR}": {"tenant": "acme", "limits": ["7 requests/day"]},
    }
    with open_inside(tmp_path_factory.mktemp("browser"), settings) as inside:
        for number in range(6):
            ask(inside, NEAR, "agent-7f3a", "gpt-4.1", 9_000 * number)
        ask(inside, PROJECT, HOSTILE, "gpt-4o", 120_000)
        ask(inside, PROJECT, "nightly-eval", "gpt-4o-mini", 60_000)
        ask(inside, "proj_empty")
        inside.do(inside.gateway.uncharged.flush())
        yield inside


def perform(inside: Inside, name: str, **arguments: Any) -> Any:
    return inside.do(inside.gateway.operations.perform(name, arguments))


def ask(
    inside: Inside, project: str, session: str = "", model: str = "gpt-4o-mini", words: int = 1
) -> None:
    token = perform(inside, "token_create", projects=[project])["token"]
    httpx2.post(
        f"http://{inside.gateway.addresses['base_url']}/v1/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": "word " * words}],
            "max_completion_tokens": 20,
        },
        headers={"Authorization": f"Bearer {token}", "x-session-id": session},
        trust_env=False,
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root Chromium starts no sandbox.
        opened = playwright.chromium.launch(
            executable_path=str(program("chromium")), args=["--no-sandbox"]
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, shared: Inside, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A browser's tab that was logged in by typing a token."""
    context = browser.new_context(
        base_url=f"http://{shared.gateway.addresses['admin']}", **getattr(request, "param", {})
    )
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    tab.goto("/")
    tab.get_by_label("Token").fill(perform(shared, "viewer_create")["token"])
    tab.get_by_role("button", name="Log in").click()
    tab.get_by_role("heading", name="Budgets").wait_for()
    yield tab
    context.close()
    assert wrong == []


SIZES = [
    pytest.param({"color_scheme": "light"}, id="light"),
    pytest.param({"color_scheme": "dark"}, id="dark"),
    pytest.param({"viewport": {"width": 390, "height": 844}, "is_mobile": True}, id="phone"),
    pytest.param({"java_script_enabled": False}, id="without-javascript"),
]


@pytest.mark.parametrize("page", SIZES, indirect=True)
def test_what_is_seen(page: Any, shared: Inside) -> None:
    """Spend, a limit that is nearly used up, a refusal and what to do, and a session's name as text; days are chosen by a
    click; nothing is wider than the screen."""
    near = page.get_by_role("row", name=f"project:{NEAR}")
    assert "85 %, nearly used up" in near.first.inner_text()
    refused = page.get_by_role("row", name="budget_exceeded")
    assert "Lower the output cap" in refused.first.inner_text()
    assert page.get_by_text(HOSTILE).count() == 1
    assert page.locator("main img").count() == 0
    page.get_by_role("link", name="7 days").click()
    assert page.url.endswith("/?days=7")
    assert page.get_by_role("link", name="7 days").get_attribute("aria-current") == "page"
    width = page.viewport_size["width"]
    assert page.locator("body").bounding_box()["width"] <= width


@pytest.mark.parametrize("page", SIZES[:3], indirect=True)
def test_accessibility(page: Any) -> None:
    """axe-core finds nothing (https://github.com/dequelabs/axe-core), on the page and on the login."""
    from axe_playwright_python.sync_playwright import Axe

    page.get_by_text("As a table").click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Token").wait_for()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_live(page: Any, shared: Inside) -> None:
    """A call is seen without a click, and a session whose token is revoked says that it is over."""
    page.get_by_text("Live.").wait_for()
    ask(shared, PROJECT)
    done = shared.lines()[-1]["call_id"]
    page.get_by_text(done).wait_for()
    for info in perform(shared, "token_list"):
        if not info["projects"] and info["revoked_at"] is None:
            perform(shared, "token_revoke", token_id=info["id"])
    page.get_by_text("The session has ended").wait_for()
    page.reload()
    page.get_by_label("Token").wait_for()
