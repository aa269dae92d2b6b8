"""``python -m benchmarks.viewer``: what the trace viewer takes in, and how fast it answers.

Measured with 100,000 spans in the store, one trace of 10,000 among them: ingest on one core through
the receiver, without the network; memory against the store's own account of it; and the time to
render each page.
"""

from __future__ import annotations

import gc
import gzip
import os
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable
from statistics import median
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from werkzeug.test import Client

from flask_bodytrace.viewer.access import Access
from flask_bodytrace.viewer.pages import Viewer
from flask_bodytrace.viewer.store import ALONE, Limits, TraceStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SPANS = 100_000
LARGEST = 10_000
PER_TRACE = 10
BATCH = 512
ROUNDS = 9
_chosen = random.Random(1)  # noqa: S311 - the same load every time


def batch(size: int, per_trace: int = PER_TRACE) -> bytes:
    """One export of the kind a batch span processor sends, of traces with this many spans."""
    request = ExportTraceServiceRequest()
    scopes = []
    for name in ("shop", "orders", "payments"):
        resource = request.resource_spans.add()
        resource.resource.attributes.append(_text("service.name", name))
        scopes.append(resource.scope_spans.add())
    now = time.time_ns()
    trace_id, ids = b"", [b""]
    for number in range(size):
        if number % per_trace == 0:
            trace_id, ids = os.urandom(16), [b""]
        span_id = os.urandom(8)
        start = now + number * 10_000
        span = scopes[number % 3].spans.add(
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=ids[0] if len(ids) < 2 else _chosen.choice(ids[1:]),
            name=f"POST /orders/{number % 7}",
            kind=2,
            start_time_unix_nano=start,
            end_time_unix_nano=start + _chosen.randrange(10**5, 10**8),
        )
        ids.append(span_id)
        span.attributes.extend(
            [
                _text("http.request.method", "POST"),
                _text("url.path", "/orders"),
                _text("http.route", "/orders"),
                _text("server.address", "localhost"),
                _text("user_agent.original", "python-requests/2.34.2"),
                _text("order.id", f"ORD{number}"),
                KeyValue(key="http.response.status_code", value=AnyValue(int_value=201)),
                KeyValue(key="server.port", value=AnyValue(int_value=8000)),
            ]
        )
    return request.SerializeToString()


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


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


def pages() -> None:
    """How long each page takes to render."""
    store = TraceStore(ALONE)
    client = _client(store)
    _send(client, gzip.compress(batch(LARGEST, LARGEST)))
    trace_id = store.summaries()[0].trace_id
    while len(store) < SPANS:
        _send(client, gzip.compress(batch(min(BATCH, SPANS - len(store)))))
    trace = store.trace(trace_id)
    assert trace is not None
    print(
        f"{len(store):,} spans in {store.trace_count:,} traces, the largest of {len(trace.spans):,}"
    )

    def everything_new() -> None:
        # As after a burst: no trace has been summed up yet.
        for kept in store._traces.values():
            kept.summary = None
        client.get("/")

    works: dict[str, Callable[[], object]] = {
        "list": lambda: client.get("/"),
        "list, every trace new": everything_new,
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
    pages()
