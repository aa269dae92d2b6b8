"""What the package promises about itself: names, imports, documentation."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import flask_bodytrace
from flask_bodytrace.settings import keys

PACKAGE = Path(flask_bodytrace.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"


def modules() -> dict[str, Path]:
    """The package's modules by dotted name below it; "" is the package itself."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, *, deferred: bool) -> set[str]:
    """The package's own modules that one imports.

    :param deferred: also those imported in functions, when they are called.
    """
    known = modules()
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not deferred:
                continue
            if isinstance(child, ast.ImportFrom):
                found.update(imported(child))
            elif isinstance(child, ast.Import):
                found.update(
                    alias.name.removeprefix("flask_bodytrace.")
                    for alias in child.names
                    if alias.name.startswith("flask_bodytrace.")
                )
            visit(child)

    def imported(node: ast.ImportFrom) -> set[str]:
        module = node.module or ""
        if node.level:
            package = (
                name.split(".") if path.name == "__init__.py" and name else name.split(".")[:-1]
            )
            base = package[: len(package) - node.level + 1]
            prefix = ".".join([*base, *([module] if module else [])])
        elif module == "flask_bodytrace" or module.startswith("flask_bodytrace."):
            prefix = module.removeprefix("flask_bodytrace").lstrip(".")
        else:
            return set()
        inner = {f"{prefix}.{alias.name}".lstrip(".") for alias in node.names}
        return {each if each in known else prefix for each in inner}

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found - {name}


def graph(*, deferred: bool) -> dict[str, set[str]]:
    return {name: imports(name, path, deferred=deferred) for name, path in modules().items()}


def test_imports_have_no_cycle() -> None:
    assert len(list(TopologicalSorter(graph(deferred=False)).static_order())) >= 25


LAYERS = [
    ["exceptions", "log_once", "version"],
    ["body"],
    ["capture"],
    ["ids"],
    ["otel"],
    ["otlp"],
    ["trace"],
    ["calls"],
    ["logs", "settings"],
    ["flow"],
    ["flask"],
    ["audit", "client", "extension", "tasks", "wsgi"],
    [""],
    ["testing", "viewer"],
    ["checks", "pytest_plugin"],
    ["cli"],
]
"""Folders and top-level modules from the bottom up; each imports from lower layers only."""

OPTIONAL_ABOVE = {("extension", "viewer"), ("extension", "client")}
"""Features that a higher layer brings, imported where a setting or a call asks for them."""


def layer_of(name: str) -> int:
    """The layer of a module, by its folder; fails for one that no layer names."""
    top = name.partition(".")[0]
    (level,) = [number for number, layer in enumerate(LAYERS) if top in layer]
    return level


def test_every_module_is_in_a_layer() -> None:
    known = [name for layer in LAYERS for name in layer]
    assert len(known) == len(set(known))
    assert {name.partition(".")[0] for name in modules()} - set(known) == set()


@pytest.mark.parametrize("deferred", [False, True])
def test_imports_go_one_way(deferred: bool) -> None:
    wrong = [
        f"{name or '__init__'} imports {each}"
        for name, wanted in graph(deferred=deferred).items()
        for each in wanted
        if name.partition(".")[0] != each.partition(".")[0]
        and layer_of(each) >= layer_of(name)
        and (name.partition(".")[0], each.partition(".")[0]) not in OPTIONAL_ABOVE
    ]
    assert not wrong


FLASK_AND_ABOVE = {"flask", "extension", "testing", "viewer", "checks", "cli", "pytest_plugin"}


def roots_imported(path: Path) -> set[str]:
    """The top-level packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_only_the_flask_folder_and_what_is_above_imports_flask() -> None:
    for name, path in modules().items():
        if name.partition(".")[0] not in FLASK_AND_ABOVE:
            assert "flask" not in roots_imported(path), name


OPTIONAL = (
    "logs",
    "capture.documents",
    "wsgi",
    "cli",
    "checks",
    "testing",
    "pytest_plugin",
    "client",
    "viewer",
    "calls.render",
    "tasks",
)
EXTERNAL = (
    "structlog",
    "requests",
    "httpx",
    "rich",
    "grpc",
    "opentelemetry.proto",
    "opentelemetry.exporter",
)

RUN = """
import sys
from flask import Flask
from flask_bodytrace import BodyTrace
app = Flask("shop")
BodyTrace(app, **{settings})
app.test_client().post("/", json={{"a": 1}})
print(*sorted(sys.modules))
"""


def loaded(settings: dict[str, object]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN.format(settings=settings)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_no_optional_module_is_imported_while_off() -> None:
    found = loaded({})
    assert not [name for name in OPTIONAL if f"flask_bodytrace.{name}" in found]
    assert not [name for name in EXTERNAL if name in found]
    assert "unittest.mock" not in found


def test_an_optional_module_is_imported_when_on() -> None:
    found = loaded({"logs": True, "capture_body": "always"})
    assert {"flask_bodytrace.logs", "flask_bodytrace.capture.record"} <= found
    assert "structlog" not in found


def test_public_names_are_sorted_and_there() -> None:
    assert flask_bodytrace.__all__ == sorted(flask_bodytrace.__all__)
    for name in flask_bodytrace.__all__:
        assert getattr(flask_bodytrace, name) is not None
        if name != "__version__":
            assert getattr(flask_bodytrace, name).__doc__


# Documentation


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=str)
def test_documentation_names_only_settings_that_exist(page: Path) -> None:
    import re

    text = page.read_text(encoding="utf-8")
    named = {
        f"BODYTRACE_{name}" for name in re.findall(r"\bBODYTRACE_+([A-Z][A-Z_]*[A-Z])\b", text)
    }
    assert named <= set(keys()), named - set(keys())


def test_every_case_has_a_test() -> None:
    import re

    tests = Path(__file__).parent
    cases = re.findall(r"^\| ([BT]\d\d) ", (tests / "CASES.md").read_text("utf-8"), re.MULTILINE)
    comments = " ".join(
        line
        for path in tests.rglob("test_*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.match(r" *# [BT]\d\d", line)
    )
    assert len(cases) == 24 + 26
    assert [case for case in cases if case not in comments] == []


def test_the_example_needs_nothing_internal() -> None:
    example = Path(__file__).parents[1] / "example_app"
    public = {"", "audit", "client", "logs", "testing", "viewer", "wsgi", "exceptions"}
    for path in example.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flask_bodyt"):
                name = (node.module or "").removeprefix("flask_bodytrace").lstrip(".")
                assert name in public, f"{path} imports {node.module}"
