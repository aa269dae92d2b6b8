"""The table of docs/viewer.md: each "yes" of this viewer names a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "viewer.md"


def rows() -> list[list[str]]:
    """The cells of each row below the table's head."""
    section = PAGE.read_text("utf-8").partition("## Beside others")[2]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_each_yes_has_its_test() -> None:
    found = rows()
    assert len(found) > 25
    for feature, ours, *_, test in found:
        assert ours in {"yes", "no"}, feature
        named = re.fullmatch(r"`(\w+\.py)::(\w+)`", test)
        assert (named is not None) == (ours == "yes"), feature
        if named is None:
            continue
        source = ast.parse((HERE / named[1]).read_text("utf-8"))
        names = {node.name for node in ast.walk(source) if isinstance(node, ast.FunctionDef)}
        assert named[2] in names, f"{feature}: {test}"


def test_every_row_speaks_of_everybody() -> None:
    for row in rows():
        assert len(row) == 8, row
        assert all(row[:7]), row
