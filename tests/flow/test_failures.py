"""Whatever goes wrong with tracing, the application's answer stays what it was."""

from __future__ import annotations

import gc
import logging
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, g, request
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from werkzeug.routing import BaseConverter
from werkzeug.serving import make_server

from flask_bodytrace import BodyTrace, current_trace
from flask_bodytrace.flask import attach
from flask_bodytrace.flow import begin, exchange
from flask_bodytrace.otel.fast_span import FastSpan, FastTracer
from flask_bodytrace.otel.keeping import keeping
from flask_bodytrace.trace import attributes as spans
from flask_bodytrace.trace.header_writer import HeaderWriter


class Unexpected(Exception):
    """What a broken piece of tracing raises."""


def fail(*_: Any, **__: Any) -> Any:
    raise Unexpected


class BrokenSampler(Sampler):
    should_sample = fail

    def get_description(self) -> str:
        return "broken"


class BrokenStart(SpanProcessor):
    on_start = fail


class BrokenEnding(SpanProcessor):
    _on_ending = fail


class BrokenEnd(SpanProcessor):
    on_end = fail


Break = Callable[[pytest.MonkeyPatch, Any], None]


def patched(target: Any, name: str) -> Break:
    return lambda patch, _plan: patch.setattr(target, name, fail)


BREAKS: dict[str, Break] = {
    "sampler": lambda _patch, plan: setattr(plan.tracer, "sampler", BrokenSampler()),
    "processor start": lambda _patch, plan: plan.provider.add_span_processor(BrokenStart()),
    "processor ending": lambda _patch, plan: plan.provider.add_span_processor(BrokenEnding()),
    "processor end": lambda _patch, plan: plan.provider.add_span_processor(BrokenEnd()),
    "incoming": patched(begin, "only_traceparent"),
    "start": patched(FastTracer, "start"),
    "attributes": patched(spans, "request_attributes"),
    "baggage": patched(exchange, "with_ids"),
    "bind": patched(attach, "bind"),
    "fast attribute": patched(FastSpan, "set_attribute"),
    "name": patched(FastSpan, "update_name"),
    "record exception": patched(Span, "record_exception"),
    "set status": patched(Span, "set_status"),
    "end": patched(FastSpan, "end"),
    "span name": patched(spans, "span_name"),
    "outcome": patched(spans, "set_error"),
    "headers": patched(HeaderWriter, "write"),
}


