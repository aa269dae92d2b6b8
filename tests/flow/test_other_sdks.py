"""Tracer providers that others make: whatever object it is, it is called as the SDK would."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask, g
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter, default_setter
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    Span,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flask_bodytrace import BodyTrace

CALLER = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}


def app_with(provider: Any) -> Flask:
    app = Flask("shop")
    BodyTrace(app, tracer_provider=provider, ids="order.id=orderId", relay_calls=True)
    app.add_url_rule("/orders", "orders", lambda: g.trace.trace_id, methods=["POST"])
    return app


def post(app: Flask) -> str:
    answer = app.test_client().post("/orders", json={"orderId": "A"}, headers=CALLER)
    assert answer.status_code == 200
    assert answer.headers["X-Trace-ID"] == answer.text
    return answer.text


class Wrapper:
    """Hands everything on, and cannot be hashed, as Logfire's provider."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __eq__(self, other: object) -> bool:
        return other is self


@dataclass
class Propagator(TextMapPropagator):
    """Not hashable: dataclasses that compare are not."""

    inner: TextMapPropagator = field(default_factory=TraceContextTextMapPropagator)

    def extract(self, carrier: Any, context: Any = None, getter: Any = default_getter) -> Context:
        return self.inner.extract(carrier, context, getter)

    def inject(self, carrier: Any, context: Any = None, setter: Any = default_setter) -> None:
        self.inner.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        return self.inner.fields


@pytest.mark.parametrize("composed", [False, True])
def test_a_propagator_that_cannot_be_hashed(composed: bool) -> None:
    propagator: TextMapPropagator = Propagator()
    if composed:
        propagator = CompositePropagator([propagator])
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(propagator)
    try:
        assert post(app_with(TracerProvider(shutdown_on_exit=False))) == "1" * 32
    finally:
        propagate.set_global_textmap(before)


def test_a_provider_that_cannot_be_hashed() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    assert post(app_with(Wrapper(provider))) == "1" * 32
    assert [span.name for span in exporter.get_finished_spans()] == ["POST /orders"]


class Noting(SpanProcessor):
    def __init__(self) -> None:
        self.noted: list[str] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        self.noted.append("start")

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002 - the SDK's interface
        self.noted.append("end")


def on_the_instance(processor: Noting) -> SpanProcessor:
    """As Traceloop does, whom `make traceloop` meets: its own `on_start` around the processor's."""
    inner = processor.on_start

    def on_start(span: Span, parent_context: Context | None = None) -> None:
        processor.noted.append("own start")
        inner(span, parent_context)

    processor.on_start = on_start  # type: ignore[method-assign]
    return processor


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda noting: noting, ["start", "end"]),
        (on_the_instance, ["own start", "start", "end"]),
        (Wrapper, ["start", "end"]),
    ],
    ids=["plain", "on the instance", "wrapped"],
)
@pytest.mark.parametrize("active", [None, ConcurrentMultiSpanProcessor])
def test_processors_are_called_as_the_sdk_calls_them(
    made: Any, expected: list[str], active: Any
) -> None:
    noting = Noting()
    multi = None if active is None else active()
    provider = TracerProvider(active_span_processor=multi, shutdown_on_exit=False)
    provider.add_span_processor(made(noting))
    app = app_with(provider)
    post(app)
    assert noting.noted == expected
    provider.shutdown()


def test_a_processor_may_change_what_has_ended() -> None:
    """As Traceloop's `span_postprocess_callback`, which hides what must not be exported."""
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    inner = processor.on_end

    def on_end(span: ReadableSpan) -> None:
        attributes: Any = span._attributes
        assert attributes._immutable
        attributes._immutable = False
        attributes["order.id"] = "hidden"
        attributes._immutable = True
        inner(span)

    processor.on_end = on_end  # type: ignore[method-assign]
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    app = app_with(provider)
    assert app.extensions["bodytrace"].plan.fast is not None
    post(app)
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["order.id"] == "hidden"


def test_a_patched_processor_class_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    noting = Noting()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(noting)
    app = app_with(provider)
    monkeypatch.setattr(Noting, "on_end", lambda self, _span: self.noted.append("patched end"))
    post(app)
    assert noting.noted == ["start", "patched end"]


def test_the_end_of_a_dropped_response_waits_for_no_pool() -> None:
    """ConcurrentMultiSpanProcessor hands spans to threads, which are gone with the application."""
    code = """
import gc
from flask import Flask, Response
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, TracerProvider
from flask_bodytrace import BodyTrace

def serve(closed):
    app = Flask("shop")
    provider = TracerProvider(active_span_processor=ConcurrentMultiSpanProcessor())
    BodyTrace(app, tracer_provider=provider)
    app.add_url_rule("/", "view", lambda: Response(iter(["a", "b"])))
    from werkzeug.test import EnvironBuilder
    iterable = app(EnvironBuilder().get_environ(), lambda *_: None)
    next(iter(iterable))
    if closed:
        iterable.close()

serve(False)
gc.collect()
serve(True)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("done\n", "")


LOGFIRE = """
import logfire
from flask import Flask, g
from flask_bodytrace import BodyTrace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
logfire.configure(
    send_to_logfire=False, console=False, distributed_tracing=True,
    additional_span_processors=[SimpleSpanProcessor(exporter)],
)
app = Flask("shop")
BodyTrace(app, ids="order.id=orderId")
app.add_url_rule("/orders", "orders", lambda: g.trace.trace_id, methods=["POST"])
headers = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
answer = app.test_client().post("/orders", json={"orderId": "A"}, headers=headers)
(span,) = exporter.get_finished_spans()
print(answer.status_code, answer.text, span.name, span.attributes["order.id"])
"""


def test_logfires_provider() -> None:
    pytest.importorskip("logfire")
    done = subprocess.run(
        [sys.executable, "-c", LOGFIRE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"200 {'1' * 32} POST /orders A\n", done.stderr
