"""The documentation as a site: it is built without a warning, from what is here, and a reader's browser asks no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
IMAGES = sorted((DOCS / "images").iterdir())
LARGEST = 200_000
"""Bytes of a picture."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with every warning an error: a page that is not in the navigation, a link or an anchor that leads nowhere."""
    built = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)],
        cwd=ROOT,
        # A build that asked another host would fail: nobody listens there.
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "HTTP_PROXY": "http://127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return built


class _Fetched(HTMLParser):
    """What a browser fetches to show the page: scripts, styles, fonts, pictures. A link is followed by a reader, if at all."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        followed = tag == "a" or (
            tag == "link" and named.get("rel") in ("canonical", "next", "prev")
        )
        self.found += [
            value
            for name in ("src", "href", "srcset", "data", "poster")
            if (value := named.get(name)) and not followed
        ]


def test_every_page_is_there(site: Path) -> None:
    """Each page of docs/ at its path, README as the first one, and the others of the repository."""
    pages = {f"docs/{page.stem}" for page in DOCS.glob("*.md")}
    for page in (*pages, "", "SECURITY", "CHANGELOG", "certs", "policies", "policies/nftables"):
        assert (site / page / "index.html").is_file(), page
    # What is no page is there as it is.
    assert (site / "addons/tollhouse/gateway.py").read_bytes() == (
        ROOT / "addons/tollhouse/gateway.py"
    ).read_bytes()


def test_a_reader_asks_no_other_host(site: Path) -> None:
    for file in site.rglob("*.html"):
        parser = _Fetched()
        parser.feed(file.read_text())
        assert parser.found
        assert [url for url in parser.found if urlsplit(url).netloc] == [], file
    for file in site.rglob("*.css"):
        assert (
            re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", file.read_text()) == []
        )
    for file in site.rglob("*.svg"):
        assert re.findall(r"(?:url\(|href=)[\"']?(?:https?:)?//[^)\"']*", file.read_text()) == []


def test_lists_and_tables_are_such(site: Path) -> None:
    """Markdown that the repository's pages are written in is understood by the site: no row and no item is left as text."""
    for file in site.rglob("index.html"):
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", file.read_text(), flags=re.DOTALL)
        assert re.findall(r"^(?:<p>)?(?:- |\d+\. |\|-)\S*", text, re.MULTILINE) == [], file


def test_the_three_readers_are_led() -> None:
    """README leads each to a page, which begins with the first five minutes and is the first of its part of the navigation."""
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    parts = yaml.safe_load(re.sub(r"!!\S+", "", (ROOT / "mkdocs.yml").read_text()))["nav"]
    for reader in ("developers", "platform-engineers", "security-reviewers"):
        page = f"docs/for-{reader}.md"
        assert f"]({page})" in readme
        assert "\n## The first five minutes\n" in (ROOT / page).read_text()
        [first] = [
            each[0]["The first five minutes"]
            for part in parts
            for name, each in part.items()
            if name == f"For {reader.replace('-', ' ')}"
        ]
        assert first == page


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.name)
def test_pictures(file: Path) -> None:
    """Each is shown by a page, and is small."""
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    assert any(f"images/{file.name})" in page.read_text() for page in pages)
    assert file.stat().st_size < LARGEST
