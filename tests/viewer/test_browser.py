"""The pages in real, headless Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests

from flask_bodytrace.viewer.model import Event, Link, LogRecord, Span
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

TRACE = f"{0xAA:032x}"
MS = 10**6


def call_attributes(status: int, order: str) -> dict[str, Any]:
    return {
        "http.request.method": "POST",
        "url.path": "/orders",
        "order.id": order,
        "http.response.status_code": status,
    }


@pytest.fixture
def filled(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    """One trace of three services with an error, and five small ones."""
    for number in range(5):
        viewer.store.add(
            [
                make_span(
                    number, number + 2, trace=0x100 + number, name="GET /health", kind=2,
                    attributes={"http.response.status_code": 200, "user.id": f"u-{number}"},
                    service="shop",
                )
            ]
        )  # fmt: skip
    failure = {
        "exception.type": "OutOfStock",
        "exception.message": "none left",
        "exception.stacktrace": "Traceback\n  line 1",
    }
    spans = [
        make_span(50, 150, trace=0xAA, id=1, name="POST /orders", kind=2, service="shop",
                  attributes=call_attributes(500, "ORD777"), status=2),
        make_span(55, 60, trace=0xAA, id=2, parent=1, name="validate", service="shop"),
        make_span(70, 140, trace=0xAA, id=3, parent=1, name="reserve", service="stock",
                  attributes={"sku": "SKU-1"}, status=2, status_message="none left",
                  events=[Event("exception", 10**9, failure)],
                  links=[Link(f"{0x100:032x}", f"{1:016x}", {})]),
        make_span(80, 130, trace=0xAA, id=4, parent=3, name="SELECT", kind=3, service="stock",
                  attributes={"db.system.name": "postgresql"}),
        make_span(45, 65, trace=0xAA, id=5, parent=1, name="early", service="clock"),
    ]  # fmt: skip
    viewer.store.add(spans)
    log = LogRecord(TRACE, f"{3:016x}", spans[2].start, "WARN", 13, "low stock", "stock", "", {})
    viewer.store.add((), [log])
    return viewer


def names(page: Page) -> list[str]:
    return page.locator(".traces .what a").all_inner_texts()


def test_the_list_shows_the_traces_and_their_latency(filled: Viewer, page: Page) -> None:
    page.goto(filled.url)
    assert names(page) == ["POST /orders", *["GET /health"] * 5]
    row = page.locator("tr[data-row]").first
    for text in ("ORD777", "shop", "stock", "500", "100 ms", "2 errors"):
        assert text in row.inner_text()
    assert page.locator(".chart circle").count() == 6
    assert page.locator(".chart circle.failed").count() == 1


def test_filters(filled: Viewer, page: Page) -> None:
    page.goto(filled.url)
    page.keyboard.press("/")
    page.keyboard.type("ORD777")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=ORD777")
    assert names(page) == ["POST /orders"]
    page.click("text=Clear")
    # Until it has loaded, a page filters by its button.
    page.wait_for_url(f"{filled.url}/")
    page.select_option("[name=status]", "ok")
    page.wait_for_url("**/?status=ok")
    assert names(page) == ["GET /health"] * 5
    page.goto(filled.url)
    page.select_option("[name=service]", "stock")
    page.wait_for_url("**/?service=stock")
    assert names(page) == ["POST /orders"]
    page.goto(filled.url)
    page.fill("[name=min]", "50 ms")
    page.press("[name=min]", "Enter")
    page.wait_for_url("**/?min=50+ms")
    assert names(page) == ["POST /orders"]
    page.goto(f"{filled.url}/?q={TRACE}")
    assert names(page) == ["POST /orders"]
    page.goto(f"{filled.url}/?q=nothing")
    assert page.inner_text(".empty h2") == "No trace matches"


def test_ids_services_and_status_filter_by_a_click_and_back_keeps_it(
    filled: Viewer, page: Page
) -> None:
    page.goto(filled.url)
    page.click(".traces a.id:has-text('u-3')")
    page.wait_for_url("**/?q=user.id%3Du-3")
    assert names(page) == ["GET /health"]
    page.go_back()
    page.click(".traces a.service:has-text('stock')")
    page.wait_for_url("**/?service=stock")
    page.click(".traces a.status:has-text('500')")
    page.wait_for_url("**/?service=stock&status=500")
    assert names(page) == ["POST /orders"]
    page.click(".traces .what a")
    page.wait_for_url("**/trace/*")
    page.keyboard.press("Escape")
    page.wait_for_url("**/?service=stock&status=500")
    page.click(".traces .what a")
    page.wait_for_url("**/trace/*")
    page.go_back()
    page.wait_for_url("**/?service=stock&status=500")
    page.click(".traces .what a")
    page.click(".crumbs a:has-text('Traces')")
    page.wait_for_url("**/?service=stock&status=500")
    page.click("th a:has-text('Duration')")
    page.wait_for_url("**/?service=stock&status=500&sort=-duration")
    assert page.get_attribute("th:has-text('Duration')", "aria-sort") == "descending"
    page.goto(f"{filled.url}/trace/{TRACE}/span/{3:016x}")
    page.hover("text=SKU-1")
    page.click(".attributes > div:has-text('sku') .find")
    page.wait_for_url("**/?q=sku%3DSKU-1")
    assert names(page) == ["POST /orders"]


def test_the_waterfall_nests_marks_and_places(filled: Viewer, page: Page) -> None:
    page.goto(filled.url)
    page.click("a:has-text('POST /orders')")
    page.wait_for_url(f"**/trace/{TRACE}")
    rows = page.locator(".rows li")
    assert [re.split(r"\s", text)[0] for text in rows.locator(".name").all_inner_texts()] == [
        "POST", "early", "validate", "reserve", "SELECT",
    ]  # fmt: skip
    left = [box["x"] for i in rows.locator(".name > i").all() if (box := i.bounding_box())]
    assert left[0] < left[1] == left[2] == left[3] < left[4]
    bars = [box for b in page.locator(".rows rect.span").all() if (box := b.bounding_box())]
    # The early one starts before its parent, as its clock says.
    assert bars[1]["x"] < bars[0]["x"]
    assert bars[3]["x"] > bars[2]["x"]
    assert bars[3]["width"] > bars[4]["width"]
    assert "clock \N{MINUS SIGN}5 ms" in rows.nth(1).inner_text()
    failed = rows.evaluate_all("rows => rows.map(row => row.classList.contains('failed'))")
    assert failed == [True, False, False, True, False]
    on_path = rows.evaluate_all("rows => rows.map(row => row.querySelectorAll('.crit').length > 0)")
    assert on_path == [True, True, False, True, True]
    red = "rect => getComputedStyle(rect).fill"
    assert bars
    assert rows.nth(3).locator("rect.span").evaluate(red) != rows.nth(4).locator(
        "rect.span"
    ).evaluate(red)


def test_a_span_shows_all_it_has(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/trace/{TRACE}")
    page.click("text=reserve")
    assert page.inner_text("h1 bdi") == "reserve"
    assert "SKU-1" in page.inner_text("section:has(#attributes)")
    assert "OutOfStock" in page.inner_text(".exception")
    assert "line 1" in page.inner_text(".exception pre")
    assert "low stock" in page.inner_text("section:has(#logs)")
    assert page.get_attribute("section:has(#links) a", "href") == (
        f"/trace/{0x100:032x}#s-{1:016x}"
    )
    assert "SELECT" in page.inner_text("section:has(#children)")


def test_new_traces_come_in_by_themselves(
    filled: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    page.goto(f"{filled.url}/?q=ORD")
    page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.getAttribute('href')")
    attributes = call_attributes(201, "ORD778")
    filled.store.add([make_span(900, 950, trace=0xBB, name="PUT /new", attributes=attributes)])
    filled.store.add([make_span(900, 950, trace=0xBC, name="GET /other")])
    page.wait_for_selector("tr.new:has-text('PUT /new')")
    assert names(page) == ["PUT /new", "POST /orders"]
    assert page.evaluate("document.activeElement.getAttribute('href')") == focused


def test_a_trace_grows_while_it_is_looked_at(
    filled: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    page.goto(f"{filled.url}/trace/{TRACE}")
    filled.store.add([make_span(90, 95, trace=0xAA, id=9, parent=4, name="late one")])
    page.wait_for_selector(".rows li:has-text('late one')")


def test_live_can_be_switched_off(
    filled: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    page.clock.install()
    page.goto(filled.url)
    page.keyboard.press("l")
    assert page.get_attribute("[data-live]", "aria-pressed") == "false"
    filled.store.add([make_span(900, 950, trace=0xBB, name="PUT /new")])
    page.clock.run_for(5_000)
    assert "PUT /new" not in names(page)
    page.keyboard.press("l")
    page.clock.run_for(1_500)
    page.wait_for_selector("tr:has-text('PUT /new')")


def test_by_keyboard_alone(filled: Viewer, page: Page) -> None:
    page.goto(filled.url)
    for key in ("j", "j", "k", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.textContent") == "POST /orders"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/trace/{TRACE}")
    page.keyboard.press("e")
    page.keyboard.press("e")
    assert "reserve" in page.evaluate("document.activeElement.textContent")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/span/*")
    page.keyboard.press("n")
    # Until it has loaded, a page has no keys yet.
    page.wait_for_url(f"**/span/{4:016x}")
    page.keyboard.press("p")
    page.wait_for_url(f"**/span/{3:016x}")
    page.keyboard.press("Escape")
    page.wait_for_url(f"**/trace/{TRACE}#s-{3:016x}")
    assert page.evaluate("document.activeElement.id") == f"s-{3:016x}"
    page.keyboard.press("Escape")
    page.wait_for_url(f"{filled.url}/")
    page.keyboard.press("m")
    page.wait_for_url("**/map")
    page.keyboard.press("/")
    page.wait_for_url("**/#search")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("j?")
    assert page.input_value("[name=q]") == "j?"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_map_and_what_can_be_taken_away(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/map")
    assert page.locator(".node .title").all_text_contents() == [
        "shop", "stock", "clock", "postgresql",
    ]  # fmt: skip
    assert page.locator("path.edge").count() == 3
    page.goto(f"{filled.url}/trace/{TRACE}")
    page.click("text=Mermaid · JSON · curl")
    assert page.inner_text("#text-mermaid").startswith("sequenceDiagram")
    assert "curl -i -g -X POST" in page.inner_text("#text-curl")
    assert "http POST http" in page.inner_text("#text-httpie")
    assert "requests.request(" in page.inner_text("#text-python")
    again = json.loads(page.inner_text("#text-json"))
    filled.store.add([])
    headers = {"Content-Type": "application/json"}
    sent = requests.post(f"{filled.url}/v1/traces", json=again, headers=headers, timeout=10)
    assert sent.status_code == 200


@pytest.mark.parametrize("path", ["/", f"/trace/{TRACE}", f"/trace/{TRACE}/span/{3:016x}", "/map"])
def test_on_a_phone_nothing_runs_out_of_the_page(
    filled: Viewer, browser: Browser, path: str
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    page.goto(filled.url + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()


@pytest.mark.parametrize("path", ["/", f"/trace/{TRACE}", f"/trace/{TRACE}/span/{3:016x}", "/map"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(
    filled: Viewer, browser: Browser, path: str, scheme: Any
) -> None:
    """WCAG 2.1 AA: 4.5 to 1 for text, measured on what is drawn."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(filled.url + path)
    poor = page.evaluate(_CONTRAST)
    context.close()
    assert poor == []


