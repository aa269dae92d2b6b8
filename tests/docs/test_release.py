"""What strangers get: the description on the package index, addresses in messages, the sdist."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from flask_bodytrace import ConfigError, version
from flask_bodytrace.settings import load
from tests.docs.pages import DOCS, ROOT

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _setup() -> Any:
    spec = importlib.util.spec_from_file_location("setup_py", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


README = (ROOT / "README.md").read_text("utf-8")


def test_no_link_on_the_index_leads_nowhere() -> None:
    setup = _setup()
    shown = setup.for_the_index(README, "")
    assert LINK.findall(README)
    assert [target for target in LINK.findall(shown) if not re.match(r"https?:|#", target)] == []
    assert "<!--" not in shown
    assert "| Tutorial | from an empty folder" in shown
    # The code is as it was.
    assert re.findall(r"^```.*?^```$", shown, re.MULTILINE | re.DOTALL) == re.findall(
        r"^```.*?^```$", README, re.MULTILINE | re.DOTALL
    )


def test_with_an_address_they_lead_there() -> None:
    shown = _setup().for_the_index(README, "https://docs.example/")
    assert "[Tutorial](https://docs.example/tutorial.html)" in shown
    assert "[ARCHITECTURE.md](https://docs.example/architecture.html)" in shown
    assert "](https://docs.example/images/viewer-trace.png)" in shown
    assert "README.zh.md" not in shown
    site = ROOT / "build/site"
    pages = re.findall(r"https://docs.example/([^)#]+)", shown)
    assert len(pages) > 15
    # Where the site was built (`make docs`), each is in it.
    assert not site.exists() or [page for page in pages if not (site / page).exists()] == []


def test_an_error_names_the_page_and_not_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _setup().docs_url() == version.DOCS_URL
    with pytest.raises(ConfigError, match="the page «Settings» of the documentation has them all"):
        load({}, {"nonsense": 1}, {})
    monkeypatch.setattr(version, "DOCS_URL", "https://docs.example")
    with pytest.raises(ConfigError, match=r"\(https://docs.example/settings.html has them all\)"):
        load({}, {"nonsense": 1}, {})


def test_no_message_of_the_package_names_a_file_of_the_checkout() -> None:
    named = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "flask_bodytrace").rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r'"[^"]*\bdocs/\w+', line)
    ]
    assert named == []


def test_the_pages_that_messages_name_are_there() -> None:
    for path in (ROOT / "flask_bodytrace").rglob("*.py"):
        for title, page in re.findall(
            r'docs_page\("(.+?)", "(.+?)(?:#.*)?"\)', path.read_text("utf-8")
        ):
            assert (DOCS / page).exists(), page
            assert f"- {title}: {page}" in (ROOT / "mkdocs.yml").read_text("utf-8")


def test_the_changelog_dates_this_version_first() -> None:
    headings = re.findall(
        r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == version.__version__
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in headings[1:])


def test_the_sdist_has_every_file_of_the_checkout(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: this is the sdist itself")
    listed = subprocess.run(
        [shutil.which("git") or "git", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    kept = set(listed.stdout.splitlines()) - {".gitignore"}
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    # From a copy: building writes beside the sources.
    copy = tmp_path / "copy"
    for name in kept:
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=copy, check=True, capture_output=True
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        there = {name.partition("/")[2] for name in packed.getnames()}
    assert {name for name in kept if (ROOT / name).exists()} - there == set()
