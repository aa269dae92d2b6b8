"""gRPC: the trace goes through the metadata, failures are failures."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from example_app.discovery.static_directory import StaticDirectory
from example_app.failures import CallFailed
from example_app.rpc import GrpcService, Method, serving_grpc
from flask_bodytrace import XTracePropagator
from flask_bodytrace.testing import SpanRecorder


class Ask(msgspec.Struct):
    order_id: str
    text: str = ""


class Reply(msgspec.Struct):
    text: str


ECHO = Method("example.Echo", "Say", Ask, Reply)
release = threading.Event()


def say(ask: Ask) -> Reply:
    if ask.text == "fail":
        raise LookupError
    if ask.text == "hang":
        release.wait(20)
    return Reply(ask.text)


@contextmanager
def echo(
    propagator: TextMapPropagator, timeout_s: float = 20
) -> Iterator[tuple[GrpcService, SpanRecorder, TracerProvider]]:
    recorder = SpanRecorder()

    class Recording(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            recorder.add(span)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Recording())
    tracer = provider.get_tracer("test")
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([propagator, W3CBaggagePropagator()]))
    try:
        with serving_grpc({ECHO: say}, "127.0.0.1:0", tracer) as port:
            directory = StaticDirectory({"echo": f"127.0.0.1:{port}"})
            with closing(GrpcService("echo", directory, tracer, timeout_s)) as service:
                yield service, recorder, provider
    finally:
        release.set()
        propagate.set_global_textmap(before)
        release.clear()


@pytest.mark.parametrize("propagator", [TraceContextTextMapPropagator(), XTracePropagator()])
def test_the_trace_goes_through_the_metadata(propagator: TextMapPropagator) -> None:
    with echo(propagator) as (service, spans, provider):
        token = context.attach(baggage.set_baggage("user.label", "canary"))
        with provider.get_tracer("test").start_as_current_span("order"):
            assert service.call(ECHO, Ask("A1", "hé")) == Reply("hé")
        context.detach(token)

    # The server ends its span after the client has its answer; the server is stopped by now.
    by_kind = {span.kind: span for span in spans.named("example.Echo/Say")}
    spans.assert_child(by_kind[SpanKind.CLIENT], of="order")
    server = spans.assert_child(by_kind[SpanKind.SERVER], of=by_kind[SpanKind.CLIENT])
    spans.assert_ids(server, {"order.id": "A1", "user.label": "canary", "rpc.method": "Say"})
    for span in by_kind.values():
        assert (span.attributes or {})["rpc.grpc.status_code"] == 0


@pytest.mark.parametrize(("text", "code"), [("fail", "UNKNOWN"), ("hang", "DEADLINE_EXCEEDED")])
def test_a_call_that_fails_is_said_to(text: str, code: str) -> None:
    with echo(TraceContextTextMapPropagator(), timeout_s=0.3) as (service, spans, _):
        with pytest.raises(CallFailed, match=f"echo: {code}"):
            service.call(ECHO, Ask("A1", text))
        release.set()
    client = next(span for span in spans.finished if span.kind is SpanKind.CLIENT)
    assert (client.attributes or {})["error.type"] == code
    assert not client.status.is_ok


def test_a_service_that_is_not_there_is_unavailable() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    directory = StaticDirectory({"echo": "127.0.0.1:9"})
    with (
        closing(GrpcService("echo", directory, tracer, 20)) as service,
        pytest.raises(CallFailed, match="echo: UNAVAILABLE"),
    ):
        service.call(ECHO, Ask("A1"))
