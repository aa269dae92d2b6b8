"""One odd span must not take a page away: whatever is received, every page answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from flask_bodytrace.viewer import otlp, otlp_writer
from flask_bodytrace.viewer.access import Access
from flask_bodytrace.viewer.model import Event, Link, LogRecord, Span
from flask_bodytrace.viewer.pages import Viewer
from flask_bodytrace.viewer.store import TraceStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NANOS = st.sampled_from([0, 1, 10**9, 17 * 10**17, 17 * 10**17 + 5, (1 << 64) - 1])
TEXT = st.text(st.characters(), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(
    [
        "order.id", "http.request.method", "http.response.status_code", "url.full", "url.path",
        "http.request.header.x", "server.address", "server.port", "db.system.name",
        "messaging.system", "exception.type", "exception.stacktrace",
    ]
)  # fmt: skip
ATTRIBUTES = st.dictionaries(NAMES | TEXT, VALUES, max_size=5)
SPANS = st.builds(
    Span,
    trace_id=st.just(TRACE),
    span_id=st.integers(1, 5).map("{:016x}".format),
    parent_id=st.none() | st.integers(1, 7).map("{:016x}".format),
    name=TEXT,
    kind=st.integers(0, 5),
    start=NANOS,
    end=NANOS,
    status=st.integers(0, 2),
    status_message=TEXT,
    service=TEXT,
    scope=TEXT,
    trace_state=TEXT,
    resource=ATTRIBUTES,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, st.just("exception") | TEXT, NANOS, ATTRIBUTES), max_size=2),
    links=st.lists(
        st.builds(Link, st.just(TRACE) | st.just(""), st.just(""), ATTRIBUTES), max_size=2
    ),
    dropped=st.integers(0, 3),
)
LOGS = st.builds(
    LogRecord, st.just(TRACE), st.just(f"{1:016x}"), NANOS, TEXT, st.integers(), VALUES, TEXT, TEXT,
    ATTRIBUTES,
)  # fmt: skip


# One for all: what takes long is to compile its templates.
viewer = Viewer(TraceStore(), Access())


def client(store: TraceStore) -> Client:
    viewer.store = store

    def local(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return viewer({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    return Client(local)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPANS, min_size=1, max_size=3), st.lists(LOGS, max_size=1))
def test_every_page_answers_whatever_was_received(spans: list[Span], logs: list[LogRecord]) -> None:
    store = TraceStore()
    store.add(spans, logs)
    browser = client(store)
    one = f"/trace/{TRACE}"
    paths = ["/", "/?q=a&status=5xx&min=1", "/map", f"/map?trace={TRACE}", one, f"{one}/export"]
    paths += [f"{one}/span/{span.span_id}" for span in spans]
    paths += [f"{one}/mermaid.mmd", "/changed.json", f"/version?trace={TRACE}"]
    for path in paths:
        assert browser.get(path).status_code == 200, path
    assert browser.get(f"{one}/curl.sh").status_code in {200, 404}
    answer = browser.get(f"{one}/otlp.json")
    assert answer.status_code == 200


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPANS, min_size=1, max_size=4))
def test_what_is_exported_can_be_sent_again(spans: list[Span]) -> None:
    again = otlp.spans_from_json(otlp_writer.to_json(spans).encode())
    assert sorted(span.span_id for span in again) == sorted(span.span_id for span in spans)


def test_what_is_not_there_is_404_in_words() -> None:
    browser = client(TraceStore())
    for path in (f"/trace/{TRACE}", f"/trace/{TRACE}/export", f"/map?trace={TRACE}", "/static/x"):
        answer = browser.get(path)
        assert answer.status_code == 404, path
        assert "Back to the traces" in answer.text
    assert browser.post("/").status_code == 405


def test_a_long_list_is_cut_into_pages() -> None:
    store = TraceStore()
    base = Span(
        "", "a" * 16, None, "GET /", 2, 0, 5, 0, "", "svc", "", "", {}, {}, [], [],
    )  # fmt: skip
    store.add(
        msgspec.structs.replace(base, trace_id=f"{n:032x}", start=n * 10**9, end=n * 10**9 + n)
        for n in range(1, 251)
    )
    browser = client(store)
    counts = [browser.get(f"/?page={page}").text.count("<tr data-row") for page in (1, 2, 3, 4)]
    assert counts == [100, 100, 50, 0]
    assert "?page=2" in browser.get("/").text
    assert "Newer" not in browser.get("/").text
    assert "Older" not in browser.get("/?page=3").text
    assert browser.get("/?page=nonsense").text.count("<tr data-row") == 100


def test_names_that_no_encoding_holds_can_be_linked(make_span: Callable[..., Span]) -> None:
    store = TraceStore()
    store.add([make_span(service="\ud800", name="\udfff", attributes={"order.id": "\udead"})])
    browser = client(store)
    (summary,) = store.summaries()
    trace = store.trace(summary.trace_id)
    assert trace is not None
    one = f"/trace/{summary.trace_id}"
    for path in ("/", one, f"{one}/span/{trace.spans[0].span_id}", "/map", f"{one}/export"):
        assert browser.get(path).status_code == 200, path
