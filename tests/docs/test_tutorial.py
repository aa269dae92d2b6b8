"""The tutorial, typed in from an empty folder."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.reader import reading
from tests.docs.running import environment

pytestmark = pytest.mark.slow

TUTORIAL = DOCS / "tutorial.md"


def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    install, *rest = blocks(TUTORIAL)
    assert "pip install" in install.code
    with reading(tmp_path, environment()) as reader:
        reader.read(rest)


def test_what_the_tutorial_installs_is_there() -> None:
    # Typed in from the wheel, outside of the checkout, by .ci/smoke.
    named = re.findall(r"flask-bodytrace\[(\w+)\]", TUTORIAL.read_text("utf-8"))
    assert named
    assert set(named) <= set(metadata("flask_bodytrace").get_all("Provides-Extra") or [])


def test_every_block_of_the_tutorial_is_typed_in() -> None:
    kinds = {(block.language, block.title.endswith("terminal")) for block in blocks(TUTORIAL)[1:]}
    assert kinds <= {("python", False), ("sh", True), ("text", True), ("text", False)}
