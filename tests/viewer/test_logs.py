"""The page of log records, and log records in the waterfall."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from flask_bodytrace.viewer.log_filter import LogFilter, level_of, severity_of
from flask_bodytrace.viewer.log_marks import marks_of
from flask_bodytrace.viewer.log_store import Entry
from flask_bodytrace.viewer.model import Attributes, LogRecord, Span
from flask_bodytrace.viewer.waterfall import waterfall
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TRACE = f"{0xAA:032x}"
START = 1_700_000_000 * 10**9
MS = 10**6


def record(  # noqa: PLR0913, PLR0917 - what tests tell records by
    body: str,
    number: int = 9,
    service: str = "shop",
    trace: str = "",
    span: int = 0,
    time: float = 0,
    attributes: Attributes | None = None,
    severity: str = "",
) -> LogRecord:
    span_id = f"{span:016x}" if span else None
    at = START + int(time * MS)
    return LogRecord(
        trace, span_id, at, severity, number, body, service, "stock.level", attributes or {}
    )


RECORDS = [
    record("listening", 9, time=1),
    record("low stock", 13, trace=TRACE, span=2, time=30, severity="WARNING"),
    record("payment refused", 17, "orders", TRACE, 1, 80, {"order.id": "ORD1"}),
    record("looked up", 5, "orders", "bb" * 16, time=3),
    record("of old", 0, time=2),
]


@pytest.mark.parametrize(
    ("arguments", "bodies"),
    [
        ({}, ["payment refused", "low stock", "looked up", "of old", "listening"]),
        ({"severity": "warn"}, ["payment refused", "low stock"]),
        ({"severity": "ERROR"}, ["payment refused"]),
        ({"severity": "debug"}, ["payment refused", "low stock", "looked up", "listening"]),
        (
            {"severity": "loud"},
            ["payment refused", "low stock", "looked up", "of old", "listening"],
        ),
        ({"service": "orders"}, ["payment refused", "looked up"]),
        ({"service": "order"}, []),
        ({"trace": TRACE}, ["payment refused", "low stock"]),
        ({"trace": "BB"}, ["looked up"]),
        ({"trace": "no id"}, ["payment refused", "low stock", "looked up", "of old", "listening"]),
        ({"q": "STOCK", "severity": "warn"}, ["payment refused", "low stock"]),
        ({"q": "low"}, ["low stock"]),
        ({"q": "order.id=ORD1"}, ["payment refused"]),
        ({"q": "logger=stock.level -order.id="}, ["low stock", "looked up", "of old", "listening"]),
        ({"q": "low refused"}, []),
    ],
    ids=str,
)
def test_filters(arguments: dict[str, str], bodies: list[str]) -> None:
    entries = [Entry(number, one) for number, one in enumerate(RECORDS)]
    wanted = LogFilter.read(arguments)
    assert [entry.record.body for entry in wanted.of(entries)] == bodies
    assert bool(wanted) == (len(bodies) < len(RECORDS))


@pytest.mark.parametrize(
    ("number", "severity", "shown", "level"),
    [
        (17, "", "ERROR", "error"),
        (24, "", "FATAL", "error"),
        (13, "WARNING", "WARNING", "warn"),
        (12, "", "INFO", ""),
        (1, "", "TRACE", ""),
        (0, "", "", ""),
    ],
)
def test_severities(number: int, severity: str, shown: str, level: str) -> None:
    one = record("x", number, severity=severity)
    assert (severity_of(one), level_of(one)) == (shown, level)


def test_of_many_marks_the_most_severe_stay_in_the_trace(make_span: Callable[..., Span]) -> None:
    whole = waterfall([make_span(0, 100, id=1)])
    many = [record(str(n), 9, trace=TRACE, span=1, time=n) for n in range(100)]
    early, late = record("early", 17, span=1, time=-5), record("late", 13, span=1, time=500)
    marks = marks_of([*many, early, late], whole)[f"{1:016x}"]
    assert len(marks) == 50
    assert (marks[0].text, marks[0].x, marks[0].level) == ("ERROR early", 0, "error")
    assert (marks[-1].text, marks[-1].x, marks[-1].level) == ("WARN late", 100, "warn")
    assert [mark.time for mark in marks] == sorted(mark.time for mark in marks)


@pytest.fixture
def filled(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    spans = [
        make_span(0, 100, id=1, trace=0xAA, name="POST /orders", kind=2),
        make_span(20, 60, id=2, parent=1, trace=0xAA, name="reserve"),
    ]
    viewer.store.add(spans, RECORDS)
    return viewer


def bodies(page: Page) -> list[str]:
    return page.locator(".records summary").all_inner_texts()


def test_newest_first_and_filtered_as_the_address_says(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/logs")
    assert bodies(page) == ["payment refused", "low stock", "looked up", "of old", "listening"]
    row = page.locator("tr[data-row]").first
    assert all(text in row.inner_text() for text in ("ERROR", "orders", "POST /orders"))
    page.select_option("[name=severity]", "warn")
    page.wait_for_url("**/logs?severity=warn")
    assert bodies(page) == ["payment refused", "low stock"]
    page.click(".records .services a:has-text('orders')")
    page.wait_for_url("**/logs?severity=warn&service=orders")
    assert bodies(page) == ["payment refused"]
    page.fill("[name=q]", "nothing of the kind")
    page.keyboard.press("Enter")
    page.wait_for_selector(".empty")
    page.go_back()
    page.wait_for_url("**/logs?severity=warn&service=orders")
    assert page.input_value("[name=service]") == "orders"
    page.click(".clear")
    page.wait_for_url("**/logs")
    page.click(".records .of .mono >> nth=0")
    page.wait_for_url(f"**/logs?trace={TRACE}")
    assert bodies(page) == ["payment refused", "low stock"]


def test_a_record_leads_to_its_span_and_the_trace_back(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/logs?q=low")
    page.click(".records .of a:has-text('POST /orders')")
    page.wait_for_url(f"**/trace/{TRACE}#s-{2:016x}")
    assert page.evaluate("document.activeElement.id") == f"s-{2:016x}"
    page.click(".actions a:text-is('Logs')")
    page.wait_for_url(f"**/logs?trace={TRACE}")


def test_rows_open_by_keyboard_and_stay_open_while_more_come_in(filled: Viewer, page: Page) -> None:
    page.goto(filled.url)
    page.keyboard.press("g")
    page.wait_for_url("**/logs")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.locator(".records details[open]").inner_text().split() == [
        "payment", "refused", "Logger", "stock.level", "order.id", "ORD1",
    ]  # fmt: skip
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.innerText") == "low stock"
    filled.store.add((), [record("just now", 9, time=900)])
    page.wait_for_selector(".records summary:has-text('just now')")
    assert page.locator(".records details[open] summary").all_inner_texts() == ["payment refused"]
    assert page.evaluate("document.activeElement.innerText") == "low stock"
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.innerText") == "just now"
    page.keyboard.press("e")
    assert page.evaluate("document.activeElement.innerText") == "payment refused"
    page.keyboard.press("Escape")
    page.wait_for_selector(".traces")


def test_a_hundred_a_page(viewer: Viewer, page: Page) -> None:
    viewer.store.add((), [record(f"number {n}", time=n) for n in range(150)])
    page.goto(f"{viewer.url}/logs?severity=info")
    assert len(bodies(page)) == 100
    assert page.inner_text(".count") == "150 of 150 log records"
    page.click(".pages a")
    page.wait_for_url("**/logs?severity=info&page=2")
    assert bodies(page)[-1] == "number 0"
    assert len(bodies(page)) == 50


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_log_records_are_marks_at_their_time(
    filled: Viewer, browser: Browser, script: bool
) -> None:
    context = browser.new_context(java_script_enabled=script)
    page = context.new_page()
    page.goto(f"{filled.url}/trace/{TRACE}")
    marks = page.locator(f"li:has(#s-{1:016x}) .log")
    assert marks.get_attribute("class") == "log error"
    assert float((marks.get_attribute("cx") or "").removesuffix("%")) == pytest.approx(80)
    assert marks.text_content() == "ERROR payment refused"
    mark = page.locator(f"li:has(#s-{2:016x}) .log")
    assert mark.get_attribute("class") == "log warn"
    assert float((mark.get_attribute("cx") or "").removesuffix("%")) == pytest.approx(30)
    context.close()


def test_marks_move_with_the_part_in_sight(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/trace/{TRACE}")
    page.click("[data-act=zoomIn]")
    # From 25 to 75 ms: one is at a tenth of that, the other is out of sight.
    mark = page.locator(".rows .log")
    assert mark.count() == 1
    assert float((mark.get_attribute("cx") or "").removesuffix("%")) == pytest.approx(10)


def test_a_span_lists_its_log_records_and_marks_them(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/trace/{TRACE}/span/{2:016x}")
    assert page.locator(".events.logs li").all_inner_texts()[0].split("\n")[0] == "+10 ms"
    assert "low stock" in page.inner_text(".events.logs")
    assert page.locator(".strip .log.warn").get_attribute("cx") == "30.0%"
