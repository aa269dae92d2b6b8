"""The exporter is the official one but for its encoder; over real sockets."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Official
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_bodytrace.otlp import exporter as exporter_module
from flask_bodytrace.otlp.exporter import OTLPSpanExporter


class Collector(ThreadingHTTPServer):
    """Takes spans, and answers with the statuses it is given, then with 200."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.asked = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"

    def names(self) -> list[str]:
        found = []
        for body in self.bodies:
            request = ExportTraceServiceRequest()
            request.ParseFromString(body)
            found += [
                span.name
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if status == 200:
            self.server.bodies.append(body)
        self.server.asked.set()
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def collecting(*statuses: int) -> Iterator[Collector]:
    with Collector(*statuses) as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def spans(*names: str) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for name in names:
        provider.get_tracer("test").start_span(name, attributes={"order.id": "ORD1"}).end()
    return list(exporter.get_finished_spans())


Exporter = Callable[..., Official]


@pytest.fixture(params=[Official, OTLPSpanExporter], ids=["official", "ours"])
def exporter(request: pytest.FixtureRequest) -> Exporter:
    kind: Exporter = request.param
    return kind


def test_spans_arrive_with_headers_and_compression(exporter: Exporter) -> None:
    with collecting() as collector:
        made: Any = exporter(
            endpoint=collector.url, headers={"x-tenant": "shop"}, compression=Compression.Gzip
        )
        assert made.export(spans("one", "two")) is SpanExportResult.SUCCESS
        made.shutdown()
    assert collector.names() == ["one", "two"]
    assert collector.headers[0]["x-tenant"] == "shop"
    assert collector.headers[0]["content-encoding"] == "gzip"
    assert collector.headers[0]["content-type"] == "application/x-protobuf"


def test_what_is_said_to_be_unavailable_is_tried_again(exporter: Exporter) -> None:
    with collecting(503) as collector:
        made: Any = exporter(endpoint=collector.url)
        assert made.export(spans("one")) is SpanExportResult.SUCCESS
        made.shutdown()
    assert collector.names() == ["one"]
    assert len(collector.headers) == 2


@pytest.mark.parametrize("status", [400, 401, 413])
def test_what_is_refused_is_not_tried_again(exporter: Exporter, status: int) -> None:
    with collecting(status) as collector:
        made: Any = exporter(endpoint=collector.url)
        assert made.export(spans("one")) is SpanExportResult.FAILURE
        made.shutdown()
    assert len(collector.headers) == 1


def test_nothing_is_exported_after_shutdown(exporter: Exporter) -> None:
    with collecting() as collector:
        made: Any = exporter(endpoint=collector.url)
        made.shutdown()
        assert made.export(spans("late")) is SpanExportResult.FAILURE
    assert collector.headers == []


def test_shutdown_ends_a_retry(exporter: Exporter) -> None:
    with collecting(*[502] * 50) as collector:
        made: Any = exporter(endpoint=collector.url)
        results: list[SpanExportResult] = []
        thread = threading.Thread(target=lambda: results.append(made.export(spans("one"))))
        thread.start()
        assert collector.asked.wait(20)
        made.shutdown()
        thread.join(30)
    assert results == [SpanExportResult.FAILURE]


def test_a_request_over_the_limit_is_not_sent(exporter: Exporter) -> None:
    with collecting() as collector:
        try:
            made: Any = exporter(endpoint=collector.url, max_request_size=10)
        except TypeError:
            pytest.skip("the official exporter has no max_request_size before 1.45")
        assert made.export(spans("one")) is SpanExportResult.FAILURE
        made.shutdown()
    assert collector.headers == []


def test_the_standard_variables_hold(monkeypatch: pytest.MonkeyPatch, exporter: Exporter) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.removesuffix("/v1/traces"))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop")
        made: Any = exporter()
        assert made.export(spans("one")) is SpanExportResult.SUCCESS
        made.shutdown()
    assert collector.names() == ["one"]
    assert collector.headers[0]["x-tenant"] == "shop"


def test_one_span_that_cannot_be_encoded_leaves_the_others() -> None:
    with collecting() as collector:
        made: Any = OTLPSpanExporter(endpoint=collector.url)
        assert made.export(spans("one", "\ud800", "two")) is SpanExportResult.SUCCESS
        made.shutdown()
    assert collector.names() == ["one", "two"]
    assert made.left_out == 1


def test_another_official_package_encodes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter_module, "_ENCODE", "encode_spans_renamed")
    with collecting() as collector:
        made: Any = OTLPSpanExporter(endpoint=collector.url)
        assert "does not call" in made.reason
        assert made.export(spans("one")) is SpanExportResult.SUCCESS
        made.shutdown()
    assert collector.names() == ["one"]


def test_the_official_export_keeps_the_defaults_of_its_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {**Official.export.__globals__, "official": Official.export}
    source = (
        "def export(self, spans, attempts=1, *, wait=0):\n"
        "    assert (attempts, wait) == (1, 0) and encode_spans\n"
        "    return official(self, spans)\n"
    )
    exec(source, names)  # noqa: S102 - as a release to come may be written
    monkeypatch.setattr(Official, "export", names["export"])
    with collecting() as collector:
        made: Any = OTLPSpanExporter(endpoint=collector.url)
        assert not made.reason
        assert made.export(spans("one")) is SpanExportResult.SUCCESS
        made.shutdown()
    assert collector.names() == ["one"]


def test_an_encoder_that_writes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flask_bodytrace.otlp.encode._LOCAL", b"")
    with collecting() as collector:
        made: Any = OTLPSpanExporter(endpoint=collector.url)
        assert made.reason == "the official encoder writes something else"
        assert made.export(spans("one")) is SpanExportResult.SUCCESS
        made.shutdown()
    assert collector.names() == ["one"]


def test_it_has_a_name_for_otel_traces_exporter() -> None:
    (entry_point,) = entry_points(group="opentelemetry_traces_exporter", name="otlp_bodytrace")
    assert entry_point.load() is OTLPSpanExporter


def test_the_sdks_own_configuration_finds_it_by_name() -> None:
    code = (
        "from opentelemetry.sdk._configuration import _OTelSDKConfigurator as C\n"
        "C().configure()\n"
        "from opentelemetry import trace\n"
        "trace.get_tracer('t').start_span('by name').end()\n"
        "trace.get_tracer_provider().shutdown()\n"
    )
    with collecting() as collector:
        subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "OTEL_TRACES_EXPORTER": "otlp_bodytrace",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/v1/traces"),
            },
            check=True,
            timeout=60,
        )
    assert collector.names() == ["by name"]
