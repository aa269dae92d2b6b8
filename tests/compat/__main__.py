"""``make compat``: the suites of public Flask extensions, stock and with `BodyTrace` on every app.

Each suite is run twice, as its authors publish it in the source distribution: once as it is, once
with the plugin of ``tests/transparency``, which attaches to every application that is made. A test
that ends otherwise is printed, and the command ends with 1. What ends the same in both runs is not
ours to judge, failures included: some suites are older than the pytest here.

``python -m tests.compat [NAME …]``: only these.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

PLUGIN = Path(__file__).parents[1] / "transparency"
SUITES = {
    "apiflask": "tests",
    "Flask-Caching": "tests",
    "flask-cors": "tests",
    "Flask-Compress": "tests",
    "Flask-HTTPAuth": "tests",
    "Flask-JWT-Extended": "tests",
    "Flask-Login": "tests",
    "flask-smorest": "tests",
    "Flask-SQLAlchemy": "tests",
    "Flask-WTF": "tests",
    "Frozen-Flask": "tests",
    "webargs": "tests/test_flaskparser.py",
}
"""Distributions, and where their tests are."""
EXPECTED = {
    "flask-cors": {
        # Trace headers are exposed to scripts of other origins too, as docs/tracing.md says; these
        # tests compare the whole header.
        "tests.decorator.test_expose_headers.ExposeHeadersTestCase::test_default",
        "tests.decorator.test_expose_headers.ExposeHeadersTestCase::test_override",
        "tests.extension.test_app_extension.AppExtensionString::test_exposed",
        "tests.extension.test_app_extension.AppExtensionString::test_override",
    },
}
"""Tests that end otherwise, and should."""
MIN_TESTS, MIN_APPS = 50, 1


@dataclass(frozen=True)
class Run:
    """One run of a suite: how each test ended, and how many applications had the extension."""

    outcomes: dict[str, str]
    attached: int
    output: str


def source_of(name: str, folder: Path) -> Path:
    """The unpacked source distribution of the installed version."""
    wanted = f"{name}=={version(name)}"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", name, "--dest", str(folder), wanted),
        ],
        check=True,
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return source


def run(source: Path, tests: str, attach: str) -> Run:
    """Run a suite with the extension attached (``"1"``) or not (``"0"``)."""
    report = source / f"report-{attach}.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", tests, "-p", "attach_everywhere"),
            *("-p", "no:cacheprovider", "-p", "no:bodytrace", "-o", "addopts=", "-W", "ignore"),
            f"--junitxml={report}",
        ],
        cwd=source,
        env=os.environ | {"PYTHONPATH": f"{PLUGIN}:{source}", "BODYTRACE_ATTACH": attach},
        capture_output=True,
        text=True,
        check=False,
    )
    attached = re.search(r"^attached to (\d+) applications", done.stdout, re.MULTILINE)
    if not report.exists() or attached is None:
        sys.exit(f"{source.name}: pytest did not run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    outcomes = {}
    # Written by pytest a moment ago.
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        name = f"{case.get('classname')}::{case.get('name')}"
        outcomes[name] = next((child.tag for child in case if child.tag != "properties"), "passed")
    return Run(outcomes, int(attached[1]), done.stdout)


def compare(name: str) -> list[str]:
    """Run one suite twice; what ended otherwise, or why nothing was shown."""
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(name, Path(folder))
        stock = run(source, SUITES[name], "0")
        ours = run(source, SUITES[name], "1")
    passed = sum(outcome == "passed" for outcome in stock.outcomes.values())
    expected = f", {len(EXPECTED[name])} end otherwise as expected" if name in EXPECTED else ""
    print(
        f"{name} {version(name)}: {len(stock.outcomes)} tests, {passed} pass in stock, "
        f"attached to {ours.attached} applications{expected}",
        flush=True,
    )
    changed = [
        f"  {test}: {stock.outcomes.get(test)} in stock, {ours.outcomes.get(test)} attached"
        for test in sorted({*stock.outcomes, *ours.outcomes})
        if (stock.outcomes.get(test) != ours.outcomes.get(test))
        is not (test in EXPECTED.get(name, ()))
    ]
    if passed < MIN_TESTS or ours.attached < MIN_APPS:
        changed.append(f"  nothing shown: {passed} tests pass, {ours.attached} applications")
        changed.append(stock.output[-2000:])
    print("\n".join(changed), end="\n" if changed else "", flush=True)
    return changed


def main() -> None:
    """Compare the suites named, or all of them."""
    names = sys.argv[1:] or list(SUITES)
    if unknown := set(names) - set(SUITES):
        sys.exit(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    changed = {name: found for name in names if (found := compare(name))}
    print(f"{len(names) - len(changed)} passed, {len(changed)} failed")
    sys.exit(bool(changed))


if __name__ == "__main__":
    main()
