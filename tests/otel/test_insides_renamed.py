"""OpenTelemetry with its insides renamed or removed, one name at a time.

Each case runs in a process of its own. It renames one private name before this package is imported,
on the real SDK, and then asks for the same: requests answer, the span arrives with its attributes,
and X-Trace-ID is its id.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

# What the source of OpenTelemetry would look like with another name: the SDK itself goes on.
FIELDS = {
    "Tracer": ["_span_limits", "_instrumentation_scope", "_tracer_metrics", "_tracer_config"],
    "BoundedAttributes": ["_dict", "_lock", "_immutable", "dropped", "maxlen", "max_value_len"],
    "_Span": [
        *("_name", "_context", "_kind", "_parent", "_resource", "_instrumentation_info"),
        *("_instrumentation_scope", "_sampler", "_span_processor", "_limits", "_lock"),
        *("_attributes", "_start_time", "_end_time", "_status", "_events", "_links"),
        *("_record_exception", "_set_status_on_exception", "_record_end_metrics"),
        *("_new_links", "_new_events", "_readable_span"),
    ],
    "ParentBased": [
        *("_root", "_remote_parent_sampled", "_remote_parent_not_sampled"),
        *("_local_parent_sampled", "_local_parent_not_sampled"),
    ],
    "StaticSampler": ["_decision"],
    "SynchronousMultiSpanProcessor": ["_span_processors"],
    "TracerProvider": ["_active_span_processor", "_disabled"],
    "CompositePropagator": ["_propagators"],
    "TraceState": ["_dict"],
    "ContextVarsRuntimeContext": ["_current_context"],
    "BoundedList": ["_dq"],
}
MODULES = [
    "opentelemetry.trace.propagation:_SPAN_KEY",
    "opentelemetry.context:_RUNTIME_CONTEXT",
    "opentelemetry.context:_SUPPRESS_INSTRUMENTATION_KEY",
    "opentelemetry.context:_SUPPRESS_HTTP_INSTRUMENTATION_KEY",
    "opentelemetry.baggage:_BAGGAGE_KEY",
    "opentelemetry.sdk.trace:_Span",
    "opentelemetry.propagate:_HTTP_TEXT_FORMAT",
    "opentelemetry.metrics._internal:_METER_PROVIDER",
    "opentelemetry.attributes:BoundedAttributes",
    "opentelemetry.sdk.util:BoundedList",
    "opentelemetry.trace.span:DEFAULT_TRACE_STATE",
    "opentelemetry.exporter.otlp.proto.common.trace_encoder:encode_spans",
]
CASES = [f"{owner}.{name}" for owner, names in FIELDS.items() for name in names] + MODULES

# Rewrites the source of the modules that have the name, as a release that renames it would.
RUN = """
import importlib.abc, importlib.machinery, re, sys

name = sys.argv[1].rpartition(":")[2].rpartition(".")[2]
# These are also a module's and a parameter's name, which stay.
before = r"(?<=self\\.)" if name in {"_tracer_metrics", "maxlen"} else ""
renamed = re.compile(rf"{before}\\b{re.escape(name)}\\b")


class Renaming(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        source = self.get_data(self.get_filename(fullname)).decode()
        return compile(renamed.sub(name + "_renamed", source), self.get_filename(fullname), "exec")


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if not fullname.startswith("opentelemetry"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Renaming(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, Finder())

from flask import Flask, g, request
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_bodytrace import BodyTrace, BusinessIdGenerator

exporter = InMemorySpanExporter()
provider = TracerProvider(id_generator=BusinessIdGenerator())
provider.add_span_processor(SimpleSpanProcessor(exporter))
app = Flask("shop")
BodyTrace(app, tracer_provider=provider, ids="order.id=orderId", baggage=True, relay_calls=True)


@app.post("/orders/<n>")
def create(n):
    assert g.trace.ids == {"order.id": "ORD1"}
    assert request.get_json() and request.get_data()
    return "created"


client = app.test_client()
parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
more = {"tracestate": "vendor=value", "baggage": "a=b"}
for headers in ({}, {"traceparent": f"00-{parent[0]}-{parent[1]}-01"}, more):
    exporter.clear()
    answer = client.post("/orders/1", json={"orderId": "ORD1"}, headers=headers)
    assert (answer.status_code, answer.text) == (200, "created")
    (span,) = exporter.get_finished_spans()
    assert span.name == "POST /orders/<n>", span.name
    assert span.attributes["order.id"] == "ORD1"
    assert span.attributes["http.response.status_code"] == 200
    assert answer.headers["X-Trace-ID"] == f"{span.get_span_context().trace_id:032x}"
    assert answer.headers["X-Span-ID"] == f"{span.get_span_context().span_id:016x}"
    if "traceparent" in headers:
        assert answer.headers["X-Trace-ID"] == parent[0]
        assert f"{span.parent.span_id:016x}" == parent[1]
assert client.get("/nowhere").status_code == 404

unsampled = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
unsampled.add_span_processor(SimpleSpanProcessor(exporter))
keeping = Flask("shop")
BodyTrace(keeping, tracer_provider=unsampled, keep="errors")
exporter.clear()


@keeping.get("/failing")
def failing():
    with unsampled.get_tracer("shop").start_as_current_span("below"):
        return "", 500


assert keeping.test_client().get("/failing").status_code == 500
below, span = exporter.get_finished_spans()
assert (below.name, span.name) == ("below", "GET /failing")
assert span.get_span_context().trace_flags.sampled
assert span.attributes["bodytrace.kept"] == "error"

# By OTLP, with the encoder of this package and the official one: the same arrives.
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Official
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult
from flask_bodytrace.otlp.exporter import OTLPSpanExporter


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


with provider.get_tracer("shop").start_as_current_span("below", attributes={"a": ["x"]}) as one:
    one.add_event("event", {"b": 1})
    one.add_link(span.get_span_context(), {"c": 1.5})
received = []
with HTTPServer(("127.0.0.1", 0), Handler) as server:
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    for kind in (OTLPSpanExporter, Official):
        sender = kind(endpoint=url)
        assert sender.export(exporter.get_finished_spans()) is SpanExportResult.SUCCESS
        sender.shutdown()
    server.shutdown()
    thread.join()
ours, official = map(ExportTraceServiceRequest.FromString, received)
assert ours == official and "event" in str(ours), ours

plan = app.extensions["bodytrace"].plan
print("fast" if plan.fast is not None else f"sdk: {plan.why_not_fast}")
"""


def run(case: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, case],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_renamed_inside_costs_at_most_the_fast_path(case: str) -> None:
    done = run(case)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "logged once" not in done.stderr
    assert done.stdout.startswith(("fast", "sdk: "))


def test_nothing_renamed_is_the_fast_path() -> None:
    assert run("nothing:_at_all").stdout == "fast\n"


def test_a_renamed_field_of_spans_is_noticed() -> None:
    done = run("_Span._attributes")
    assert done.stdout.startswith("sdk: not written for this SDK"), done.stderr[-2000:]
