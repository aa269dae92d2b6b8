"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "tests/CASES.md"])
_BLOCK = re.compile(
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]*)")?\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title (a file's name, or which terminal) and its text."""

    language: str
    title: str
    code: str


def name_of(page: Path) -> str:
    """A page's path in the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The blocks of a page, in order.

    :param language: only those in it.
    """
    found = [
        Block(match["language"], match["title"] or "", match["code"])
        for match in _BLOCK.finditer(page.read_text("utf-8"))
    ]
    return [block for block in found if language is None or block.language == language]


def the_file(page: Path, title: str) -> str:
    """The code of that title; a ``text`` of the same title is what comes of it."""
    (block,) = [
        block for block in blocks(page) if block.title == title and block.language != "text"
    ]
    return block.code


def load(page: Path, title: str, folder: Path) -> Any:
    """Save a block as the file that it is titled after, and import it.

    :param folder: where to save it. Other blocks of the page are not there unless loaded before.
    """
    path = folder / title
    path.write_text(the_file(page, title), "utf-8")
    name = title.removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    # So that a later block of the page can import this one by name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
