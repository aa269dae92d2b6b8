"""The application under measurement, bare and behind every tracer there is to compare.

The reference request: a JSON POST of 1 KB with two business ids and an incoming traceparent, to a
view that parses it and answers with JSON. Exporters and transports of all tracers discard what
they get, so that only what happens on the request's own path is compared.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flask import Flask, request
from opentelemetry import metrics, propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
IDS = "order.id=orderId,user.id=userId"
SAMPLERS = {
    "always": ParentBased(ALWAYS_ON),
    "never": ALWAYS_OFF,
    "1%": ParentBased(TraceIdRatioBased(0.01)),
}
RATES = {"always": 1.0, "never": 0.0, "1%": 0.01}


class NullExporter(SpanExporter):
    """Discards spans."""

    def export(self, spans: object) -> SpanExportResult:  # noqa: ARG002 - the interface has it
        """Say that all went well."""
        return SpanExportResult.SUCCESS


def document(size: int) -> bytes:
    """A JSON order of exactly `size` bytes, its two ids where clients put them: first."""
    item = {"sku": "SKU-000000", "name": "A thing of some kind", "quantity": 2, "price": 12.5}
    order: dict[str, Any] = {"orderId": "ORD-2024-000123", "userId": "U-10001"}
    items = max(0, size - 120) // (len(json.dumps(item)) + 2)
    order["items"] = [{**item, "sku": f"SKU-{number:06}"} for number in range(items)]
    order["note"] = ""
    order["note"] = "x" * (size - len(json.dumps(order)))
    return json.dumps(order).encode()


def environ(body: bytes, flags: str = "01") -> dict[str, Any]:
    """What a server makes of the reference request, but for its ``wsgi.input``.

    :param flags: of the incoming traceparent; empty for none at all.
    """
    made = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/orders/17",
        "QUERY_STRING": "currency=EUR",
        "RAW_URI": "/orders/17?currency=EUR",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": "shop.example.com:8080",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0",
        "HTTP_ACCEPT": "application/json",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate",
        "HTTP_CONNECTION": "keep-alive",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn",
        "REMOTE_ADDR": "10.0.0.7",
        "REMOTE_PORT": "51234",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    if flags:
        made["HTTP_TRACEPARENT"] = f"00-{TRACE_ID}-00f067aa0ba902b7-{flags}"
    return made


def caller(application: Wsgi, template: dict[str, Any], body: bytes) -> Callable[[], bytes]:
    """A function that sends one request and gives back the response's body."""

    def start_response(status: str, *_: object) -> None:
        if not status.startswith("200"):
            raise RuntimeError(status)

    def call() -> bytes:
        # A buffered reader, as sockets have: a BytesIO would be shared by us without a copy.
        reader = io.BufferedReader(io.BytesIO(body))
        iterable = application({**template, "wsgi.input": reader}, start_response)
        try:
            return b"".join(iterable)
        finally:
            iterable.close()  # type: ignore[attr-defined]

    return call


def shop() -> Flask:
    """The application, bare."""
    app = Flask("shop")

    @app.post("/orders/<int:number>")
    def create(number: int) -> dict[str, Any]:
        order = request.get_json()
        return {"number": number, "order": order["orderId"], "user": order["userId"]}

    @app.post("/echo/<int:number>")
    def echo(number: int) -> dict[str, Any]:
        return {"number": number, **request.get_json()}

    @app.post("/take")
    def take() -> dict[str, Any]:
        return {"bytes": len(request.get_data())}

    @app.get("/ping")
    def ping() -> dict[str, Any]:
        return {}

    return app


def bare(_sampler: str) -> Flask:
    """No tracing."""
    return shop()


def hooks(_sampler: str) -> Flask:
    """Bare, with a hook before each request and one after it that do nothing."""
    app = shop()
    app.before_request(lambda: None)
    app.after_request(lambda response: response)
    return app


def span(sampler: str) -> Flask:
    """A span by hand in the view: context extracted, seven attributes, nothing else."""
    app = Flask("shop")
    tracer = _provider(sampler).get_tracer("shop")

    @app.post("/orders/<int:number>")
    def create(number: int) -> dict[str, Any]:
        order = request.get_json()
        attributes = {
            "http.request.method": request.method,
            "url.scheme": request.scheme,
            "url.path": request.path,
            "http.route": "/orders/<int:number>",
            "http.response.status_code": 200,
            "order.id": order["orderId"],
            "user.id": order["userId"],
        }
        with tracer.start_as_current_span(
            "POST /orders/<int:number>",
            context=propagate.extract(request.headers),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
        ):
            return {"number": number, "order": order["orderId"], "user": order["userId"]}

    return app


