"""The service map: what is counted, where it is drawn, and the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from flask_bodytrace.viewer.layout import lay_out
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.servicemap import count_calls
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def test_the_map_counts_calls_and_names_databases(make_span: Callable[..., Span]) -> None:
    database = {"db.system.name": "postgresql", "db.namespace": "shop"}
    spans = [
        make_span(0, 30, id=1, service="web"),
        make_span(1, 29, id=2, parent=1, service="web", kind=3),
        make_span(2, 20, id=3, parent=2, service="orders", kind=2, status=2),
        make_span(3, 5, id=4, parent=3, service="orders", kind=3, attributes=database),
    ]
    calls = count_calls(spans)
    assert {name: node.peer for name, node in calls.nodes.items()} == {
        "web": False,
        "orders": False,
        "postgresql shop": True,
    }
    assert [(e.source, e.target, e.calls, e.errors, e.p95) for e in calls.edges] == [
        ("web", "orders", 1, 1, 28 * 10**6),
        ("orders", "postgresql shop", 1, 0, 2 * 10**6),
    ]
    lay_out(calls.nodes, calls.edges)
    places = [calls.nodes[name].x for name in ("web", "orders", "postgresql shop")]
    assert places == sorted(set(places))


def test_services_that_call_each_other_in_a_circle_are_drawn(
    make_span: Callable[..., Span],
) -> None:
    spans = [
        make_span(id=1, service="a"),
        make_span(id=2, parent=1, service="b"),
        make_span(id=3, parent=2, service="c"),
        make_span(id=4, parent=3, service="a"),
    ]
    calls = count_calls(spans)
    width, height = lay_out(calls.nodes, calls.edges)
    assert len(calls.edges) == 3
    assert all(edge.path.startswith("M") for edge in calls.edges)
    places = {(node.x, node.y) for node in calls.nodes.values()}
    assert len(places) == 3
    assert width > max(x for x, _ in places)
    assert height > max(y for _, y in places)


def test_no_arrow_runs_behind_a_box(make_span: Callable[..., Span]) -> None:
    spans = [
        make_span(id=1, service="a"),
        make_span(id=2, parent=1, service="b"),
        make_span(id=3, parent=2, service="c"),
        make_span(id=4, parent=1, service="c"),
    ]
    calls = count_calls(spans)
    lay_out(calls.nodes, calls.edges)
    past = next(edge for edge in calls.edges if (edge.source, edge.target) == ("a", "c"))
    ((x, y),) = re.findall(r" (\d+) (\d+)H", past.path)
    box = calls.nodes["b"]
    assert int(x) == box.x
    assert int(y) > 0
    assert not box.y <= int(y) <= box.y + 62


def shards(make_span: Callable[..., Span], number: int) -> list[Span]:
    """Calls to as many databases of one system, one of them failed, and one of another."""
    spans = [
        make_span(0, n + 1, id=n + 1, service="web", kind=3, status=2 if n == 3 else 0,
                  attributes={"db.system.name": "postgresql", "db.namespace": f"shard{n}"})
        for n in range(number)
    ]  # fmt: skip
    redis = {"db.system.name": "redis"}
    return [*spans, make_span(0, 1, id=99, service="web", kind=3, attributes=redis)]


def test_databases_of_one_system_are_one_box_until_it_is_opened(
    make_span: Callable[..., Span],
) -> None:
    spans = shards(make_span, 8)
    folded = count_calls(spans)
    assert set(folded.nodes) == {"web", "postgresql", "redis"}
    node = folded.nodes["postgresql"]
    assert (len(node.folded), node.spans, node.errors, node.p95) == (8, 8, 1, 8 * 10**6)
    edge = next(edge for edge in folded.edges if edge.target == "postgresql")
    assert (edge.calls, edge.errors, edge.p95) == (8, 1, 8 * 10**6)
    assert len(count_calls(spans, frozenset({"postgresql"})).nodes) == 10
    # One database is itself.
    assert "postgresql shard0" in count_calls(spans[:1]).nodes


def test_a_service_that_is_called_as_a_system_is_none(make_span: Callable[..., Span]) -> None:
    spans = [*shards(make_span, 2), make_span(id=50, service="postgresql", kind=2)]
    assert set(count_calls(spans).nodes) == {
        "web", "postgresql", "redis", "postgresql shard0", "postgresql shard1",
    }  # fmt: skip


BEHIND = """() => {
  const inside = (box, { x, y }) =>
    x > box.x + 1 && x < box.x + box.width - 1 && y > box.y + 1 && y < box.y + box.height - 1;
  const boxes = [...document.querySelectorAll(".node")].map((node) => {
    const [x, y] = node.getAttribute("transform").match(/[\\d.]+/g).map(Number);
    const box = node.querySelector(".box");
    return { x, y, width: box.width.baseVal.value, height: box.height.baseVal.value };
  });
  const picture = document.querySelector(".map svg").viewBox.baseVal;
  const found = [];
  for (const path of document.querySelectorAll("path.edge")) {
    const length = path.getTotalLength();
    for (let at = 2; at < length - 2; at += 3) {
      const point = path.getPointAtLength(at);
      if (boxes.some((box) => inside(box, point))) found.push(["behind", path.getAttribute("d")]);
      if (!inside(picture, point)) found.push(["outside", path.getAttribute("d")]);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("seed", range(4))
def test_no_arrow_runs_behind_a_box_whatever_the_graph(
    viewer: Viewer, page: Page, make_span: Callable[..., Span], seed: int
) -> None:
    names = "abcdefghij"
    number = 1
    for trace in range(30):
        above = None
        for step in range(4):
            service = names[(trace * 7 + step * (3 + seed) + trace * step * seed) % len(names)]
            viewer.store.add(
                [make_span(0, 5, id=number, trace=trace + 1, parent=above, service=service, kind=2)]
            )
            above, number = number, number + 1
    page.goto(f"{viewer.url}/map")
    assert page.locator("path.edge").count() >= 10
    assert page.evaluate(BEHIND) == []
    # Nor are labels written over one another.
    boxes: list[dict[str, Any]] = page.evaluate(
        """() => [...document.querySelectorAll("text.edge")].map((text) => {
             const { x, y, width, height } = text.getBBox();
             return { x, y, width, height };
           })"""
    )
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart = (
                one["x"] + one["width"] <= other["x"] + 1
                or other["x"] + other["width"] <= one["x"] + 1
                or one["y"] + one["height"] <= other["y"] + 4
                or other["y"] + other["height"] <= one["y"] + 4
            )
            assert apart, (one, other)


def test_a_folded_box_opens_by_a_click_and_folds_again(
    viewer: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    viewer.store.add(shards(make_span, 8))
    page.goto(f"{viewer.url}/map")
    assert page.locator(".node").count() == 3
    text = page.locator(".node.folded").text_content() or ""
    assert "1 failed" in text
    assert "P95 8 ms" in text
    page.click(".node.folded")
    page.wait_for_url("**/map?open=postgresql")
    assert page.locator(".node").count() == 10
    page.click("text=Fold postgresql")
    page.wait_for_url(re.compile("/map[?]?$"))
    # And without a pointer, in the table.
    page.click("td a:has-text('8 databases')")
    page.wait_for_url("**/map?open=postgresql")


def test_on_a_phone_it_is_a_list(
    viewer: Viewer, browser: Browser, make_span: Callable[..., Span]
) -> None:
    viewer.store.add(shards(make_span, 2))
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(f"{viewer.url}/map")
    assert not page.locator(".map").is_visible()
    rows = page.locator(".edges tbody tr")
    assert rows.count() == 2
    assert "postgresql (2 databases)" in rows.first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
