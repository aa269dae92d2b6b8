"""docs/explanation/fleet.md: calculated as shown, from what was measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks, load

PAGE = DOCS / "explanation/fleet.md"
RESULTS = (ROOT / "benchmarks/RESULTS.md").read_text("utf-8")
PERFORMANCE = (DOCS / "performance.md").read_text("utf-8")


def row(part: str, name: str, text: str = RESULTS) -> list[str]:
    """The cells of a row, by its first cell, below a heading."""
    below = text[text.index(part) :]
    line = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", below, re.MULTILINE)
    assert line, (part, name)
    return [cell.strip() for cell in line[1].split("|")]


def test_the_table_is_what_the_code_prints(tmp_path: Path) -> None:
    load(PAGE, "fleet.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "fleet.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (shown,) = [block.code for block in blocks(PAGE, "text") if block.title == "fleet.py"]
    assert done.stdout == shown, done.stdout


def test_its_constants_are_those_measured(tmp_path: Path) -> None:
    fleet = load(PAGE, "fleet.py", tmp_path)
    exported = "### 100 % sampled and exported"
    ours = "flask_bodytrace, defaults and two ids"
    gzip = row("| spans in a batch", "512", PERFORMANCE)
    measured = {
        "BARE_RPS": float(row(exported, "bare Flask")[0]),
        "EXPORTED": float(row(exported, ours)[1]),
        "UNSAMPLED": float(row("### 1 % sampled", ours)[1]),
        "CHILD_US": float(row("### Sampled\n", "hand-written span, no extraction")[0]),
        "ENCODE_US": float(row("## Encoding", "server span, 15 attributes")[-2]),
        "SPAN_BYTES": float(gzip[0].replace(",", "")) / 512,
        "GZIPPED": float(gzip[1].partition(",")[0]),
    }
    # A later run on another day need not change the page; another order of magnitude must.
    for name, value in measured.items():
        assert getattr(fleet, name) == pytest.approx(value, rel=0.25), name


def test_what_the_text_says_of_the_figures(tmp_path: Path) -> None:
    fleet = load(PAGE, "fleet.py", tmp_path)
    assert fleet.plan(200_000, 6, 1.0)["spans/s"] == 1_200_000
    assert fleet.plan(200_000, 6, 1.0)["collectors"] == 80
    assert fleet.plan(200_000, 6, 0.1)["collectors"] == pytest.approx(8)
    assert pytest.approx(200e6, rel=0.05) == 6_000 * 60 * fleet.SPAN_BYTES
