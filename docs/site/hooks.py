"""The site has the paths of the repository, so that a link of a page leads to the same place here and there.

docs/ is one folder of it. README.md is the first page, and the other pages outside docs/ are `_PAGES`. A file that a page links to
(code, a test, a configuration) is copied as it is. A link to a folder leads to the folder's README.md, or is plain text if it has
none. https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_ROOT: Final = Path(__file__).parents[2]
_PAGES: Final = (
    "README.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "certs/README.md",
    "policies/README.md",
)
_LINK: Final = re.compile(
    r"(?<!!)\[(?P<text>[^\]\[]+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)"
)


def _linked(page: Path) -> set[str]:
    """The files of the repository that it links to, by their paths."""
    targets = {
        normpath((page.parent / found["target"]).relative_to(_ROOT, walk_up=True))
        for found in _LINK.finditer(page.read_text())
        if "://" not in found["target"]
    }
    return {target for target in targets if (_ROOT / target).is_file()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ by their paths in the repository, the other pages, and what all of them link to."""
    shown = {_ROOT / page for page in _PAGES} | set(_ROOT.glob("policies/*/README.md"))
    kept = []
    for file in files:
        if file.inclusion.is_excluded():
            continue
        if file.src_dir == config.docs_dir and file.abs_src_path is not None:
            shown.add(Path(file.abs_src_path))
        else:
            kept.append(file)
    paths = {path.relative_to(_ROOT).as_posix() for path in shown}
    for page in sorted(shown):
        if page.suffix == ".md":
            paths |= _linked(page)
    # A path with a folder like `.github` is left out otherwise.
    made = [
        File.generated(
            config, path, abs_src_path=str(_ROOT / path), inclusion=InclusionLevel.INCLUDED
        )
        for path in sorted(paths)
    ]
    return Files([*kept, *made])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links to folders made into links to their READMEs, or into text."""
    here = Path(page.file.src_uri).parent

    def link(found: re.Match[str]) -> str:
        target = normpath(here / found["target"])
        if "://" in found["target"] or not (_ROOT / target).is_dir():
            return found[0]
        if files.get_file_from_path(f"{target}/README.md") is None:
            return found["text"]
        return f"[{found['text']}]({found['target'].rstrip('/')}/README.md{found['anchor'] or ''})"

    return _LINK.sub(link, markdown)
