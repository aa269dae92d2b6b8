"""Statistics per route, flame graphs, and two traces compared: the figures, and the pages."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from flask_bodytrace.viewer.compare import compare
from flask_bodytrace.viewer.flame import burn
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.routes import Route, count_routes
from flask_bodytrace.viewer.waterfall import waterfall
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Page

MS = 10**6


def test_rate_errors_and_percentiles_of_servers_and_consumers(
    make_span: Callable[..., Span],
) -> None:
    spans = [
        make_span(n * 100, n * 100 + n, trace=n, name="POST /orders", kind=2, service="shop",
                  status=2 if n % 4 == 0 else 0)
        for n in range(1, 101)
    ]  # fmt: skip
    spans += [
        make_span(0, 5, trace=7, parent=1, name="consume paid", kind=5, service="mailer"),
        make_span(0, 5, trace=7, parent=1, name="SELECT", kind=3, service="mailer"),
        make_span(0, 5, trace=8, name="nightly", kind=1, service="cron"),
    ]
    found = {route.name: route for route in count_routes(spans).routes}
    assert set(found) == {"POST /orders", "consume paid", "nightly"}
    orders = found["POST /orders"]
    assert (orders.requests, orders.error_rate) == (100, 0.25)
    assert [orders.percentile(share)[0] // MS for share in (1, 50, 95, 99, 100)] == [
        1, 50, 95, 99, 100,
    ]  # fmt: skip
    assert int(orders.percentile(95)[1], 16) == 95
    # From the first start in the store to the last: ten seconds.
    assert orders.rate == pytest.approx(10.0)


def test_a_stretch_of_time_bounds_what_is_counted(make_span: Callable[..., Span]) -> None:
    spans = [make_span(n * 1000, n * 1000 + 1, trace=n + 1, name="GET /", kind=2) for n in range(9)]
    first = spans[0].start
    (route,) = count_routes(spans, first + 2000 * MS, first + 6000 * MS).routes
    assert route.requests == 5
    assert route.rate == pytest.approx(5 / 4)
    assert count_routes(spans, first + 10**12).routes == []


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=40))
def test_every_request_is_in_the_column_of_its_duration(taken: list[int]) -> None:
    spans = [
        Span(
            "1" * 32, f"{n:016x}", None, "GET /", 2, 5, 5 + one, 0, "", "s", "", "", {}, {}, [], []
        )
        for n, one in enumerate(taken)
    ]  # fmt: skip
    counted = count_routes(spans)
    (route,) = counted.routes
    columns = counted.histogram(route)
    assert sum(columns) == len(taken)
    # The first column holds the shortest, the last the longest, and columns follow one another.
    assert columns[0]
    assert columns[-1]
    assert counted.bounds(0)[0] <= max(min(taken), 1)
    assert counted.bounds(len(columns) - 1)[1] >= max(taken)
    bounds = [counted.bounds(number) for number in range(len(columns))]
    assert all(high == low for (_, high), (low, _) in itertools.pairwise(bounds))
    assert route.percentile(100)[0] == max(taken)


def test_own_time_adds_up_to_the_width_of_what_is_above(make_span: Callable[..., Span]) -> None:
    def one(trace: int) -> list[Span]:
        base = 100 * trace
        return [
            make_span(0, 100, id=base + 1, trace=trace, name="POST /orders", service="shop"),
            make_span(10, 40, id=base + 2, parent=base + 1, trace=trace, name="SELECT"),
            make_span(50, 60, id=base + 3, parent=base + 1, trace=trace, name="SELECT"),
            make_span(15, 20, id=base + 4, parent=base + 2, trace=trace, name="parse", status=2),
        ]

    flame = burn(waterfall(one(trace)) for trace in (1, 2))
    assert flame.own == 2 * 100 * MS
    boxes = {box.name: box for box in flame.boxes}
    assert [(box.name, box.depth) for box in flame.boxes] == [
        ("POST /orders", 0), ("SELECT", 1), ("parse", 2),
    ]  # fmt: skip
    assert boxes["POST /orders"].width == pytest.approx(100)
    assert boxes["SELECT"].width == pytest.approx(40)
    assert (boxes["SELECT"].spans, boxes["SELECT"].own) == (4, 2 * 35 * MS)
    assert [(o.name, o.own // MS, o.spans, o.errors) for o in flame.operations] == [
        ("POST /orders", 120, 2, 0), ("SELECT", 70, 4, 0), ("parse", 10, 2, 2),
    ]  # fmt: skip


def test_a_deep_chain_does_not_recurse(make_span: Callable[..., Span]) -> None:
    spans = [make_span(0, 10, id=n, parent=n - 1 or None, name="same") for n in range(1, 3001)]
    whole = waterfall(spans)
    assert burn([whole]).operations[0].spans == 3000
    assert len(compare(whole, whole)) == 3000


def test_brothers_of_one_name_by_the_thousand_take_no_longer(
    make_span: Callable[..., Span],
) -> None:
    spans = [make_span(0, 10, id=1)]
    spans += [make_span(n, n + 1, id=n, parent=1, name="same") for n in range(2, 10_001)]
    whole = waterfall(spans)
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        pairs = compare(whole, whole)
    finally:
        sys.setprofile(None)
    assert len(pairs) == 10_000
    assert calls < 100_000


def tree(make_span: Callable[..., Span], trace: int, rows: str) -> list[Span]:
    """Spans from lines of ``name start end``, indented by their depth; ``!`` is an error."""
    way: list[int] = []
    spans = []
    for number, line in enumerate(rows.strip("\n").splitlines(), 1):
        name, start, end, *failed = line.split()
        depth = (len(line) - len(line.lstrip())) // 2
        del way[depth:]
        spans.append(
            make_span(
                float(start), float(end), id=trace * 100 + number, trace=trace, name=name,
                parent=way[-1] if way else None, status=2 if failed else 0,
            )
        )  # fmt: skip
        way.append(trace * 100 + number)
    return spans


BEFORE = """
POST 0 100
  load 1 10
  ask 20 30
  ask 40 50
  old 60 70
    older 61 62
