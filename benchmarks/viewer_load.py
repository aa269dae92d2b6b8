"""Spans as exporters send them, for the benchmarks of the viewer."""

from __future__ import annotations

import os
import random
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

LARGEST = 10_000
PER_TRACE = 10
BATCH = 512
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
