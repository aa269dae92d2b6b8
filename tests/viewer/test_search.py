from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.search import Filter
from flask_bodytrace.viewer.store import TraceStore


@pytest.fixture
def store(make_span: Callable[..., Span]) -> TraceStore:
    found = TraceStore()
    for trace, name, status, end, order in (
        (0xA1, "POST /orders", 201, 30, "ORD1"),
        (0xB2, "GET /orders", 404, 5, "ORD22"),
        (0xC3, "POST /pay", 503, 300, "ORD3"),
    ):
        attributes = {"order.id": order, "http.response.status_code": status}
        span = make_span(
            0, end, trace=trace, name=name, attributes=attributes, service="shop",
            status=2 if status >= 500 else 0,
        )  # fmt: skip
        child = make_span(
            trace=trace,
            service="pay" if trace == 0xC3 else "shop",
            parent=int(span.span_id, 16),
            end=1,
        )
        found.add([span, child])
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {0xA1, 0xB2, 0xC3}),
        ({"q": "ORD1"}, {0xA1}),
        ({"q": "ord2"}, {0xB2}),
        ({"q": "order.id=ORD3"}, {0xC3}),
        ({"q": "order.id=ORD"}, set()),
        ({"q": f"{0xB2:032x}"}, {0xB2}),
        ({"q": "/orders"}, {0xA1, 0xB2}),
        ({"service": "pay"}, {0xC3}),
        ({"service": "none"}, set()),
        ({"status": "error"}, {0xC3}),
        ({"status": "ok"}, {0xA1, 0xB2}),
        ({"status": "4xx"}, {0xB2}),
        ({"status": "404"}, {0xB2}),
        ({"status": "'><script>"}, {0xA1, 0xB2, 0xC3}),
        ({"min": "30"}, {0xA1, 0xC3}),
        ({"min": "0.1 s"}, {0xC3}),
        ({"min": "5000us"}, {0xA1, 0xB2, 0xC3}),
        ({"min": "soon"}, {0xA1, 0xB2, 0xC3}),
        ({"q": "ORD", "status": "5xx", "min": "200ms"}, {0xC3}),
    ],
)
def test_filters(store: TraceStore, arguments: dict[str, str], expected: set[int]) -> None:
    found = Filter.read(arguments).of(store.summaries())
    assert {int(summary.trace_id, 16) for summary in found} == expected


def test_a_filter_is_carried_on_to_the_next_page() -> None:
    wanted = Filter.read({"q": "a&b", "min": "5ms"})
    assert wanted.query(page=2) == "q=a%26b&min=5ms&page=2"
