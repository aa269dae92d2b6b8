"""Encoding spans for OTLP: us against the official exporters' encoders, by shape of span."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fastotel import OTLPSpanProcessor
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans as encode_json
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind

from flask_bodytrace.otlp.exporter import OTLPSpanExporter

from . import sink

BATCH = 512
"""Spans in one request, as BatchSpanProcessor makes them."""
OURS = "flask_bodytrace"
OFFICIAL = "official protobuf"
FASTOTEL = "fastotel, sent"
REFERENCE = "server span, 15 attributes"
SHAPES = {
    "5 attributes": (5, 0),
    REFERENCE: (15, 0),
    "40 attributes": (40, 0),
    "15 attributes, 2 events, 1 link": (15, 2),
}


def batch(attributes: int, events: int, first: int = 0) -> Sequence[ReadableSpan]:
    """Spans of one service: trace and business ids differ, most of the rest repeats.

    :param first: numbers the orders, so that no batch repeats another one's.
    """
    exporter = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource.create({"service.name": "shop"}), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop", "1.0", "https://opentelemetry.io/schemas/1.36.0")
    for number in range(first, first + BATCH):
        values: dict[str, Any] = {
            "order.id": f"ORD-{number:09}",
            "user.id": f"U-{number % 97:06}",
            "http.request.method": "POST",
            "http.route": f"/orders/{number % 7}",
            "http.response.status_code": 200,
            "url.path": f"/orders/{number}",
            "url.scheme": "https",
            "server.address": "shop.example.com",
            "server.port": 443,
            "client.address": f"10.0.{number % 13}.{number % 200}",
            "network.peer.address": "10.0.0.1",
            "network.peer.port": 32_768 + number % 28_000,
            "network.protocol.version": "1.1",
            "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126",
            "url.query": "currency=EUR",
        }
        values |= {f"shop.attribute.{each}": f"value {each % 5}" for each in range(25)}
        kept = dict(list(values.items())[:attributes])
        links = [Link(SpanContext(number + 1, 7, is_remote=True), {"why": "batch"})]
        span = tracer.start_span(
            "POST /orders/<id>", kind=SpanKind.SERVER, attributes=kept, links=links[: events // 2]
        )
        for each in range(events):
            span.add_event("stock reserved", {"sku": f"SKU-{number % 50}", "number": each})
        span.end()
    return exporter.get_finished_spans()


def encoders(endpoint: str) -> dict[str, Callable[[Sequence[ReadableSpan]], object]]:
    """By name, functions that serialise spans; fastotel's sends them too, it cannot be parted."""
    exporter = OTLPSpanExporter()
    if exporter.reason:
        raise RuntimeError(exporter.reason)
    processor = OTLPSpanProcessor(
        endpoint=endpoint, max_queue_size=2 * BATCH, max_export_batch_size=2 * BATCH
    )

    def send(spans: Sequence[ReadableSpan]) -> None:
        for span in spans:
            processor.on_end(span)
        if not processor.force_flush():
            raise RuntimeError("fastotel did not send")

    return {
        OFFICIAL: lambda spans: encode_spans(spans).SerializePartialToString(),
        "official JSON": lambda spans: encode_json(spans).to_json().encode(),
        FASTOTEL: send,
        OURS: exporter._bodytrace_encoder.request,
    }


def measure(*, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of a span by shape and encoder: the minimum of interleaved rounds."""
    results: dict[str, dict[str, float]] = {}
    with sink.running() as variables:
        made = encoders(variables["BENCH_HTTP"] + "/v1/traces")
        for shape, (attributes, events) in SHAPES.items():
            best = dict.fromkeys(made, float("inf"))
            for number in range(rounds):
                spans = batch(attributes, events, number * BATCH)
                for name, encode in made.items():
                    start = time.process_time_ns()
                    encode(spans)
                    best[name] = min(best[name], time.process_time_ns() - start)
            results[shape] = {name: took / BATCH / 1000 for name, took in best.items()}
    return results
