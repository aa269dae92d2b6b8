"""Flask's own test suite, with the extension attached to every application it makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def flask_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flask")
    download = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", "flask", "--no-build-isolation", "--dest", str(folder)),
            f"flask=={version('flask')}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"Flask's source could not be downloaded: {download.stderr[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def outcomes(source: Path, attach: str) -> tuple[dict[str, str], int]:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests", "-p", "attach_everywhere", "-v"),
            *("-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="),
        ],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(HERE), "BODYTRACE_ATTACH": attach, "PY_COLORS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(
        r"^(tests/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)", run.stdout, re.MULTILINE
    )
    assert found, run.stdout[-2000:] + run.stderr[-2000:]
    attached = re.search(r"^attached to (\d+) applications", run.stdout, re.MULTILINE)
    assert attached, run.stdout[-2000:]
    return dict(found), int(attached[1])


def test_flask_suite_ends_the_same_with_the_extension_on_every_app(flask_source: Path) -> None:
    stock, none = outcomes(flask_source, "0")
    attached, applications = outcomes(flask_source, "1")
    assert len(stock) > 400
    assert none == 0
    assert applications > 300
    changed = {name: (stock[name], attached.get(name)) for name in stock}
    # As with every WSGI middleware that knows its application: the collector frees it.
    assert {name: pair for name, pair in changed.items() if pair[0] != pair[1]} == {
        "tests/test_basic.py::test_app_freed_on_zero_refcount": ("PASSED", "FAILED")
    }
