from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_bodytrace.viewer.model import Event, Span
from flask_bodytrace.viewer.search import Filter
from flask_bodytrace.viewer.store import Limits, TraceStore
from flask_bodytrace.viewer.terms import asking_for


@pytest.fixture
def store(make_span: Callable[..., Span]) -> TraceStore:
    found = TraceStore()
    for trace, name, status, end, order in (
        (0xA1, "POST /orders", 201, 30, "ORD1"),
        (0xB2, "GET /orders", 404, 5, "ORD22"),
        (0xC3, "POST /pay", 503, 300, "ORD3"),
    ):
        attributes = {"order.id": order, "http.response.status_code": status}
        failure = Event("exception", 5, {"exception.type": "shop.Lost", "exception.message": "x"})
        span = make_span(
            0, end, trace=trace, name=name, attributes=attributes, service="shop",
            status=2 if status >= 500 else 0, events=[failure] if status >= 500 else [],
            resource={"host.name": f"h-{order}"},
        )  # fmt: skip
        child = make_span(
            trace=trace,
            service="pay" if trace == 0xC3 else "shop",
            parent=int(span.span_id, 16),
            end=1,
            attributes={"note": f'say "{order} now"', "tags": ["a", order.lower()], "n": 3},
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
        ({"q": "note"}, {0xA1, 0xB2, 0xC3}),
        ({"q": "exception.type"}, {0xC3}),
        ({"q": "exception=shop.lost"}, {0xC3}),
        ({"q": "event=exception"}, {0xC3}),
        ({"q": "host.name=h-ORD22"}, {0xB2}),
        ({"q": "order.id=ORD*"}, {0xA1, 0xB2, 0xC3}),
        ({"q": "order.id=ORD2*"}, {0xB2}),
        ({"q": "order.id="}, {0xA1, 0xB2, 0xC3}),
        ({"q": "order.id=*"}, {0xA1, 0xB2, 0xC3}),
        ({"q": "no.such="}, set()),
        ({"q": "tags=ord1"}, {0xA1}),
        ({"q": "n=3 -ord1"}, {0xB2, 0xC3}),
        ({"q": 'name="POST /orders"'}, {0xA1}),
        ({"q": '"POST /p"'}, {0xC3}),
        ({"q": '"POST/p"'}, set()),
        ({"q": r'note="say \"ORD1 now\""'}, {0xA1}),
        ({"q": "service=pay post"}, {0xC3}),
        ({"q": "kind=internal"}, {0xA1, 0xB2, 0xC3}),
        ({"q": "status=error"}, {0xC3}),
        ({"q": f"{0xB2:032x}"[-9:]}, {0xB2}),
        ({"q": "http.response.status_code=404"}, {0xB2}),
        ({"q": '"'}, {0xA1, 0xB2, 0xC3}),
        ({"q": "ORD", "status": "5xx", "min": "200ms"}, {0xC3}),
    ],
)
def test_filters(store: TraceStore, arguments: dict[str, str], expected: set[int]) -> None:
    found = Filter.read(arguments).of(store, store.summaries())
    assert {int(summary.trace_id, 16) for summary in found} == expected


def test_a_filter_is_carried_on_to_the_next_page() -> None:
    wanted = Filter.read({"q": "a&b", "min": "5ms"})
    assert wanted.query(page=2) == "q=a%26b&min=5ms&page=2"


@pytest.mark.parametrize(
    "value", ["plain", "two words", 'a "quote"', "back\\slash", "x*", "", "=", "-"]
)
def test_what_a_link_asks_for_is_found_and_nothing_else(
    make_span: Callable[..., Span], value: str
) -> None:
    found = TraceStore()
    found.add([make_span(trace=1, attributes={"k": value})])
    found.add([make_span(trace=2, attributes={"k": f"{value} more"})])
    wanted = Filter.read({"q": asking_for("k", value)})
    assert [s.trace_id for s in wanted.of(found, found.summaries())] == [f"{1:032x}"]


def test_what_comes_later_is_found_and_what_has_gone_is_not(
    make_span: Callable[..., Span],
) -> None:
    found = TraceStore(Limits(traces=1, index=10_000))
    wanted = Filter.read({"q": "k=late"})
    found.add([make_span(trace=1)])
    assert wanted.of(found, found.summaries()) == []
    found.add([make_span(trace=1, attributes={"k": "late"})])
    assert len(wanted.of(found, found.summaries())) == 1
    assert found._indexed > 0
    found.add([make_span(trace=2)])
    assert wanted.of(found, found.summaries()) == []
    assert found.index(f"{1:032x}") is None
    index = found.index(f"{2:032x}")
    assert index is not None
    assert found._indexed == index.size


def test_beyond_its_bound_nothing_is_kept_for_searches_and_all_is_found(
    make_span: Callable[..., Span],
) -> None:
    found = TraceStore(Limits(index=500))
    found.add([make_span(trace=n, attributes={"k": "x" * 100}) for n in range(1, 20)])
    wanted = Filter.read({"q": "k=xx*"})
    assert len(wanted.of(found, found.summaries())) == 19
    assert 0 < found._indexed <= 500


@pytest.mark.parametrize("names", [["ORDER_NO", 5], "ORDER_NO, x"])
@pytest.mark.parametrize("where", ["resource", "attributes"])
def test_a_service_says_which_attributes_are_business_ids(
    make_span: Callable[..., Span], where: str, names: object
) -> None:
    found = TraceStore()
    attributes = {"ORDER_NO": "7", "other": "8"}
    if where == "resource":
        found.add([make_span(attributes=attributes, resource={"bodytrace.ids": names})])
    else:
        found.add([make_span(attributes={**attributes, "bodytrace.ids": names})])
    assert found.summaries()[0].ids == (("ORDER_NO", "7"),)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", ["GET /orders", "POST /orders", "POST /pay"]),
        ("duration", ["GET /orders", "POST /orders", "POST /pay"]),
        ("-duration", ["POST /pay", "POST /orders", "GET /orders"]),
        ("-name", ["POST /pay", "POST /orders", "GET /orders"]),
        ("-status", ["POST /pay", "GET /orders", "POST /orders"]),
        ("nonsense", ["GET /orders", "POST /orders", "POST /pay"]),
    ],
)
def test_the_list_is_sorted_by_a_column(store: TraceStore, sort: str, expected: list[str]) -> None:
    found = Filter.read({"sort": sort}).of(store, store.summaries())
    names = [summary.name for summary in found]
    # All start at once: without a column, no order among them is promised.
    assert (names if sort.startswith("-") else sorted(names)) == expected
