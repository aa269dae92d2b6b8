"""``python -m benchmarks.viewer``: what the trace viewer takes in, and how fast it answers.

Measured with 100,000 spans in the store, one trace of 10,000 among them: ingest on one core through
the receiver, without the network; memory against the store's own account of it; the time to render
each page; and how a large trace scrolls in a browser.
"""

from __future__ import annotations

import gc
import gzip
import time
import tracemalloc
from collections.abc import Callable, Iterable
from statistics import median
from typing import TYPE_CHECKING

from werkzeug.test import Client

from benchmarks.viewer_load import BATCH, LARGEST, batch
from benchmarks.viewer_scroll import scrolling
from flask_bodytrace.viewer.access import Access
from flask_bodytrace.viewer.pages import Viewer
from flask_bodytrace.viewer.store import ALONE, Limits, TraceStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SPANS = 100_000
ROUNDS = 9
BURSTS = 3


def _client(store: TraceStore) -> Client:
    viewer = Viewer(store, Access(), receives=True)

    def local(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return viewer({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    return Client(local)


def _send(client: Client, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    answer = client.post("/v1/traces", data=body, headers=headers)
    assert answer.status_code == 200


def _milliseconds(work: Callable[[], object]) -> tuple[float, float, float]:
    """Median and worst of some rounds by the clock, and the median of the processor's time."""
    taken, busy = [], []
    for _ in range(ROUNDS):
        start, start_busy = time.perf_counter(), time.thread_time()
        work()
        taken.append((time.perf_counter() - start) * 1000)
        busy.append((time.thread_time() - start_busy) * 1000)
    return median(taken), max(taken), median(busy)


def ingest() -> None:
    """Spans a second, gzip and protobuf included, far past the store's bounds."""
    limits = Limits(traces=2_000, items=20_000, bytes=24 << 20)
    store = TraceStore(limits)
    client = _client(store)
    bodies = [gzip.compress(batch(BATCH)) for _ in range(100)]
    start = time.perf_counter()
    largest = 0
    for body in bodies:
        _send(client, body)
        largest = max(largest, len(store))
    taken = time.perf_counter() - start
    sent = len(bodies) * BATCH
    print(f"ingest: {sent / taken:,.0f} spans/s ({sent:,} spans sent, at most {largest:,} kept)")
    tracemalloc.start()
    store = TraceStore(limits)
    client = _client(store)
    for _ in range(60):
        _send(client, gzip.compress(batch(BATCH)))
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(
        f"memory: {held / 2**20:.1f} MiB held, {store.size / 2**20:.1f} MiB by the store's account,"
        f" {limits.bytes / 2**20:.0f} MiB allowed"
    )


def _full() -> tuple[TraceStore, Client]:
    """A store of 100,000 spans, the first trace of which is large."""
    store = TraceStore(ALONE)
    client = _client(store)
    _send(client, gzip.compress(batch(LARGEST, LARGEST)))
    while len(store) < SPANS:
        _send(client, gzip.compress(batch(min(BATCH, SPANS - len(store)))))
    return store, client


def after_a_burst() -> None:
    """The first list, and the first search, after 100,000 new spans."""
    _client(TraceStore()).get("/?q=x")
    taken: dict[str, list[tuple[float, float]]] = {"list": [], "search": []}
    for _ in range(BURSTS):
        _, client = _full()
        for name, path in (("list", "/"), ("search", "/?q=order.id%3DORD77")):
            start, busy = time.perf_counter(), time.thread_time()
            client.get(path)
            taken[name].append((time.perf_counter() - start, time.thread_time() - busy))
    for name, found in taken.items():
        wall, busy = (max(one) * 1000 for one in zip(*found, strict=True))
        print(
            f"first {name} after {SPANS:,} new spans: worst of {BURSTS} {wall:.1f} ms, "
            f"processor {busy:.1f} ms"
        )


def pages() -> None:
    """How long each page takes to render."""
    store, client = _full()
    trace_id = max(store.summaries(), key=lambda summary: summary.spans).trace_id
    trace = store.trace(trace_id)
    assert trace is not None
    print(
        f"{len(store):,} spans in {store.trace_count:,} traces, the largest of {len(trace.spans):,}"
    )

    works: dict[str, Callable[[], object]] = {
        "list": lambda: client.get("/"),
        "list, filtered": lambda: client.get("/?q=ORD77&status=ok&min=1"),
        "list, one id": lambda: client.get("/?q=order.id%3DORD77"),
        "list, three words": lambda: client.get("/?q=-nothing+http.route%3D/orders+name%3D"),
        "list, by duration": lambda: client.get("/?sort=-duration"),
        "largest trace": lambda: client.get(f"/trace/{trace_id}"),
        "search within it": lambda: client.get(f"/trace/{trace_id}/find.json?q=order.id%3DORD77"),
        "one span of it": lambda: client.get(f"/trace/{trace_id}/span/{trace.spans[99].span_id}"),
        "service map": lambda: client.get("/map"),
        "export": lambda: client.get(f"/trace/{trace_id}/export"),
        "version": lambda: client.get("/version"),
    }
    for name, work in works.items():
        work()
        middle, worst, busy = _milliseconds(work)
        print(
            f"{name:22} median {middle:6.1f} ms, worst of {ROUNDS} {worst:6.1f} ms, "
            f"processor {busy:6.1f} ms"
        )


if __name__ == "__main__":
    ingest()
    after_a_burst()
    pages()
    scrolling()
