"""What the documentation site does beyond mkdocs: a hook of ``mkdocs.yml``.

- Pages that live elsewhere in the repository (benchmark results, changelog, …) become part of the
  site, and links between them and ``docs/`` lead there. Links to source files lose their link: the
  site has no sources.
- A picture of ``docs/pictures`` is put into the page itself, so that it follows light and dark.
- A built site that would fetch anything from elsewhere is an error.
"""
# ruff: noqa: INP001  a script

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LOG = logging.getLogger("mkdocs.hooks.site")  # a warning here fails a strict build

ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "bench/README.md": "bench/method.md",
    "bench/results/README.md": "bench/results/index.md",
}
"""Pages outside ``docs/`` by their place in the repository: where they are in the site."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)")
CODE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preload|preconnect|icon|modulepreload))[^>]*"""
    r"""href=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|url\(["']?(?:https?:)?//[^"')]+"""
    r"""|@import\s+["'](?:https?:)?//[^"']+"""
)


def elsewhere() -> dict[str, str]:
    """Return the pages from outside ``docs/``: place in the repository → place in the site."""
    results = sorted((ROOT / "bench" / "results").glob("*.md"))
    named = {path.relative_to(ROOT).as_posix() for path in results} - ELSEWHERE.keys()
    return ELSEWHERE | {name: name for name in named}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that live elsewhere."""
    for source, target in elsewhere().items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text("utf-8")))
    for picture in sorted((ROOT / "bench" / "results").rglob("*.png")):
        target = picture.relative_to(ROOT).as_posix()
        files.append(File.generated(config, target, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Lead links between the two halves of the site to where their pages are."""
    sources = {target: source for source, target in elsewhere().items()}
    here = page.file.src_uri
    source = sources.get(here, f"docs/{here}")

    def replaced(link: re.Match[str]) -> str:
        picture, text, target, anchor = link.groups()
        if not target or "://" in target or target.startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if picture and path.startswith("docs/pictures/") and path.endswith(".svg"):
            return _drawn(ROOT / path, text)
        there = elsewhere().get(path) or path.removeprefix("docs/")
        if path == "README.md":
            there = "index.md"
        if files.get_file_from_path(there):
            link_to = posixpath.relpath(there, posixpath.dirname(here) or ".")
            return f"{picture}[{text}]({link_to}{anchor or ''})"
        if path.startswith("docs/") or not (ROOT / path).exists():
            LOG.warning("%s links to %s, which is not there", source, target)
        return text if text.startswith("`") else f"{text} (`{path}`)"

    return _outside_code(LINK, replaced, markdown)


def _outside_code(pattern: re.Pattern[str], replaced: Any, text: str) -> str:
    """Substitute where the text is no fenced block."""
    parts, end = [], 0
    for block in CODE.finditer(text):
        parts += [pattern.sub(replaced, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, pattern.sub(replaced, text[end:])])


def _drawn(path: Path, text: str) -> str:
    """Return a picture as part of the page: its own colours are for who sees it alone."""
    drawing = re.sub(r"<style>.*?</style>", "", path.read_text("utf-8"), flags=re.DOTALL)
    drawing = re.sub(r"\n\s*", " ", drawing).strip()
    assert "<title>" in drawing, f"{path.name} has no title to be read aloud"
    return f'<figure class="picture" role="group" aria-label="{text}">{drawing}</figure>'


def on_post_page(output: str, **_: Any) -> str:
    """Give the search box a name for those who do not see it."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


def on_post_build(config: MkDocsConfig, **_: Any) -> None:
    """Refuse a site that fetches anything from elsewhere when it is looked at."""
    site = Path(config.site_dir)
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            fetched = FETCHED.search(path.read_text("utf-8"))
            if fetched:
                msg = f"{path.relative_to(site)} would fetch {fetched[0]}"
                raise PluginError(msg)
