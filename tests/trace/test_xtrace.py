"""Other propagators than W3C's, in HTTP headers and in gRPC metadata."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from typing import Any

import grpc
import pytest
from flask import Flask, g
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, get_current_span

from flask_bodytrace import BusinessIdGenerator, XTracePropagator

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
UUID = "0AF76519-16cd-43dd-8448-eb211c80319c"


@pytest.mark.parametrize(
    ("propagator", "headers"),
    [
        (B3SingleFormat(), {"b3": f"{TRACE}-{PARENT}-1"}),
        (B3MultiFormat(), {"x-b3-traceid": TRACE, "x-b3-spanid": PARENT, "x-b3-sampled": "1"}),
        (JaegerPropagator(), {"uber-trace-id": f"{TRACE}:{PARENT}:0:01"}),
        (XTracePropagator(), {"x-trace-id": TRACE, "x-span-id": PARENT}),
    ],
)
def test_a_configured_propagator_is_read_and_written(
    make_app: Callable[..., Flask],
    propagators: Callable[[TextMapPropagator], None],
    propagator: TextMapPropagator,
    headers: dict[str, str],
) -> None:
    propagators(propagator)
    app = make_app()

    @app.get("/")
    def view() -> list[Any]:
        return [g.trace.trace_id, g.trace.span_id, g.trace.parent_span_id, g.trace.headers()]

    found: Any = app.test_client().get("/", headers=headers).json
    trace_id, span_id, parent_id, sent = found
    assert (trace_id, parent_id) == (TRACE, PARENT)
    assert set(map(str.lower, sent)) >= set(headers)
    assert span_id in " ".join(sent.values())


def test_otel_propagators_names_ours_by_its_entry_point() -> None:
    script = (
        "from opentelemetry import propagate\n"
        "from flask import Flask, g\n"
        "from flask_bodytrace import BodyTrace\n"
        "print(*(type(p).__name__ for p in propagate.get_global_textmap()._propagators))\n"
        "app = Flask('x'); BodyTrace(app)\n"
        "app.add_url_rule('/', view_func=lambda: ' '.join(sorted(g.trace.headers())))\n"
        f"headers = {{'uber-trace-id': '{TRACE}:{PARENT}:0:1'}}\n"
        "print(app.test_client().get('/', headers=headers).text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"OTEL_PROPAGATORS": "xtrace,b3,jaeger"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "XTracePropagator B3SingleFormat JaegerPropagator",
        "b3 uber-trace-id x-span-id x-trace-id",
    ]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("group", "name", "loaded"),
    [
        ("opentelemetry_propagator", "xtrace", XTracePropagator),
        ("opentelemetry_id_generator", "bodytrace", BusinessIdGenerator),
    ],
)
def test_entry_points(group: str, name: str, loaded: type) -> None:
    (entry_point,) = entry_points(group=group, name=name)
    assert entry_point.load() is loaded


@pytest.mark.parametrize("written", [TRACE, TRACE.upper(), UUID, f" {TRACE} "])
def test_x_trace_id_is_read_without_being_configured(
    make_app: Callable[..., Flask],
    spans: Any,
    hex_ids: Callable[[Any], tuple[str, str, str | None]],
    written: str,
) -> None:
    app = make_app()
    app.add_url_rule("/", view_func=lambda: "")
    client = app.test_client()
    client.get("/", headers={"X-Trace-ID": written})
    client.get("/", headers={"X-Trace-ID": written, "X-Span-ID": PARENT.upper()})
    client.get("/", headers={"X-Trace-ID": written, "X-Span-ID": "nonsense"})
    alone, below, again = map(hex_ids, spans.all)
    assert [alone[0], below[0], again[0]] == [TRACE] * 3
    assert [alone[2], below[2], again[2]] == [None, PARENT, None]
    assert not spans.all[0].get_span_context().trace_flags.random_trace_id


def test_x_trace_id_with_another_id_generator_has_a_made_up_parent(
    make_app: Callable[..., Flask], hex_ids: Callable[[Any], tuple[str, str, str | None]]
) -> None:
    app = make_app(tracer_provider=TracerProvider(shutdown_on_exit=False))

    @app.get("/")
    def view() -> list[str | None]:
        return list(hex_ids(g.trace.span))

    found: Any = app.test_client().get("/", headers={"X-Trace-ID": TRACE}).json
    assert found[0] == TRACE
    assert found[2] is not None


@pytest.mark.parametrize(
    ("value", "correlation_id"),
    [
        ("req-42", "req-42"),
        ("x" * 500, "x" * 128),
        ("0" * 32, "0" * 32),
        (TRACE + "0", TRACE + "0"),
        ("two words", None),
        ("caf\xe9", None),
        ("", None),
        ("  ", None),
    ],
)
def test_other_values_are_a_correlation_id(
    make_app: Callable[..., Flask], value: str, correlation_id: str | None
) -> None:
    app = make_app()
    app.add_url_rule("/", view_func=lambda: {"found": g.trace.correlation_id})
    headers = {"X-Trace-ID": value, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    for chosen in (headers, {"X-Trace-ID": value}):
        assert app.test_client().get("/", headers=chosen).json == {"found": correlation_id}


def test_traceparent_wins_over_x_trace_id(
    make_app: Callable[..., Flask],
    spans: Any,
    hex_ids: Callable[[Any], tuple[str, str, str | None]],
) -> None:
    app = make_app()
    app.add_url_rule("/", view_func=lambda: "")
    headers = {"X-Trace-ID": "1" * 32, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    app.test_client().get("/", headers=headers)
    assert hex_ids(spans.server())[::2] == (TRACE, PARENT)


def test_the_propagator_alone() -> None:
    propagator = XTracePropagator()
    found = propagator.extract({"x-trace-id": UUID, "x-span-id": PARENT})
    context = get_current_span(found).get_span_context()
    assert (context.trace_id, context.span_id) == (int(TRACE, 16), int(PARENT, 16))
    assert context.is_remote
    assert dict(propagator.extract({})) == {}
    carrier: dict[str, str] = {}
    propagator.inject(carrier, Context())
    assert carrier == {}
    propagator.inject(carrier, found)
    assert carrier == {"x-trace-id": TRACE, "x-span-id": PARENT}
    assert set(carrier) == propagator.fields
    again = propagator.extract({"x-trace-id": "2" * 32}, found)
    assert get_current_span(again).get_span_context() == context


class Metadata(Getter[Any]):
    """gRPC metadata as a carrier: a sequence of pairs with lower-case keys."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        return [value for name, value in carrier if name == key] or None

    def keys(self, carrier: Any) -> list[str]:
        return [name for name, _ in carrier]