def span_only(sampler: str) -> Flask:
    """The same span without looking for an incoming context, which starts its own trace."""
    app = Flask("shop")
    tracer = _provider(sampler).get_tracer("shop")

    @app.post("/orders/<int:number>")
    def create(number: int) -> dict[str, Any]:
        order = request.get_json()
        attributes = {
            "http.request.method": "POST",
            "url.scheme": "http",
            "url.path": "/orders/17",
            "http.route": "/orders/<int:number>",
            "http.response.status_code": 200,
            "order.id": order["orderId"],
            "user.id": order["userId"],
        }
        with tracer.start_as_current_span("POST /orders/<int:number>", attributes=attributes):
            return {"number": number, "order": order["orderId"], "user": order["userId"]}

    return app


def otel_wsgi(sampler: str) -> Wsgi:
    """OpenTelemetry's WSGI middleware."""
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

    _semantic_conventions()
    return OpenTelemetryMiddleware(shop(), tracer_provider=_provider(sampler))


def otel_flask(sampler: str) -> Flask:
    """OpenTelemetry's Flask instrumentation."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    _semantic_conventions()
    app = shop()
    FlaskInstrumentor().instrument_app(app, tracer_provider=_provider(sampler))
    return app


def elastic(sampler: str) -> Flask:
    """Elastic APM, capturing bodies."""
    from elasticapm.contrib.flask import ElasticAPM

    app = shop()
    config: dict[str, Any] = {
        "SERVICE_NAME": "shop",
        "CAPTURE_BODY": "all",
        "TRANSACTION_SAMPLE_RATE": RATES[sampler],
        "CLOUD_PROVIDER": "none",
        "CENTRAL_CONFIG": False,
        "METRICS_INTERVAL": "0ms",
    }
    if _sends():
        config["SERVER_URL"] = os.environ["BENCH_HTTP"]
    else:
        config["TRANSPORT_CLASS"] = "benchmarks.elastic_transport.Discard"
    app.config["ELASTIC_APM"] = config
    agent = ElasticAPM(app)
    if _sends():
        unsent.append(agent.client._transport.flush)
    return app


def sentry(sampler: str) -> Flask:
    """Sentry with its Flask integration, tracing on."""
    import sentry_sdk
    from sentry_sdk.integrations.flask import FlaskIntegration
    from sentry_sdk.transport import Transport

    class Discard(Transport):
        def capture_envelope(self, envelope: object) -> None:
            pass

    service = os.environ["BENCH_HTTP"].removeprefix("http://") if _sends() else "127.0.0.1:9"
    sentry_sdk.init(
        dsn=f"http://key@{service}/1",
        transport=None if _sends() else Discard,
        # With its usual 100, it drops nearly half of what comes at once.
        transport_queue_size=10_000,
        integrations=[FlaskIntegration()],
        traces_sample_rate=RATES[sampler],
    )
    unsent.append(partial(sentry_sdk.flush, 60))
    return shop()


def datadog(sampler: str) -> Flask:
    """ddtrace, patching Flask; telemetry and remote configuration off."""
    os.environ |= {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
        "DD_TRACE_SAMPLING_RULES": json.dumps([{"sample_rate": RATES[sampler]}]),
    }
    if _sends():
        os.environ["DD_TRACE_AGENT_URL"] = os.environ["BENCH_HTTP"]
    from ddtrace import patch
    from ddtrace.internal.writer.writer import TraceWriter
    from ddtrace.trace import tracer

    class Discard(TraceWriter):
        def recreate(self, *_: object, **__: object) -> Any:
            return self

        def stop(self, timeout: float | None = None) -> None:
            pass

        def write(self, spans: object = None) -> None:
            pass

        def flush_queue(self) -> None:
            pass

    if _sends():
        unsent.append(tracer._span_aggregator.writer.flush_queue)
    else:
        tracer._span_aggregator.writer = Discard()
    patch(flask=True)
    return shop()


def ours(sampler: str) -> Flask:
    """This package with two ids, all else as it comes."""
    return _ours(sampler, ids=IDS)


def ours_full(sampler: str) -> Flask:
    """This package with every feature that a request can pay for but captured bodies."""
    return _ours(sampler, **_FULL, capture_body="errors")


_FULL: dict[str, Any] = {
    "ids": IDS,
    "id_hash": "user.id",
    "hash_key": "a secret",
    "trace_key": "order.id",
    "baggage": True,
    "logs": True,
    "response_headers": "x-trace,server-timing,traceresponse",
    "excluded_urls": "/health,/static/.*",
    "relay_calls": True,
}


def ours_capturing(sampler: str) -> Flask:
    """This package with two ids, and the bodies of every request and answer on the span."""
    return _ours(sampler, ids=IDS, capture_body="always", capture_response="always")


def ours_everything(sampler: str) -> Flask:
    """This package with every feature that a request can pay for, captured bodies too."""
    return _ours(sampler, **_FULL, capture_body="always", capture_response="always")


def _ours(sampler: str, **settings: Any) -> Flask:
    from flask_bodytrace import BodyTrace

    app = shop()
    BodyTrace(app, tracer_provider=_provider(sampler), **settings)
    return app


def _sends() -> bool:
    """Whether a peer sends to the sink, by its own protocol."""
    return os.environ.get("BENCH_EXPORT") == "own"


def _provider(sampler: str) -> TracerProvider:
    from flask_bodytrace import BusinessIdGenerator

    provider = TracerProvider(sampler=SAMPLERS[sampler], id_generator=BusinessIdGenerator())
    provider.add_span_processor(_processor(os.environ.get("BENCH_EXPORT", "")))
    unsent.append(provider.force_flush)
    return provider


unsent: list[Callable[[], object]] = []
"""Of the application made here: sends what is still to be sent, and waits until it is."""


def _processor(export: str) -> SpanProcessor:
    """What takes the spans: nobody, or the sink by one of the ways there are."""
    http = os.environ.get("BENCH_HTTP", "") + "/v1/traces"
    if export == "fastotel":
        from fastotel import OTLPSpanProcessor

        return OTLPSpanProcessor(endpoint=http)
    exporter: SpanExporter = NullExporter()
    if export == "official":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=http)
    elif export == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcExporter,
        )

        exporter = GrpcExporter(endpoint=os.environ["BENCH_GRPC"], insecure=True)
    elif export == "json":
        from opentelemetry.exporter.otlp.json.http.trace_exporter import (
            OTLPSpanExporter as JsonExporter,
        )

        exporter = JsonExporter(endpoint=http)
    elif export == "own":
        from flask_bodytrace.otlp.exporter import OTLPSpanExporter as OwnExporter

        exporter = OwnExporter(endpoint=http)
    return BatchSpanProcessor(exporter)


def _semantic_conventions() -> None:
    # The stable HTTP conventions, which are the ones we write.
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"


SUBJECTS: dict[str, Callable[[str], Wsgi]] = {
    "bare": bare,
    "hooks": hooks,
    "span": span,
    "span_only": span_only,
    "otel_wsgi": otel_wsgi,
    "otel_flask": otel_flask,
    "elastic": elastic,
    "sentry": sentry,
    "datadog": datadog,
    "ours": ours,
    "ours_full": ours_full,
    "ours_capturing": ours_capturing,
    "ours_everything": ours_everything,
}

LABELS = {
    "bare": "bare Flask",
    "span": "hand-written span",
    "span_only": "hand-written span, no extraction",
    "otel_wsgi": "OpenTelemetryMiddleware",
    "otel_flask": "OpenTelemetry Flask instrumentation",
    "elastic": "elastic-apm, bodies captured",
    "sentry": "sentry-sdk",
    "datadog": "ddtrace",
    "ours": "flask_bodytrace, defaults and two ids",
    "ours_full": "flask_bodytrace, every feature on but captured bodies",
    "ours_everything": "flask_bodytrace, every feature on",
}


def make(name: str, sampler: str = "always", *, metered: bool = False) -> Wsgi:
    """The application behind the subject `name`, or behind one of the agents that capture bodies.

    :param metered: whether a meter provider is there to take the metrics.
    """
    if metered:
        metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    if name in SUBJECTS:
        return SUBJECTS[name](sampler)
    from . import agents

    return agents.AGENTS[name]()
