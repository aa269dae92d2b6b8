"""What the viewer's tests share: spans made by hand, a viewer on a real socket, a browser."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flask_bodytrace.viewer import server
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.pages import Viewer
from tests.viewer.running import RunningViewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
START = 1_700_000_000 * 10**9


@pytest.fixture
def make_span() -> Callable[..., Span]:
    """Makes a span; times in ms from `START`, ids as small numbers."""
    numbers = itertools.count(1)

    def make(start: float = 0, end: float = 10, **changes: Any) -> Span:
        number = changes.pop("id", next(numbers))
        parent = changes.pop("parent", None)
        values: dict[str, Any] = {
            "trace_id": f"{changes.pop('trace', 1):032x}",
            "span_id": f"{number:016x}",
            "parent_id": None if parent is None else f"{parent:016x}",
            "name": f"span {number}",
            "kind": 1,
            "start": START + int(start * 10**6),
            "end": START + int(end * 10**6),
            "status": 0,
            "status_message": "",
            "service": "svc",
            "scope": "",
            "trace_state": "",
            "resource": {},
            "attributes": {},
            "events": [],
            "links": [],
        }
        return Span(**{**values, **changes})

    return make


@pytest.fixture
def viewer() -> Iterator[RunningViewer]:
    """A viewer that receives OTLP, without a token."""
    made = server.make(port=0)
    with server.running(made) as url:
        assert isinstance(made.app, Viewer)
        yield RunningViewer(url, made.app)


# Not of the session: Playwright's event loop counts as running in this thread while it is there,
# and `asyncio.run` in a later module would refuse to start another.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Real Chromium, headless."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of which any script error, or anything its policy blocks, fails the test."""
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    yield opened
    context.close()
    assert problems == []
