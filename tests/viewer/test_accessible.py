"""Axe has nothing to say about any page, in either size, look and language."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from flask_bodytrace.viewer.metrics import Origin, Point
from flask_bodytrace.viewer.model import Attributes, Event, Link, LogRecord, Span
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

TRACE = f"{0xAA:032x}"
PATHS = [
    "/",
    "/?q=nothing",
    "/routes",
    "/routes/flame?service=svc&name=POST+/orders",
    "/map",
    "/logs",
    "/logs?q=nothing",
    "/metrics",
    "/metrics?q=nothing",
    f"/trace/{TRACE}",
    f"/trace/{TRACE}/flame",
    f"/trace/{TRACE}/export",
    f"/trace/{TRACE}/work",
    f"/trace/{0xBB:032x}/work",
    f"/trace/{TRACE}/span/{1:016x}",
    f"/trace/{TRACE}/span/{3:016x}",
    f"/compare?a={TRACE}",
    f"/compare?a={TRACE}&b={0xBB:032x}",
    "/nowhere",
]


@pytest.fixture
def filled(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    failure = {"exception.type": "Lost", "exception.message": "none left"}
    for trace, base in ((0xAA, 0), (0xBB, 10)):
        viewer.store.add(
            [
                make_span(0, 100, id=base + 1, trace=trace, name="POST /orders", kind=2,
                          attributes={"order.id": "ORD1", "http.response.status_code": 500}),
                make_span(5, 40, id=base + 2, parent=base + 1, trace=trace, name="SELECT", kind=3,
                          attributes={"db.system.name": "postgresql", "db.namespace": str(trace)}),
                make_span(150, 190, id=base + 3, parent=base + 2, trace=trace, name="later",
                          status=2, status_message="lost", events=[Event("exception", 5, failure)],
                          links=[Link(f"{0xAA:032x}", f"{1:016x}", {})]),
            ]
        )  # fmt: skip
    log = LogRecord(TRACE, f"{3:016x}", 5, "WARN", 13, "low", "", "log", {"x": 1})
    failed = LogRecord("", None, 6, "ERROR", 17, "gone", "svc", "", {})
    viewer.store.add((), [log, failed])
    rendered: Attributes = {"template.name": "cart.html", "template.variables": ["lines", "user"]}
    asked = {"db.system.name": "postgresql", "db.namespace": "shop",
             "db.query.text": "SELECT sku\nFROM line\nWHERE id = 1"}  # fmt: skip
    viewer.store.add(
        [make_span(1, 2, id=base + 4, parent=1, trace=0xAA, kind=3, name="SELECT", status=2,
                   attributes=asked, events=[Event("template", 5, rendered)])
         for base in range(9)]
    )  # fmt: skip
    for kind, method in (("sum", "GET"), ("sum", "POST"), ("histogram", "GET")):
        told = (("http.request.method", method),)
        origin = Origin("svc", f"of.{kind}", "s", kind, False, False, 1, told, "")
        counts = (3, 4) if kind == "histogram" else ()
        point = Point(1, 9 * 10**9, 7, (0.5,) if counts else (), counts)
        viewer.store.add_metrics([(origin, point)])
    return viewer


def findings(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    results: Any = Axe().run(page)
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize(
    "looks",
    [
        {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", "locale": "en-GB"},
        {"viewport": {"width": 390, "height": 780}, "color_scheme": "dark", "locale": "zh-CN"},
        {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark", "locale": "zh-CN"},
    ],
    ids=["desktop, light, English", "phone, dark, Chinese", "desktop, dark, Chinese"],
)
def test_axe_finds_nothing(filled: Viewer, browser: Browser, looks: dict[str, Any]) -> None:
    context = browser.new_context(**looks)
    page = context.new_page()
    found = {}
    for path in PATHS:
        page.goto(filled.url + path)
        if problems := findings(page):
            found[path] = problems
    # And what opens on a page: the menu, the keys, a collapsed row, a match, a zoomed trace.
    page.goto(f"{filled.url}/trace/{TRACE}?find=later")
    page.click(".menu summary")
    page.click(".fold >> nth=1")
    page.click("[data-act=zoomIn]")
    if problems := findings(page):
        found["open"] = problems
    page.goto(f"{filled.url}/trace/{TRACE}/work")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    if problems := findings(page):
        found["executions"] = problems
    page.goto(f"{filled.url}/logs")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    if problems := findings(page):
        found["record"] = problems
    page.goto(filled.url)
    page.keyboard.press("?")
    if problems := findings(page):
        found["keys"] = problems
    context.close()
    assert found == {}
