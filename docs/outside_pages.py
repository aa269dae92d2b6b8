# ruff: noqa: INP001 - a hook of MkDocs, not a package
"""Put the pages that are kept outside of docs/ into the site, and make every link fit.

The README is the home page; ARCHITECTURE.md, CHANGELOG.md and others become pages of the site. A
link from one page to another is made relative to where both are in the site. A link to a file that
is no page (source code) keeps its text and loses its target. One that leads to nothing stops the
build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/RESULTS.md": "benchmarks/RESULTS.md",
    "benchmarks/RESULTS-body.md": "benchmarks/RESULTS-body.md",
    "tests/CASES.md": "tests/CASES.md",
}
"""Paths in the checkout, and where they are in the site."""

_SITE_TO_CHECKOUT = {there: here for here, there in OUTSIDE.items()}
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_FENCED = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    for here, there in OUTSIDE.items():
        files.append(File.generated(config, there, abs_src_path=str(ROOT / here)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of one page fit the site."""
    del config
    site_path = page.file.src_uri
    checkout_path = _SITE_TO_CHECKOUT.get(site_path, f"docs/{site_path}")

    def fit(link: re.Match[str]) -> str:
        if re.match(r"[a-z]+:|#", link["target"]):
            return link[0]
        path, hash_, anchor = link["target"].partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(checkout_path), path))
        if not (ROOT / target).exists():
            raise PluginError(f"{checkout_path}: {link['target']} leads nowhere")
        there = OUTSIDE.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(there) is None:
            return link["text"]
        relative = posixpath.relpath(there, posixpath.dirname(site_path) or ".")
        return f"{link['image']}[{link['text']}]({relative}{hash_}{anchor})"

    pieces = _FENCED.split(markdown)
    # Every second piece is a code block.
    pieces[::2] = (_LINK.sub(fit, piece) for piece in pieces[::2])
    return "".join(pieces)
