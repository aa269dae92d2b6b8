"""docs/works-with.md: it lists what is tested, and no more."""

from __future__ import annotations

import re

from tests.compat.__main__ import EXPECTED, SUITES
from tests.docs.pages import DOCS
from tests.flask.test_extensions import CASES

PAGE = (DOCS / "works-with.md").read_text("utf-8")


def test_it_lists_the_extensions_that_are_tested() -> None:
    table = PAGE[: PAGE.index("Over real servers")]
    rows = re.findall(r"^\| ([A-Za-z][\w-]+) \|", table, re.MULTILINE)
    assert rows == ["extension", *sorted(CASES, key=str.lower)]


def test_it_lists_the_suites_that_are_run() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| [\d.]+ \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(SUITES)
    otherwise = {name: int(number) for name, _, _, number in rows if number != "0"}
    assert otherwise == {name: len(tests) for name, tests in EXPECTED.items()}
