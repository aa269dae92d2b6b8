from __future__ import annotations

import threading
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_bodytrace.viewer.model import Link, LogRecord, Span, weigh
from flask_bodytrace.viewer.store import Limits, TraceStore
from flask_bodytrace.viewer.summary import IDS, summarize


def ids(store: TraceStore) -> list[int]:
    return sorted(int(summary.trace_id, 16) for summary in store.summaries())


# T20
def test_the_oldest_trace_goes_whole_when_there_are_too_many(
    make_span: Callable[..., Span],
) -> None:
    store = TraceStore(Limits(traces=3))
    for trace in range(1, 6):
        store.add([make_span(trace=trace), make_span(trace=trace)])
    assert ids(store) == [3, 4, 5]
    assert len(store) == 6


# T20
def test_spans_are_bounded_across_traces(make_span: Callable[..., Span]) -> None:
    store = TraceStore(Limits(items=10))
    for trace in range(1, 30):
        store.add([make_span(trace=trace) for _ in range(3)])
        assert len(store) <= 10
    assert ids(store) == [27, 28, 29]


# T20
def test_bytes_are_bounded_and_counted_back(make_span: Callable[..., Span]) -> None:
    big = {"text": "x" * 10_000}
    store = TraceStore(Limits(bytes=50_000))
    for trace in range(1, 40):
        store.add([make_span(trace=trace, attributes=big)])
        assert store.size <= 50_000
    left = [store.trace(summary.trace_id) for summary in store.summaries()]
    assert store.size == sum(weigh(span) for trace in left if trace for span in trace.spans)


def test_one_endless_trace_stops_growing_and_says_so(make_span: Callable[..., Span]) -> None:
    store = TraceStore(Limits(trace_items=5))
    store.add([make_span(trace=2)])
    store.add([make_span() for _ in range(8)])
    trace = store.trace(f"{1:032x}")
    assert trace is not None
    assert len(trace.spans) == 5
    assert trace.summary.left_out == 3
    assert ids(store) == [1, 2]


def test_a_single_span_over_the_byte_limit_is_left_out(make_span: Callable[..., Span]) -> None:
    store = TraceStore(Limits(bytes=5_000))
    store.add([make_span(trace=1)])
    store.add([make_span(trace=2, attributes={"text": "x" * 10_000})])
    assert ids(store) == [1]
    assert store.size <= 5_000


def test_a_span_sent_twice_is_kept_once(make_span: Callable[..., Span]) -> None:
    store = TraceStore()
    store.add([make_span(id=7)])
    size = store.size
    store.add([make_span(id=7)])
    assert len(store) == 1
    assert store.size == size


def test_log_records_count_and_wait_for_their_trace(make_span: Callable[..., Span]) -> None:
    store = TraceStore(Limits(items=3))
    log = LogRecord(f"{1:032x}", None, 5, "INFO", 9, "hello", "svc", "", {})
    store.add((), [log])
    assert store.summaries() == []
    store.add([make_span()])
    trace = store.trace(log.trace_id)
    assert trace is not None
    assert trace.logs == [log]
    store.add([make_span(trace=2) for _ in range(3)])
    assert ids(store) == [2]
    assert len(store) == 3


def test_what_changed_after_a_version(make_span: Callable[..., Span]) -> None:
    store = TraceStore()
    store.add([make_span(trace=1)])
    version = store.version
    store.add([make_span(trace=2)])
    assert [int(summary.trace_id, 16) for summary in store.summaries(after=version)] == [2]


def test_many_threads_keep_the_books_straight(make_span: Callable[..., Span]) -> None:
    store = TraceStore(Limits(traces=50, items=200, bytes=400_000))
    batches = [[make_span(trace=trace % 90 + 1) for _ in range(4)] for trace in range(400)]

    def work(part: int) -> None:
        for batch in batches[part::4]:
            store.add(batch)
            store.summaries()

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = [store.trace(summary.trace_id) for summary in store.summaries()]
    spans = [span for trace in left if trace for span in trace.spans]
    assert len(store) == len(spans) <= 200
    assert store.size == sum(map(weigh, spans)) <= 400_000
    assert store.trace_count <= 50


def test_business_ids_are_told_from_machinery(make_span: Callable[..., Span]) -> None:
    attributes = {
        "order.id": "ORD1",
        "userId": 42,
        "customer_id": "c",
        "thread.id": 5,
        "service.instance.id": "x",
        "grid": "no",
        "tenant": "acme",
        "valid": True,
    }
    store = TraceStore(business_ids=["tenant"])
    store.add([make_span(attributes=attributes)])
    (summary,) = store.summaries()
    assert dict(summary.ids) == {
        "order.id": "ORD1",
        "userId": "42",
        "customer_id": "c",
        "tenant": "acme",
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(-5, 5), st.integers(0, 9), st.booleans()),
        max_size=9,
    )
)
def test_a_summary_is_the_same_however_its_spans_came(
    make_span: Callable[..., Span], drawn: list[tuple[int, int, int, bool]]
) -> None:
    store = TraceStore(Limits(trace_items=3), business_ids=["n"])
    declared = {IDS: "cart"}
    for number, start, took, is_plain in drawn:
        span = make_span(
            start, start + took, id=number, parent=None if number == 1 else number % 4,
            status=2 * is_plain, service=f"s{took % 3}",
            attributes={"n": number, "cart": start, "order.id": f"ORD{took}", "flag": is_plain},
            resource={} if is_plain else declared,
            links=[Link(f"{took:032x}", f"{1:016x}", {})] * is_plain,
        )  # fmt: skip
        store.add([span])
        # What was asked for in between must not show later.
        if is_plain:
            store.summaries()
    for summary in store.summaries():
        kept = store._traces[summary.trace_id]
        expected = summarize(summary.trace_id, kept.spans, frozenset({"n"}), kept.left_out)
        assert summary == expected
        spans = kept.spans.values()
        assert summary.errors == sum(span.failed for span in spans)
        assert summary.start == min(span.start for span in spans)
        assert summary.start + summary.whole == max(span.end for span in spans)
        assert set(summary.services) == {span.service for span in spans}
        wanted = {("order.id", span.attributes["order.id"]) for span in spans}
        wanted |= {("n", str(span.attributes["n"])) for span in spans}
        wanted |= {("cart", str(s.attributes["cart"])) for s in spans if s.resource}
        assert set(summary.ids) == wanted