@pytest.mark.parametrize("stage", BREAKS)
# T01
def test_tracing_that_fails_changes_no_answer(
    stage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    app = Flask("answers")
    BodyTrace(
        app,
        tracer_provider=provider,
        ids="order.id=orderId,item=path:item",
        baggage=True,
        response_headers="x-trace,server-timing",
    )
    # Not before: what fails there already only switches the fast path off.
    BREAKS[stage](monkeypatch, app.extensions["bodytrace"].plan)
    app.logger.disabled = True

    @app.post("/orders/<item>")
    def order(item: str) -> dict[str, Any]:
        trace = current_trace()
        assert trace is not None
        assert len(g.trace.trace_id) == 32
        assert g.trace.headers() is not None
        once, again = request.get_json(), request.stream.read()
        return {"item": item, "once": once, "again": again.decode()}

    @app.get("/stream")
    def stream() -> Response:
        return Response(iter([b"a", b"b"]))

    @app.get("/fails")
    def fails() -> str:
        return str(1 // 0)

    client = app.test_client()
    for _ in range(2):
        response = client.post("/orders/shoe", json={"orderId": "A"})
        assert response.json == {
            "item": "shoe",
            "once": {"orderId": "A"},
            "again": '{"orderId": "A"}',
        }
        assert client.get("/stream").data == b"ab"
        assert client.get("/fails").status_code == 500
        assert client.get("/nowhere").status_code == 404
    reports = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert reports
    assert len({record.getMessage() for record in reports}) == len(reports)
    assert all(record.name == "flask_bodytrace" for record in reports)
    assert all(record.exc_info and record.exc_info[0] is Unexpected for record in reports)


class Unpredictable(Sampler):
    """Samples nothing; nobody can say so beforehand, so the SDK makes the spans."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return ALWAYS_OFF.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "unpredictable"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, Unpredictable()], ids=["fast", "by the SDK"])
@pytest.mark.parametrize("stage", BREAKS)
# T01
def test_nothing_of_a_request_is_left_where_tracing_failed(
    stage: str,
    sampler: Sampler,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    app = Flask("left")
    app.logger.disabled = True
    BodyTrace(app, tracer_provider=provider, meter_provider=meters, keep="errors")
    app.add_url_rule("/", "fine", lambda: "")
    app.add_url_rule("/fails", "fails", lambda: str(1 // 0))
    BREAKS[stage](monkeypatch, app.extensions["bodytrace"].plan)
    for path in ("/", "/fails", "/nowhere"):
        app.test_client().get(path).close()
    assert keeping(provider).held_by == {}
    assert keeping(provider).count == 0
    data: Any = reader.get_metrics_data()
    active = [
        point.value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "http.server.active_requests"
        for point in metric.data.data_points
    ]
    assert set(active) <= {0}
    meters.shutdown()
    assert all(record.name == "flask_bodytrace" for record in caplog.records)


class BrokenPropagator(TextMapPropagator):
    extract = fail
    inject = fail
    fields: Any = frozenset()


# T01
def test_a_propagator_that_fails_changes_no_answer(
    make_app: Callable[..., Flask],
    propagators: Callable[[TextMapPropagator], None],
    caplog: pytest.LogCaptureFixture,
    spans: Any,
) -> None:
    propagators(BrokenPropagator())
    app = make_app()
    app.add_url_rule(
        "/", view_func=lambda: request.get_data() + request.get_data(), methods=["POST"]
    )
    for _ in range(2):
        assert app.test_client().post("/", data=b"body").data == b"bodybody"
        assert spans.server().parent is None
        spans.clear()
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_the_propagators_beside_one_that_fails_are_asked(
    make_app: Callable[..., Flask], propagators: Callable[[TextMapPropagator], None], spans: Any
) -> None:
    propagators(CompositePropagator([BrokenPropagator(), TraceContextTextMapPropagator()]))
    app = make_app()
    app.test_client().get("/", headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    assert spans.server().parent.span_id == int("2" * 16, 16)


# T01
def test_a_trust_callable_that_fails_changes_no_answer_and_trusts_nobody(
    make_app: Callable[..., Flask], spans: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(incoming=fail)
    app.add_url_rule(
        "/", view_func=lambda: request.get_data() + request.get_data(), methods=["POST"]
    )
    sent = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    for _ in range(2):
        assert app.test_client().post("/", data=b"body", headers=sent).data == b"bodybody"
        assert spans.server().parent is None
        spans.clear()
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_a_url_that_breaks_its_converter_is_traced(
    make_app: Callable[..., Flask], spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(BaseConverter):
        to_python = fail

    app = make_app(ids="order.id=orderId", id_hash="order.id", hash_key="k", trace_key="order.id")
    monkeypatch.setattr(app.logger, "disabled", True)
    app.url_map.converters["breaks"] = Breaks
    app.add_url_rule("/<breaks:it>", view_func=lambda it: it, methods=["POST"])
    assert app.test_client().post("/x", json={"orderId": "1"}).status_code == 500
    assert spans.server().attributes["error.type"].endswith("Unexpected")


# T01
def test_the_body_is_released_after_a_failed_begin(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    kept: list[Any] = []

    @app.post("/")
    def view() -> str:
        kept.append(request.stream)
        return ""

    monkeypatch.setattr(begin, "read_caller", fail)
    app.test_client().post("/", data=b"body").close()
    with pytest.raises(ValueError, match="over"):
        kept[0].read()


@pytest.mark.parametrize("variable", ["true", "TRUE"])
def test_otel_sdk_disabled(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", variable)
    app = Flask("disabled")
    BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False), ids="orderId")

    @app.post("/")
    def view() -> dict[str, Any]:
        return {"ids": dict(g.trace.ids), "sampled": g.trace.sampled, "out": g.trace.headers()}

    client = app.test_client()
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    alone = client.post("/", json={"orderId": "A"})
    below = client.post("/", json={"orderId": "A"}, headers=caller)
    assert alone.json == {"ids": {"orderId": "A"}, "sampled": False, "out": {}}
    # The caller's context passes through, and nobody claims its span.
    assert below.json == {"ids": {"orderId": "A"}, "sampled": True, "out": caller}
    for response in (alone, below):
        assert not {"X-Trace-ID", "X-Span-ID"} & set(dict(response.headers))


# Exporters


@pytest.fixture(params=["gone", "silent", "refusing"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "refusing":
        refuse = Flask("refuse")
        refuse.add_url_rule("/v1/traces", view_func=lambda: ("no", 503), methods=["POST"])
        server = make_server("127.0.0.1", 0, refuse, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.port}/v1/traces"
        server.shutdown()
        thread.join(10)
        server.server_close()
        return
    # Accepts and never answers; or, closed, is not even there.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        port = listener.getsockname()[1]
        if request.param == "gone":
            listener.close()
        yield f"http://127.0.0.1:{port}/v1/traces"


def timed(client: Any, times: int) -> float:
    """The median of `times` requests, seconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        client.post("/", json={"orderId": "A"})
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def living_spans() -> int:
    gc.collect()
    return sum(issubclass(type(thing), ReadableSpan) for thing in gc.get_objects())


def test_a_collector_that_is_gone_silent_or_refusing_is_not_felt(
    endpoint: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    apps = []
    reader: Any = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint, timeout=1)
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=64,
        max_export_batch_size=16,
        schedule_delay_millis=10,
        meter_provider=meters,
    )
    for processors in ([processor], []):
        provider = TracerProvider(shutdown_on_exit=False)
        for each in processors:
            provider.add_span_processor(each)
        app = Flask("exports")
        BodyTrace(app, tracer_provider=provider, ids="orderId")
        app.add_url_rule("/", view_func=lambda: "", methods=["POST"])
        apps.append(app.test_client())
    exporting, plain = apps
    timed(exporting, 100)
    timed(plain, 100)
    # Ratios of medians in one run, alternating, so that a busy machine slows both.
    ratios = [timed(exporting, 60) / timed(plain, 60) for _ in range(5)]
    assert min(ratios) < 3
    before = living_spans()
    timed(exporting, 300)
    # What is in the queue and in the batch being exported comes and goes; no more is kept.
    assert living_spans() - before <= 64 + 16
    exporter.shutdown()  # type: ignore[no-untyped-call]
    processor.shutdown()  # type: ignore[no-untyped-call]
    dropped = [
        point.value
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "otel.sdk.processor.span.processed"
        for point in metric.data.data_points
        if point.attributes.get("error.type") == "queue_full"
    ]
    # A refusal comes fast enough for the queue to stay short; silence does not.
    assert dropped or request.node.callspec.params["endpoint"] != "silent"
    # 700 spans were made in all; what is logged goes by batches, and not by spans.
    problems = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 0 < len(problems) < 700 / 8
    meters.shutdown()
