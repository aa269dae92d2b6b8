"""The documentation: its examples run, its links lead somewhere."""

from __future__ import annotations

import ast
import hmac
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, name_of

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", _FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in (one or other for one, other in _LINK.findall(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_examples_import_is_there(page: Path) -> None:
    missing = []
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flask_body"):
                module = importlib.import_module(node.module or "")
                missing += [
                    f"{node.module}.{alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name)
                ]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readmes_example_runs_as_pasted(page: str) -> None:
    (block,) = blocks(ROOT / page, "python")
    module: Any = ModuleType("app")
    exec(compile(block.code, page, "exec"), vars(module))  # noqa: S102 - our own page
    client = module.app.test_client()
    body = b'{"orderId": "ORD1", "userId": 7}'
    answer = client.post("/orders", data=body, content_type="application/json")
    assert answer.json == {
        "trace": answer.headers["X-Trace-ID"],
        "ids": {"order.id": "ORD1", "user.id": "7"},
        "items": 2,
    }
    assert client.post("/orders", json={}).json["ids"] == {}
    signature = hmac.new(module.KEY, body, "sha256").hexdigest()
    for given, status in ((signature, 200), ("0" * 64, 401), ("\xe9", 401)):
        headers = {"X-Signature": given, "Content-Type": "application/json"}
        assert client.post("/orders", data=body, headers=headers).status_code == status
