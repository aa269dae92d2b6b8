"""What strangers can make the viewer hold: memory, threads, locks."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
import requests

from flask_bodytrace.viewer import Span, TraceStore, server
from flask_bodytrace.viewer.model import Link
from flask_bodytrace.viewer.store import Limits, Trace
from tests.viewer.running import RunningViewer


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.5)
    made = server.make(port=0)
    with server.running(made):
        yield made.port


@pytest.mark.parametrize(
    "sent",
    [b"POST /v1/traces HT", b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nX-Slow: "],
    ids=["request line", "headers"],
)
def test_a_byte_now_and_then_holds_no_thread(running: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running), 20) as client:
        client.sendall(sent)
        client.settimeout(0.05)
        began = monotonic()
        closed = False
        while not closed and monotonic() - began < 20:
            try:
                client.sendall(b"x")
                closed = client.recv(100) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_finds_no_lock_held(make_span: Callable[..., Span]) -> None:
    store = TraceStore()
    stop = threading.Event()

    def add() -> None:
        number = 1
        while not stop.is_set():
            store.add([make_span(trace_id=f"{number:032x}")])
            number += 1

    thread = threading.Thread(target=add)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                # Whatever happens here must end the child.
                try:
                    threading.Timer(10, os._exit, [1]).start()
                    store.add([make_span(trace_id="f" * 32)])
                finally:
                    os._exit(0 if store.trace("f" * 32) is not None else 2)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        thread.join()


def test_a_resource_weighs_once_for_all_spans_of_a_trace(make_span: Callable[..., Span]) -> None:
    resource = {"service.name": "x", "note": "y" * 100_000}
    shared, own = TraceStore(Limits(bytes=1_000_000)), TraceStore(Limits(bytes=1_000_000))
    shared.add([make_span(resource=resource) for _ in range(50)])
    own.add([make_span(resource={**resource, "n": n}) for n in range(50)])
    assert len(shared) == 50
    assert len(own) < 10
    assert own.size <= 1_000_000


def test_a_small_gzip_takes_no_large_memory(viewer: object) -> None:
    import requests

    # 34 KB that would be 64 MiB of JSON.
    bomb = gzip.compress(b'{"resourceSpans":[' + b'{"scopeSpans":[]},' * 3_500_000 + b"{}]}", 9)
    tracemalloc.start()
    try:
        answer = requests.post(
            f"{viewer.url}/v1/traces",  # type: ignore[attr-defined]
            data=bomb,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
            timeout=60,
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 150 << 20


def test_links_to_a_large_trace_look_at_it_once(
    make_span: Callable[..., Span], viewer: RunningViewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [make_span(trace=2, id=number) for number in range(1, 1001)]
    link = Link(large[0].trace_id, large[0].span_id, {})
    span = make_span(trace=1, id=7000, links=[link] * 5000)
    viewer.store.add([*large, span])
    copied = []
    trace = TraceStore.trace

    def counted(store: TraceStore, trace_id: str) -> Trace | None:
        copied.append(trace_id)
        return trace(store, trace_id)

    monkeypatch.setattr(TraceStore, "trace", counted)
    page = requests.get(f"{viewer.url}/trace/{span.trace_id}/span/{span.span_id}", timeout=30)
    assert page.status_code == 200
    assert page.text.count(f"#s-{link.span_id}") == 5000
    assert copied.count(link.trace_id) == 0
