"""The pictures of docs/images, of real runs on this machine: `uv run python -m docs.site.pictures`, in the repository's directory.

The status page is one of a running gateway, in Debian's Chromium. The terminal's pictures are what `tollhouse demo` and
`tollhouse top` print to a terminal. Times, ids and tokens in them are those of the run; the tokens are worth nothing after it.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from rich.console import Console
from rich.text import Text
from tests.support.gateway import REAL_KEY, Road, open_road
from tests.support.requires import program

from tollhouse.demo.standin import StandIn

_IMAGES: Final = Path(__file__).parents[1] / "images"
_HOSTS: Final = {
    "openai": ("api.openai.com", "v1/chat/completions"),
    "anthropic": ("api.anthropic.com", "v1/messages"),
}
_PROJECTS: Final = {
    "web-chat": ("1 usd/day", "8 concurrent"),
    "nightly-eval": ("2 usd/day", "200_000 tokens/day"),
    "support-agent": ("0.10 usd/day",),
}
# Project, provider, model, session, words of the prompt. The last is more than its project has left.
_CALLS: Final = (
    ("web-chat", "openai", "gpt-4o", "", 90_000),
    ("web-chat", "openai", "gpt-4o", "", 60_000),
    ("web-chat", "openai", "gpt-4.1", "", 40_000),
    ("web-chat", "anthropic", "claude-sonnet-5", "", 30_000),
    ("nightly-eval", "openai", "gpt-4o-mini", "run-1129", 100_000),
    ("nightly-eval", "openai", "gpt-4.1", "run-1129", 45_000),
    ("support-agent", "anthropic", "claude-sonnet-5", "ticket-4711", 25_000),
    ("support-agent", "anthropic", "claude-sonnet-5", "ticket-4712", 18_000),
    ("support-agent", "anthropic", "claude-sonnet-5", "ticket-4713", 20_000),
)
_SIZES: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1120, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1120, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True},
}


@contextmanager
def _used_gateway(directory: Path) -> Iterator[Road]:
    """A gateway whose projects have made `_CALLS` to the stand-in."""
    hosts = ("localhost", *(host for host, _ in _HOSTS.values()))
    with StandIn(key=REAL_KEY, hosts=hosts) as standin:
        own = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
        }
        settings: Any = {f"providers.{name}": own for name in _HOSTS}
        with open_road(directory, settings, standin=standin, project="web-chat") as road:
            road.gateway.tollhouse("key", "set", "anthropic", stdin=REAL_KEY)
            tokens = {}
            for project, limits in _PROJECTS.items():
                road.gateway.make_project(project, *limits)
                tokens[project] = road.gateway.make_token(project)
            for project, provider, model, session, words in _CALLS:
                host, path = _HOSTS[provider]
                httpx2.post(
                    f"https://{host}/{path}",
                    json={
                        "model": model,
                        "messages": [{"role": "user", "content": "word " * words}],
                        "max_tokens": 400,
                    },
                    headers={
                        "anthropic-version": "2023-06-01",
                        **({"x-session-id": session} if session else {}),
                    },
                    proxy=road.gateway.proxy_url(project, tokens[project]),
                    verify=road.context,
                    trust_env=False,
                    timeout=60,
                )
            road.wait_lines(len(_CALLS))
            yield road


def _printed(*arguments: str, width: int, **environ: str) -> str:
    """What `tollhouse` prints to a terminal, with its colours."""
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tollhouse", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        # What it waits for is drawn there.
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "TERM": "xterm-256color",
            "COLUMNS": str(width),
            "LINES": "60",
            **environ,
        },
    ) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(mine, 65_536):
                said += piece
        except OSError:
            # Linux ends a terminal that nobody has open any more with EIO.
            pass
    os.close(mine)
    if process.returncode:
        raise SystemExit(f"tollhouse {' '.join(arguments)}: {said.decode()}")
    return said.decode().replace("\r\n", "\n")


def _as_svg(name: str, title: str, printed: str, width: int) -> None:
    """As a terminal shows it, in the reader's own monospace: rich names a font of another host."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=width, file=nowhere, force_terminal=True)
        # The picture cuts the last line a little.
        console.print(Text.from_ansi(printed.strip("\n") + "\n"), overflow="ellipsis", no_wrap=True)
    drawn = console.export_svg(title=title, unique_id=name)
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", "monospace").replace("arial", "sans-serif")
    (_IMAGES / f"{name}.svg").write_text(drawn)


def _page(road: Road) -> None:
    """The status page, as its viewers see it, light, dark and on a phone."""
    from playwright.sync_api import sync_playwright

    token = road.gateway.tollhouse("token", "create", "--view").split()[-1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox"]
        )
        for name, size in _SIZES.items():
            context = browser.new_context(base_url=f"http://{road.gateway.admin}", **size)
            tab = context.new_page()
            tab.goto("/")
            tab.get_by_label("Token").fill(token)
            tab.get_by_role("button", name="Log in").click()
            tab.get_by_role("heading", name="Budgets").wait_for()
            tab.get_by_role("link", name="7 days").click()
            tab.screenshot(path=_IMAGES / f"{name}.png")
            context.close()
        browser.close()


def main() -> None:
    _IMAGES.mkdir(exist_ok=True)
    # The first act of six.
    demo = re.split(r"\n[^\n]*2\. ", _printed("demo", width=110))[0]
    _as_svg("demo", "tollhouse demo", demo, 110)
    with tempfile.TemporaryDirectory() as directory, _used_gateway(Path(directory)) as road:
        config = str(road.gateway.config)
        top = _printed("top", "--once", width=132, TOLLHOUSE_CONFIG=config)
        _as_svg("top", "tollhouse top", top, 132)
        _page(road)


if __name__ == "__main__":
    main()
