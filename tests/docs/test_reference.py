"""The reference is generated, and says what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, PAGES, blocks


def _generate() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generate()


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_page_says_what_the_code_says(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    assert list(generate.parts_of(text))
    assert generate.rewritten(text) == text, "run: make reference"


def test_every_part_is_on_a_page() -> None:
    there = [
        part for name in generate.PAGES for part in generate.parts_of((DOCS / name).read_text())
    ]
    assert sorted(there) == sorted(generate.PARTS)


@pytest.mark.parametrize("part", ["costs", "costs_zh"])
def test_the_comparison_has_what_an_exported_request_costs(part: str) -> None:
    rows = [line.split("|")[1:-1] for line in generate.PARTS[part]().splitlines() if "|" in line]
    ours = [cells for cells in rows if "**flask_bodytrace**" in cells[0]]
    assert len(ours) == 3
    for cells in (rows[2], *ours):
        assert all(float(cell) > 0 for cell in cells[1:])
    assert float(rows[2][2]) == 1


def test_every_attribute_of_a_server_span_is_described() -> None:
    assert generate.observed_attributes() == set(generate.ATTRIBUTES)


def test_every_header_of_an_answer_is_described() -> None:
    assert generate.observed_headers() == set(generate.WRITTEN)


def test_every_attribute_that_the_code_names_is_on_the_page() -> None:
    page = (DOCS / "reference/attributes.md").read_text("utf-8")
    package = DOCS.parent / "flask_bodytrace"
    named = set()
    for folder in ("trace", "flow", "capture", "calls", "ids"):
        for path in (package / folder).rglob("*.py"):
            if path.name != "metrics.py":
                code = path.read_text("utf-8")
                named |= set(re.findall(r'"((?:http|url|bodytrace)\.[a-z_.]+[a-z])"', code))
    named.remove("http.status_code")  # read of other instrumentations' spans
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_everything_public_has_a_docstring() -> None:
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (.*) \|$", generate.api(), re.MULTILINE)
    assert len(rows) == sum(len(names) for names in generate.API.values())
    assert [name for _, name, doc in rows if not doc] == []


def test_public_modules_keep_nothing_public_out() -> None:
    # What a page of the documentation imports has to be on the API's page.
    public = {(module, name) for module, names in generate.API.items() for name in names}
    missing = set()
    for page in PAGES:
        for block in blocks(page, "python"):
            for module, names in re.findall(
                r"^ *from (flask_bodytrace[\w.]*) import ([\w, ]+)", block.code, re.MULTILINE
            ):
                missing |= {(module, name.strip()) for name in names.split(",")} - public
    assert missing == set()


def test_it_is_found_where_it_is_looked_for(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- generated: settings -->\nold\n<!-- end -->\nafter\n")
    text = generate.rewritten(page.read_text())
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