def test_from_flask_through_grpc_metadata_to_a_grpc_server(
    make_app: Callable[..., Flask],
    provider: TracerProvider,
    propagators: Callable[[TextMapPropagator], None],
    spans: Any,
    hex_ids: Callable[[Any], tuple[str, str, str | None]],
) -> None:
    propagators(XTracePropagator())
    tracer = provider.get_tracer("grpc")

    def stock(name: bytes, context: grpc.ServicerContext) -> bytes:
        parent = propagate.extract(context.invocation_metadata(), getter=Metadata())
        with tracer.start_as_current_span("Stock/Take", parent, SpanKind.SERVER):
            return name.upper()

    with ThreadPoolExecutor(2) as workers:
        server = grpc.server(workers)
        handler: Any = grpc.unary_unary_rpc_method_handler(stock)
        services = grpc.method_handlers_generic_handler("Stock", {"Take": handler})
        server.add_generic_rpc_handlers((services,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        app = make_app()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                take: Any = channel.unary_unary("/Stock/Take")

                @app.get("/")
                def view() -> bytes:
                    with tracer.start_as_current_span("call"):
                        metadata = tuple(g.trace.headers().items())
                        answer: bytes = take(b"shoe", metadata=metadata, timeout=10)
                        return answer

                response = app.test_client().get("/", headers={"X-Trace-ID": UUID})
        finally:
            server.stop(0).wait(10)
    assert response.data == b"SHOE"
    remote, call, root = (hex_ids(spans.one(name)) for name in ("Stock/Take", "call", "GET /"))
    assert {remote[0], call[0], root[0]} == {TRACE}
    assert remote[2] == call[1]
    assert call[2] == root[1]
    assert root[2] is None
