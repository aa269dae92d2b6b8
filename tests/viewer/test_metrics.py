"""Metrics as lines, and their page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from flask_bodytrace.viewer import display
from flask_bodytrace.viewer.metric_charts import Chart, charts_of
from flask_bodytrace.viewer.metric_lines import (
    Bucket,
    Slots,
    growths,
    levels,
    percentile,
    percentiles,
    rates,
)
from flask_bodytrace.viewer.metrics import GAUGE, HISTOGRAM, SUM, Origin, Point, Series
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

S = 10**9
BEGAN = 1_700_000_000 * S
INFINITE = float("inf")
HOUR = 3600 * S


def at(seconds: float) -> int:
    return BEGAN + int(seconds * S)


def series(  # noqa: PLR0913 - what tests tell series by
    *points: tuple[float, float],
    kind: str = SUM,
    grows: bool = True,
    delta: bool = False,
    name: str = "m",
    unit: str = "",
    service: str = "shop",
    process: str = "1",
    began: float = 0,
    attributes: Sequence[tuple[str, str]] = (),
) -> Series:
    """Points are seconds after `BEGAN` and values."""
    origin = Origin(
        service, name, unit, kind, grows, delta, 0 if delta or kind == GAUGE else at(began),
        tuple(attributes), process,
    )  # fmt: skip
    start = 0 if kind == GAUGE else at(began)
    return Series(origin, [Point(start, at(time), value) for time, value in points])


def histogram(*points: tuple[float, tuple[int, ...]], bounds: tuple[float, ...]) -> Series:
    made = series(kind=HISTOGRAM, grows=False, name="taken", unit="s")
    found = [Point(BEGAN, at(time), sum(counts), bounds, counts) for time, counts in points]
    return Series(made.origin, found)


SLOTS = Slots(BEGAN, at(60), 6)


def test_what_only_grows_is_a_rate_from_its_start_on() -> None:
    one = series((20, 20), (40, 80), (60, 80))
    assert rates([one], SLOTS) == pytest.approx([1, 1, 3, 3, 0, 0])


def test_processes_add_up_and_where_nothing_was_measured_there_is_nothing() -> None:
    late = series((40, 40), process="2", began=20)
    assert rates([late], SLOTS) == [None, None, pytest.approx(2), pytest.approx(2), None, None]
    both = rates([series((60, 60)), late], SLOTS)
    assert both == pytest.approx([1, 1, 3, 3, 1, 1])
    assert rates([], SLOTS) == [None] * 6


def test_points_that_are_closer_than_slots_are_not_lost() -> None:
    one = series(*((time, time * time) for time in range(1, 61)))
    found = rates([one], SLOTS)
    assert sum(value or 0 for value in found) * 10 == pytest.approx(3600)


def test_deltas_count_from_the_point_before() -> None:
    one = series((10, 10), (20, 30), delta=True)
    points = [Point(at(0), at(10), 10), Point(at(10), at(20), 30)]
    assert [growth.amount for growth in growths(Series(one.origin, points))] == [10, 30]
    assert rates([Series(one.origin, points)], SLOTS)[:3] == [1, 3, None]
    # Without a start, it is where the point before was.
    bare = [Point(0, at(10), 10), Point(0, at(20), 30)]
    assert [(g.start, g.amount) for g in growths(Series(one.origin, bare))] == [(at(10), 30)]


def test_a_count_that_fell_began_anew() -> None:
    one = series((10, 100), (20, 5), (30, 15))
    found = list(growths(one))
    assert [growth.amount for growth in found] == [100, 5, 10]


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ({(0, 1): 50, (1, 2): 50}, 0.5, 1.0),
        ({(0, 1): 50, (1, 2): 50}, 0.95, 1.9),
        ({(0, 1): 50, (1, 2): 0, (2, 4): 50}, 0.75, 3.0),
        ({(0, 1): 10, (1, INFINITE): 90}, 0.95, 1.0),
        ({(-INFINITE, -1): 10}, 0.5, -1.0),
        ({(-INFINITE, INFINITE): 10}, 0.5, None),
        ({(0, 1): 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_percentiles_within_buckets(
    buckets: dict[Bucket, float], share: float, value: float | None
) -> None:
    found = percentile(buckets, share)
    assert found == (None if value is None else pytest.approx(value))


def test_percentiles_are_of_what_came_in_each_slot() -> None:
    one = histogram((20, (10, 0, 0)), (40, (10, 10, 0)), (60, (10, 10, 0)), bounds=(1.0, 2.0))
    assert percentiles([one], SLOTS, 0.5) == [
        pytest.approx(0.5), pytest.approx(0.5), pytest.approx(1.5), pytest.approx(1.5), None, None,
    ]  # fmt: skip
    other = histogram((60, (0, 600, 0)), bounds=(1.0, 2.0))
    found = percentiles([one, other], SLOTS, 0.5)
    assert all(value is not None and 1 < value < 2 for value in found)


def test_buckets_that_are_others_now_say_nothing_of_the_time_between() -> None:
    one = histogram((20, (1, 1)), bounds=(1.0,))
    more = [*one.points, Point(BEGAN, at(40), 9, (2.0,), (5, 4))]
    finer = [*one.points, Point(BEGAN, at(40), 9, (0.5, 1.0), (2, 4, 3))]
    assert list(growths(Series(one.origin, more)))[1].buckets == {}
    assert list(growths(Series(one.origin, finer)))[1].buckets == {
        (0.0, 0.5): 2, (0.5, 1.0): 3, (1.0, INFINITE): 2,
    }  # fmt: skip


def test_what_is_counted_up_and_down_holds_until_the_next_point() -> None:
    one = series((5, 4), (35, 1), (45, 2), grows=False)
    assert levels([one], SLOTS) == [4, 4, 4, 1, 2, None]
    other = series((5, 1), (55, 1), grows=False, process="2")
    assert levels([one, other], SLOTS) == [5, 5, 5, 2, 3, 1]
    summed = series((5, 4), (15, -1), (25, -1), grows=False, delta=True)
    assert levels([summed], SLOTS)[:4] == [4, 3, 2, None]


def test_of_gauges_the_mean_of_all_processes_counts() -> None:
    one, other = (series((5, v), (55, v), kind=GAUGE, grows=False, process=str(v)) for v in (1, 4))
    assert levels([one, other], SLOTS) == [2.5] * 6


def test_the_charts_there_are() -> None:
    many = [
        series((60, 6), name="z.count", unit="By"),
        series((60, 30), name="http.client.waited", unit="s"),
        series((60, 2), name="http.server.active_requests", grows=False),
        series((60, 9), name="a.size", service="basket", kind=GAUGE, grows=False, unit="By"),
    ]
    taken = histogram((60, (90, 10, 0)), bounds=(0.1, 0.2))
    for name, unit in (("http.server.request.duration", "s"), ("http.size", "By")):
        origin = Origin("shop", name, unit, HISTOGRAM, False, False, BEGAN, (), "")
        many.append(Series(origin, taken.points))
    charts = charts_of(many, HOUR)
    assert [(chart.service, chart.name, chart.what) for chart in charts] == [
        ("basket", "a.size", "level"),
        ("shop", "http.server.request.duration", "rate"),
        ("shop", "http.server.request.duration", "p95"),
        ("shop", "http.server.active_requests", "level"),
        ("shop", "http.client.waited", "rate"),
        ("shop", "http.size", "rate"),
        ("shop", "http.size", "p95"),
        ("shop", "z.count", "rate"),
    ]
    assert [chart.amount(chart.lines[0].latest) for chart in charts] == [
        "9 B", "1.67/s", "150 ms", "2", "0.5/s", "1.67/s", "0.15 B", "0.1 B/s",
    ]  # fmt: skip


def test_lines_are_told_apart_by_what_is_not_the_same() -> None:
    same = ("server.address", "shop")
    many = [
        series((60, n), attributes=[("http.request.method", method), same], process=process)
        for n, method, process in ((60, "GET", "1"), (120, "GET", "2"), (60, "POST", "1"))
    ]
    (chart,) = charts_of(many, HOUR)
    assert [line.label for line in chart.lines] == ["GET", "POST"]
    assert [line.latest for line in chart.lines] == pytest.approx([3, 1])
    many = [series((60, n), attributes=[("n", str(n))]) for n in range(8)]
    (chart,) = charts_of(many, HOUR)
    assert [line.label for line in chart.lines] == ["3", "4", "5", "6", "7"]
    assert chart.left_out == 3


def test_a_window_shows_the_last_of_the_time() -> None:
    one = series((600, 600), (1200, 6600))
    (chart,) = charts_of([one], 300 * S)
    assert (chart.slots.first, chart.slots.last) == (at(900), at(1200))
    assert set(chart.lines[0].values) == {10}
    (chart,) = charts_of([one], HOUR)
    assert chart.slots.first == BEGAN


def points_of(chart: Chart) -> list[tuple[float, float]]:
    path = chart.lines[0].path.replace("M", "L").split("L")[1:]
    return [(float(x), float(y)) for x, y in (point.split() for point in path)]


def test_a_line_is_drawn_where_its_values_are() -> None:
    (chart,) = charts_of([series((30, 60), (60, 60))], HOUR)
    drawn = points_of(chart)
    assert [drawn[0], drawn[-1]] == [(0, 2), (60, 98)]
    assert {(29.5, 2), (30.5, 98)} <= set(drawn)
    # A single point has a place too; and values below zero are on the scale.
    (lone,) = charts_of([series((60, -5), kind=GAUGE, grows=False)], HOUR)
    assert points_of(lone)[-1] == (60, 98)
    assert (lone.low, lone.high) == (-5, 0)
    (nothing,) = charts_of([series((60, 0))], HOUR)
    assert {y for _, y in points_of(nothing)} == {98}


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.25, "s", "250 ms"),
        (12.5, "ms", "12.5 ms"),
        (1536, "By", "1.5 KiB"),
        (5 * 2**40, "By", "5 TiB"),
        (3, "{request}", "3"),
        (0.1234, "1", "0.123"),
        (1234567, "", "1,234,567"),
        (21.5, "Cel", "21.5 Cel"),
        (-3, "{connection}", "-3"),
    ],
)
def test_amounts(value: float, unit: str, shown: str) -> None:
    assert display.amount(value, unit) == shown


# The page


@pytest.fixture
def meters(viewer: Viewer) -> Iterator[MeterProvider]:
    """Sends when it is flushed, and not before."""
    exporter = OTLPMetricExporter(f"{viewer.url}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=HOUR)
    resource = Resource({"service.name": "python-shop"})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def captions(page: Page) -> list[str]:
    found = page.locator(".metric figcaption").all_inner_texts()
    return [" ".join(text.split()) for text in found]


def test_a_service_s_metrics_are_charts_that_follow_along(
    viewer: Viewer, meters: MeterProvider, page: Page
) -> None:
    page.goto(f"{viewer.url}/metrics")
    assert "once they come in" in page.inner_text(".empty")
    meter = meters.get_meter("shop")
    taken = meter.create_histogram(
        "http.server.request.duration", "s", explicit_bucket_boundaries_advisory=[0.1, 0.2, 0.4]
    )
    for _ in range(100):
        taken.record(0.15, {"http.route": "/orders"})
    assert meters.force_flush()
    page.wait_for_selector(".metric.p95")
    rate, slow = captions(page)
    assert rate.startswith("http.server.request.duration rate")
    assert rate.endswith("/s")
    assert slow == "http.server.request.duration P95 195 ms"
    assert page.inner_text("h2.service") == "python-shop"
    active = meter.create_up_down_counter("http.server.active_requests", "{request}")
    active.add(3, {"http.request.method": "GET"})
    active.add(4, {"http.request.method": "POST"})
    assert meters.force_flush()
    page.wait_for_selector(".metric.level")
    legend = page.locator(".metric.level li").all_inner_texts()
    assert [" ".join(text.split()) for text in legend] == ["GET 3", "POST 4"]
    told = page.locator(".metric.level title").last.text_content() or ""
    assert told.splitlines()[1:] == ["GET 3", "POST 4"]


@pytest.fixture
def filled(viewer: Viewer) -> Viewer:
    many = [
        series((60, 6), name="z.count", service="basket"),
        series((60, 2), name="http.server.active_requests", grows=False),
        series((600, 1200), name="jobs"),
    ]
    viewer.store.add_metrics((one.origin, point) for one in many for point in one.points)
    return viewer


def test_filtered_as_the_address_says(filled: Viewer, page: Page) -> None:
    page.goto(filled.url)
    page.keyboard.press("h")
    page.wait_for_url("**/metrics")
    assert [caption.split()[0] for caption in captions(page)] == [
        "z.count", "http.server.active_requests", "jobs",
    ]  # fmt: skip
    page.select_option("[name=service]", "shop")
    page.wait_for_url("**/metrics?service=shop")
    page.fill("[name=q]", "JOB")
    page.keyboard.press("Enter")
    page.wait_for_url("**/metrics?q=JOB&service=shop")
    assert captions(page) == ["jobs rate 2/s"]
    before = page.inner_text(".between")
    page.select_option("[name=window]", "5m")
    page.wait_for_url("**/metrics?q=JOB&service=shop&window=5m")
    assert page.inner_text(".between") != before
    page.fill("[name=q]", "nothing")
    page.keyboard.press("Enter")
    page.click(".empty a")
    page.wait_for_url("**/metrics")


def test_without_the_script_it_is_the_same_page(filled: Viewer, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{filled.url}/metrics?service=shop")
    assert page.locator(".metric path").count() == 2
    box = page.locator(".metric path").last.bounding_box()
    assert box is not None
    assert box["width"] > 200
    context.close()


def test_what_a_metric_says_is_text(viewer: Viewer) -> None:
    evil = "<script>alert(1)</script>"
    one = series((60, 6), name=evil, service=evil, unit=evil)
    viewer.store.add_metrics((one.origin, point) for point in one.points)
    page = requests.get(f"{viewer.url}/metrics", timeout=10).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