_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => {
      c /= 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backdrop = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(parse(getComputedStyle(e).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3);
    const text = own.map((node) => node.data).join("").trim();
    if (!text || !element.checkVisibility() || element.closest("svg, option")) continue;
    const below = backdrop(element);
    const ink = over(parse(getComputedStyle(element).color), below);
    const [low, high] = [luminance(ink), luminance(below)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) poor.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""

ATTACK = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>'\"><svg onload=alert(3)>"
    "</title></textarea></pre><a href=javascript:alert(4)>x</a>{{7*7}}{% raw %}&lt;b&gt;"
)


def test_no_field_of_a_span_becomes_markup_or_script(viewer: Viewer, page: Page) -> None:
    attributes = [
        {"key": ATTACK, "value": {"stringValue": ATTACK}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": ATTACK}]}}},
        {"key": "bytes", "value": {"bytesValue": "PHNjcmlwdD4="}},
        *(
            {"key": key, "value": {"stringValue": ATTACK}}
            for key in (
                "order.id", "http.request.method", "url.full", "http.route", "db.system.name",
                "exception.type", "http.response.status_code", "url.path",
            )
        ),
    ]  # fmt: skip
    event = {"name": ATTACK, "timeUnixNano": "5", "attributes": attributes}
    exception = {
        "name": "exception",
        "timeUnixNano": "5",
        "attributes": [
            {"key": f"exception.{part}", "value": {"stringValue": ATTACK}}
            for part in ("type", "message", "stacktrace")
        ],
    }
    span = {
        "traceId": TRACE,
        "name": ATTACK,
        "kind": 3,
        "traceState": ATTACK,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "9000000",
        "attributes": attributes,
        "events": [event, exception],
        "links": [{"traceId": TRACE, "spanId": f"{2:016x}", "attributes": attributes}],
        "status": {"code": 2, "message": ATTACK},
    }
    resource = {
        "attributes": [{"key": "service.name", "value": {"stringValue": ATTACK}}, *attributes]
    }
    scope = {"name": ATTACK, "version": ATTACK}
    spans = [
        {**span, "spanId": f"{1:016x}"},
        {**span, "spanId": f"{2:016x}", "parentSpanId": f"{1:016x}"},
    ]
    log = {
        "traceId": TRACE,
        "spanId": f"{2:016x}",
        "severityText": ATTACK,
        "body": {"stringValue": ATTACK},
        "attributes": attributes,
    }
    for path, body in (
        (
            "traces",
            {
                "resourceSpans": [
                    {"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}
                ]
            },
        ),
        (
            "logs",
            {
                "resourceLogs": [
                    {"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": [log]}]}
                ]
            },
        ),
    ):
        sent = requests.post(f"{viewer.url}/v1/{path}", json=body, timeout=10)
        assert sent.status_code == 200

    dialogs: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", on_dialog)
    one = f"/trace/{TRACE}"
    wheres = ["/", one, f"{one}/span/{2:016x}", f"{one}/export", "/map", f"/map?trace={TRACE}"]
    for where in wheres:
        page.goto(viewer.url + where)
        page.wait_for_load_state("networkidle")
        assert "<script>alert(1)</script>" in page.inner_text("main"), where
        assert "{{7*7}}" in page.content()
        foreign = page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((e) =>
                 (e.tagName === "SCRIPT" && new URL(e.src).pathname !== "/static/viewer.js") ||
                 e.tagName === "IMG" || e.tagName === "IFRAME" ||
                 [...e.attributes].some((a) => a.name.startsWith("on")) ||
                 (e.getAttribute("href") ?? "").trim().toLowerCase().startsWith("javascript:")
               ).map((e) => e.outerHTML)"""
        )
        assert foreign == [], where
    page.goto(f"{viewer.url}/?q={quote(ATTACK)}&service={quote(ATTACK)}")
    assert page.input_value("[name=q]") == ATTACK
    for name in ("otlp.json", "mermaid.mmd"):
        answer = requests.get(f"{viewer.url}/trace/{TRACE}/{name}", timeout=10)
        assert "html" not in answer.headers["Content-Type"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    # And while it is watched: the live update puts markup in by script.
    page.goto(viewer.url)
    body = {
        "resourceSpans": [
            {"scopeSpans": [{"spans": [{**span, "traceId": "c" * 32, "spanId": "d" * 16}]}]}
        ]
    }
    requests.post(f"{viewer.url}/v1/traces", json=body, timeout=10)
    page.wait_for_selector("tr.new")
    assert page.locator("img").count() == 0
    assert dialogs == []