"""
AFTER = """
POST 0 200
  load 1 11 !
  cache 12 13
  ask 20 30
  ask 40 120
  ask 130 140
"""


def test_spans_are_matched_by_their_path(make_span: Callable[..., Span]) -> None:
    pairs = compare(waterfall(tree(make_span, 1, BEFORE)), waterfall(tree(make_span, 2, AFTER)))
    assert [(pair.row.span.name, pair.depth, pair.what) for pair in pairs] == [
        ("POST", 0, "slower"),
        ("load", 1, "same"),
        ("cache", 1, "new"),
        ("ask", 1, "same"),
        ("ask", 1, "slower"),
        ("old", 1, "gone"),
        ("older", 2, "gone"),
        ("ask", 1, "new"),
    ]
    assert [pair.row.span.name for pair in pairs if pair.failed] == ["load"]
    assert pairs[0].change == 100 * MS
    swapped = compare(waterfall(tree(make_span, 2, AFTER)), waterfall(tree(make_span, 1, BEFORE)))
    assert sorted(pair.what for pair in swapped) == [
        "faster", "faster", "gone", "gone", "new", "new", "same", "same",
    ]  # fmt: skip


@pytest.fixture
def filled(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    for trace, rows in ((1, BEFORE), (2, AFTER), (3, BEFORE)):
        viewer.store.add(tree(make_span, trace, rows))
    return viewer


def test_a_route_leads_to_its_traces_its_flame_and_a_comparison(filled: Viewer, page: Page) -> None:
    page.goto(filled.url)
    page.keyboard.press("r")
    page.wait_for_url("**/routes")
    row = page.locator("tr[data-row]")
    assert row.count() == 1
    text = row.inner_text()
    for figure in ("POST", "svc", "3", "100 ms", "200 ms"):
        assert figure in text
    assert row.locator(".histogram rect").count() == 2
    row.locator("a:has-text('Compare')").click()
    assert page.locator(".pairs tbody tr").count() == 8
    assert page.inner_text(".change.new b") == "2"
    assert "fails now" in page.inner_text(".pairs tr:has-text('load')")
    page.click("text=Only what changed")
    page.wait_for_url("**only=changes")
    assert page.locator(".pairs tbody tr").count() == 7
    page.click("text=Another")
    page.click("text=the slowest")
    page.wait_for_url(f"**/compare?a={3:032x}&b={2:032x}")
    page.go_back()
    page.go_back()
    page.goto(f"{filled.url}/routes")
    page.click("text=Flame")
    assert "3 traces" in page.inner_text(".facts")
    assert page.locator(".flame svg svg").count() == 6
    assert "POST" in page.inner_text("table")
    page.goto(f"{filled.url}/routes")
    page.click(".routes .what a")
    page.wait_for_selector("tr[data-row] >> nth=2")
    page.click("tr[data-row] .what a >> nth=0")
    page.click("text=Flame graph")
    page.wait_for_url("**/flame")
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile(r"/trace/\w+$"))


def test_a_stretch_of_the_chart_is_selected_by_dragging(
    viewer: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    for n in range(10):
        viewer.store.add([make_span(n * 1000, n * 1000 + 5, trace=n + 1, name=f"GET /{n}", kind=2)])
    page.goto(viewer.url)
    box = page.locator(".chart svg").bounding_box()
    assert box is not None
    y = box["y"] + 20
    page.mouse.move(box["x"] + box["width"] * 0.28, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=3)
    page.mouse.up()
    page.wait_for_url("**since=*")
    # Second 0 is at 1 percent, second 9 at 99.
    assert page.locator(".traces .what a").all_inner_texts() == ["GET /5", "GET /4", "GET /3"]
    page.click(".count a:has-text('Routes')")
    page.wait_for_url("**/routes?since=*")
    assert page.locator("tr[data-row]").count() == 3
    page.click("text=Any time")
    page.wait_for_selector("tr[data-row] >> nth=9")


def test_what_is_not_there_is_said(filled: Viewer) -> None:
    for path, status in (
        ("/routes/flame?name=none", 404),
        (f"/compare?a={9:032x}", 404),
        (f"/compare?a={1:032x}&b={9:032x}", 404),
        (f"/compare?a={1:032x}", 200),
        ("/routes?by=nonsense&since=x&until=99999999999999", 200),
    ):
        assert requests.get(filled.url + path, timeout=10).status_code == status, path


def test_one_request_is_every_percentile() -> None:
    route = Route("s", "n", [(5, "t")])
    assert {route.percentile(share)[0] for share in (0, 1, 50, 99, 100)} == {5}
