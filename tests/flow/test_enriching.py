"""Server spans that OpenTelemetry's own instrumentation starts are enriched, not doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, g
from opentelemetry.instrumentation.flask import FlaskInstrumentor as Instrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from flask_bodytrace import BodyTrace, current_trace

# It has no types of its own.
FlaskInstrumentor: Any = Instrumentor

BODY = {"orderId": "A"}
SETTINGS: dict[str, Any] = {"ids": "order.id=orderId,item=path:item", "baggage": True}


def shop(provider: TracerProvider) -> Flask:
    app = Flask("shop")
    tracer = provider.get_tracer("app")

    @app.post("/orders/<item>")
    def order(item: str) -> Response:
        with tracer.start_as_current_span("work"):
            trace = current_trace()
            assert trace is not None
            found = {
                "span": g.trace.span_id,
                "same": trace.span_id == g.trace.span_id,
                "ids": dict(g.trace.ids),
                "baggage": g.trace.headers()["baggage"],
            }
        assert item == "shoe"
        return Response(iter([json.dumps(found)]), mimetype="application/json")

    @app.get("/fails")
    def fails() -> str:
        return str(1 // 0)

    return app


def check(app: Any, spans: Any, *, name: str) -> None:
    """One server span: theirs, with our ids, as parent of what happens inside."""
    response = app.test_client().post("/orders/shoe", json=BODY)
    found: Any = response.get_json()
    servers = [span for span in spans.all if span.kind is SpanKind.SERVER]
    assert [span.name for span in servers] == [name]
    context = servers[0].get_span_context()
    assert found == {
        "span": f"{context.span_id:016x}",
        "same": True,
        "ids": {"order.id": "A", "item": "shoe"},
        "baggage": "order.id=A,item=shoe",
    }
    assert response.headers.getlist("X-Span-ID") == [found["span"]]
    assert response.headers["X-Trace-ID"] == f"{context.trace_id:032x}"
    assert servers[0].attributes["order.id"] == "A"
    assert servers[0].attributes["item"] == "shoe"
    assert servers[0].instrumentation_scope.name != "flask_bodytrace"
    assert spans.one("work").parent.span_id in {context.span_id, *inner_ids(spans)}


def inner_ids(spans: Any) -> set[int]:
    return {s.get_span_context().span_id for s in spans.all if s.kind is SpanKind.INTERNAL}


@pytest.fixture
def instrumented(provider: TracerProvider) -> Iterator[Callable[[Flask], None]]:
    apps: list[Flask] = []

    def instrument(app: Flask) -> None:
        FlaskInstrumentor.instrument_app(app, tracer_provider=provider)
        apps.append(app)

    yield instrument
    for app in apps:
        FlaskInstrumentor.uninstrument_app(app)


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_the_flask_instrumentation_on_one_app(
    provider: TracerProvider, spans: Any, instrumented: Callable[[Flask], None], first: str
) -> None:
    app = shop(provider)
    if first == "theirs":
        instrumented(app)
    BodyTrace(app, tracer_provider=provider, **SETTINGS)
    if first == "ours":
        instrumented(app)
    check(app, spans, name="POST /orders/<item>")


def test_the_flask_instrumentation_on_every_app(provider: TracerProvider, spans: Any) -> None:
    instrumentor = FlaskInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        import flask

        assert flask.Flask is not Flask
        app = flask.Flask("replaced")
        BodyTrace(app, tracer_provider=provider, ids="order.id=orderId")
        app.add_url_rule("/", view_func=lambda: g.trace.span_id, methods=["POST"])
        response = app.test_client().post("/", json=BODY)
    finally:
        instrumentor.uninstrument()
    span = spans.server()
    assert response.text == f"{span.get_span_context().span_id:016x}"
    assert span.attributes["order.id"] == "A"


def test_once_it_is_off_again_the_span_is_ours(provider: TracerProvider, spans: Any) -> None:
    app = shop(provider)
    BodyTrace(app, tracer_provider=provider, **SETTINGS)
    FlaskInstrumentor.instrument_app(app, tracer_provider=provider)
    FlaskInstrumentor.uninstrument_app(app)
    app.test_client().post("/orders/shoe", json=BODY).close()
    assert spans.server().instrumentation_scope.name == "flask_bodytrace"


def test_what_streams_after_their_span_has_ended_still_belongs_to_it(
    provider: TracerProvider, spans: Any, instrumented: Callable[[Flask], None]
) -> None:
    app = Flask("streams")
    tracer = provider.get_tracer("app")
    instrumented(app)
    BodyTrace(app, tracer_provider=provider)

    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[bytes]:
            for _ in range(2):
                with tracer.start_as_current_span("chunk"):
                    trace = current_trace()
                    assert trace is not None
                    chunk = trace.span_id.encode()
                yield chunk

        return Response(chunks())

    response = app.test_client().get("/")
    server = spans.server().get_span_context().span_id
    assert response.text == f"{server:016x}" * 2
    parents = [span.parent.span_id for span in spans.all if span.name == "chunk"]
    assert parents == [server] * 2


def test_hooks_before_theirs_find_no_trace_yet_and_do_no_harm(
    provider: TracerProvider, spans: Any, instrumented: Callable[[Flask], None]
) -> None:
    app = shop(provider)
    seen: list[str] = []
    app.url_value_preprocessor(lambda _endpoint, _values: seen.append(g.trace.trace_id))
    app.before_request(lambda: seen.append(g.trace.trace_id))
    instrumented(app)
    app.before_request(lambda: seen.append(g.trace.trace_id))
    BodyTrace(app, tracer_provider=provider, **SETTINGS)
    check(app, spans, name="POST /orders/<item>")
    trace_id = f"{spans.server().get_span_context().trace_id:032x}"
    assert seen == ["0" * 32, "0" * 32, trace_id]


@pytest.mark.parametrize("path", ["/fails", "/nowhere"])
def test_errors_are_theirs_to_record_and_ours_to_name(
    provider: TracerProvider, spans: Any, instrumented: Callable[[Flask], None], path: str
) -> None:
    app = shop(provider)
    instrumented(app)
    BodyTrace(app, tracer_provider=provider)
    response = app.test_client().get(path)
    span = spans.server()
    assert response.headers["X-Span-ID"] == f"{span.get_span_context().span_id:016x}"
    assert sum(event.name == "exception" for event in span.events) <= 1


def test_what_they_exclude_is_not_traced_by_us(provider: TracerProvider, spans: Any) -> None:
    app = shop(provider)
    BodyTrace(app, tracer_provider=provider)
    FlaskInstrumentor.instrument_app(app, tracer_provider=provider, excluded_urls="orders")
    response = app.test_client().post("/orders/shoe", json=BODY)
    assert [span.name for span in spans.all] == ["work"]
    assert "X-Trace-ID" not in response.headers


def test_the_wsgi_middleware_around_us(provider: TracerProvider, spans: Any) -> None:
    app = shop(provider)
    BodyTrace(app, tracer_provider=provider, **SETTINGS)
    app.wsgi_app = OpenTelemetryMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, tracer_provider=provider
    )
    check(app, spans, name="POST /orders/<item>")
    assert spans.server().attributes["http.route"] == "/orders/<item>"


def test_the_wsgi_middleware_inside_of_us_is_no_second_server(
    provider: TracerProvider, spans: Any
) -> None:
    app = shop(provider)
    app.wsgi_app = OpenTelemetryMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, tracer_provider=provider
    )
    BodyTrace(app, tracer_provider=provider, **SETTINGS)
    app.test_client().post("/orders/shoe", json=BODY).close()
    assert spans.server().name == "POST /orders/<item>"
    assert spans.server().attributes["order.id"] == "A"


SCRIPT = """
import json, sys
import flask
from flask_bodytrace import BodyTrace

app = flask.Flask("shop")
BodyTrace(app, ids="order.id=orderId")

@app.post("/")
def view():
    return flask.g.trace.span_id

client = app.test_client()
print("answer", client.post("/", json={"orderId": "A"}).text)
"""


def test_opentelemetry_instrument(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SCRIPT)
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    done = subprocess.run(
        [command, sys.executable, "shop.py"],
        cwd=tmp_path,
        env={
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "PATH": str(command.parent),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answered = done.stdout.split("answer ", 1)[1][:16]
    exported = done.stdout.replace(f"answer {answered}\\n", "")
    decoder = json.JSONDecoder()
    found = []
    start = exported.find("{")
    while start >= 0:
        span, end = decoder.raw_decode(exported, start)
        found.append(span)
        start = exported.find("{", end)
    servers = [span for span in found if span["kind"] == "SpanKind.SERVER"]
    assert [span["context"]["span_id"] for span in servers] == [f"0x{answered}"]
    assert servers[0]["attributes"]["order.id"] == "A"
    assert "detach" not in done.stderr
