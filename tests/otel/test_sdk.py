"""The SDK that is set up from the standard variables where nobody else did."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, g
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from flask_bodytrace import BodyTrace
from flask_bodytrace.otel import sdk

START = """
import threading
from flask import Flask, g
from opentelemetry import trace
from flask_bodytrace import BodyTrace

app = Flask("shop")
app.add_url_rule("/", view_func=lambda: g.trace.trace_id)
"""


def script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", START + text],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_any_variable_there_is_a_provider_and_no_exporter() -> None:
    done = script(
        "BodyTrace(app)\n"
        "assert app.test_client().get('/').text != '0' * 32\n"
        "provider = trace.get_tracer_provider()\n"
        "print(provider.resource.attributes['service.name'],"
        " len(provider._active_span_processor._span_processors), threading.active_count())\n"
    )
    assert (done.stdout, done.stderr) == ("shop 0 1\n", "")


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_SERVICE_NAME": "named"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=named,service.version=2"},
    ],
)
def test_the_service_has_its_name_from_the_variables(environment: dict[str, str]) -> None:
    done = script(
        "BodyTrace(app)\nprint(trace.get_tracer_provider().resource.attributes['service.name'])\n",
        **environment,
    )
    assert done.stdout == "named\n"


def test_the_console_exporter_prints_each_span_as_it_ends() -> None:
    done = script(
        "BodyTrace(app)\nprint('before', flush=True)\napp.test_client().get('/')\nprint('after')\n",
        OTEL_TRACES_EXPORTER="console",
    )
    before, rest = done.stdout.split("before\n")
    span, after = rest.split("after\n")
    assert (before, after) == ("", "")
    assert json.loads(span)["name"] == "GET /"


@pytest.mark.parametrize("exporter", ["otlp", "zipkin", "otlp,zipkin"])
def test_no_thread_before_the_first_sampled_span_has_ended(exporter: str) -> None:
    done = script(
        "BodyTrace(app)\n"
        "client = app.test_client()\n"
        "counts = [threading.active_count()]\n"
        "client.get('/', headers={'traceparent': f'00-{1:032x}-{1:016x}-00'})\n"
        "counts.append(threading.active_count())\n"
        "client.get('/')\n"
        "client.get('/')\n"
        "counts.append(threading.active_count())\n"
        "print(counts, flush=True)\n"
        # Nobody listens: no waiting for what cannot be delivered.
        "import os\n"
        "os._exit(0)\n",
        OTEL_TRACES_EXPORTER=exporter,
    )
    assert done.stdout == f"[1, 1, {2 + exporter.count(',')}]\n", done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "fix"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "install"),
        ("OTEL_PYTHON_ID_GENERATOR", "xray", "install"),
    ],
)
def test_what_is_not_installed_is_said_at_start(variable: str, value: str, fix: str) -> None:
    done = script("BodyTrace(app)\n", **{variable: value})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "ConfigError" in last
    assert f"{variable}='{value}'" in last
    assert fix in last


@pytest.mark.parametrize("value", ["", "none"])
def test_none_is_no_exporter(value: str) -> None:
    done = script(
        "BodyTrace(app)\n"
        "print(len(trace.get_tracer_provider()._active_span_processor._span_processors))\n",
        OTEL_TRACES_EXPORTER=value,
    )
    assert done.stdout == "0\n"


def test_a_provider_that_is_set_already_is_used() -> None:
    done = script(
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "provider = TracerProvider()\n"
        "trace.set_tracer_provider(provider)\n"
        "BodyTrace(app)\n"
        "print(app.extensions['bodytrace'].plan.provider is provider)\n",
        OTEL_TRACES_EXPORTER="nonsense",
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_disabled_sdk_needs_no_id_generator() -> None:
    done = script(
        "BodyTrace(app, ids='orderId', trace_key='orderId')\n"
        "print(app.test_client().get('/').text)\n",
        OTEL_SDK_DISABLED="true",
    )
    assert (done.stdout, done.stderr) == ("0" * 32 + "\n", "")


class Counting(SpanProcessor):
    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []
        self.stopped = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def shutdown(self) -> None:
        self.stopped += 1


def test_processors_made_at_the_same_time_leave_one() -> None:
    together = threading.Barrier(2)
    made: list[Counting] = []

    def make() -> SpanProcessor:
        together.wait(10)
        made.append(Counting())
        return made[-1]

    deferred = sdk.DeferredProcessor(make)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(deferred)
    tracer = provider.get_tracer("tests")
    threads = [threading.Thread(target=lambda: tracer.start_span("s").end()) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted((len(each.ended), each.stopped) for each in made) == [(0, 1), (2, 0)]
    provider.shutdown()
    assert sorted(each.stopped for each in made) == [1, 1]


@pytest.fixture
def given() -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def test_a_provider_that_is_given_comes_first(given: TracerProvider, spans: Any) -> None:
    given.add_span_processor(SimpleSpanProcessor(spans))
    app = Flask("given")
    BodyTrace(app, tracer_provider=given)
    app.add_url_rule("/", view_func=lambda: g.trace.trace_id)
    app.test_client().get("/")
    assert spans.server()


WHICH = (
    "from flask_bodytrace.otel.processors import exporter_of, processors_of\n"
    "BodyTrace(app)\n"
    "app.test_client().get('/')\n"
    "(deferred,) = processors_of(trace.get_tracer_provider())\n"
    "exporter = exporter_of(deferred._made['processor'])\n"
    "print(type(exporter).__module__, getattr(exporter, 'reason', None))\n"
    "trace.get_tracer_provider().shutdown()\n"
)
NOBODY = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}


@pytest.mark.parametrize(
    ("environment", "module"),
    [
        ({}, "flask_bodytrace.otlp.exporter "),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "flask_bodytrace.otlp.exporter "),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "flask_bodytrace.otlp.exporter "),
        (
            {"FLASK_BODYTRACE_OTLP_ENCODER": "0"},
            "opentelemetry.exporter.otlp.proto.http.trace_exporter None",
        ),
    ],
    ids=["endpoint", "name", "protocol", "off"],
)
def test_otlp_over_http_has_our_encoder_unless_it_is_off(
    environment: dict[str, str], module: str
) -> None:
    done = script(WHICH, **NOBODY, **environment)
    assert done.stdout == f"{module}\n", done.stderr


@pytest.mark.parametrize("broken", ["None", "type(sys)('encode')"])
def test_an_encoder_that_cannot_be_imported_leaves_the_official_exporter(broken: str) -> None:
    before = f"import sys\nsys.modules['flask_bodytrace.otlp.encode'] = {broken}\n"
    done = script(before + WHICH, **NOBODY)
    assert done.stdout == "opentelemetry.exporter.otlp.proto.http.trace_exporter None\n"
    assert "spans are encoded by OpenTelemetry's own exporter: " in done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_TRACES_EXPORTER": "otlp"},
            "OTEL_TRACES_EXPORTER='otlp' is not installed (there is: console, ",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1"},
            "OTEL_EXPORTER_OTLP_ENDPOINT: exporter 'otlp' is not installed",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon", "OTEL_TRACES_EXPORTER": "otlp"},
            "OTEL_EXPORTER_OTLP_PROTOCOL='carrier-pigeon' is not accepted: use one of",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "many", "OTEL_TRACES_EXPORTER": "otlp"},
            "OTEL_BSP_MAX_QUEUE_SIZE='many' is not accepted",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_TRACES_EXPORTER": "otlp"},
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=512 is more than OTEL_BSP_MAX_QUEUE_SIZE=100",
        ),
        *(
            ({variable: "health,*"}, f"{variable} has '*', which is no regular expression")
            for variable in (
                "OTEL_PYTHON_FLASK_EXCLUDED_URLS",
                "OTEL_PYTHON_EXCLUDED_URLS",
                "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
                "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
            )
        ),
    ],
    ids=[
        *("signal protocol", "endpoint", "unknown protocol", "no number", "batch over queue"),
        *("Flask's exclusions", "exclusions", "request headers", "response headers"),
    ],
)
def test_variables_that_cannot_work_are_said_at_start(
    environment: dict[str, str], words: str
) -> None:
    done = script("BodyTrace(app)\n", **environment)
    assert done.returncode == 1
    assert f"ConfigError: {words}" in done.stderr


@pytest.mark.parametrize(
    ("environment", "fix"),
    [
        ({}, "flask-bodytrace[otlp]"),
        ({"OTEL_TRACES_EXPORTER": "otlp_bodytrace"}, "flask-bodytrace[otlp]"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "opentelemetry-exporter-otlp-proto-grpc"),
    ],
)
def test_what_to_install_for_an_exporter_is_said(environment: dict[str, str], fix: str) -> None:
    without = "import sys\nsys.modules['opentelemetry.exporter'] = None\nBodyTrace(app)\n"
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    last = script(without, **{**endpoint, **environment}).stderr.splitlines()[-1]
    assert last.startswith("flask_bodytrace.exceptions.ConfigError: OTEL_")
    assert last.endswith(f": pip install '{fix}'")
    assert "otlp_bodytrace," not in last, "it does nothing by itself"


def test_a_name_that_only_contains_service_name_is_none() -> None:
    done = script(
        "BodyTrace(app)\nprint(trace.get_tracer_provider().resource.attributes['service.name'])\n",
        OTEL_RESOURCE_ATTRIBUTES="peer.service.name=other",
    )
    assert done.stdout == "shop\n"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "('order.number', 'user')"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "bodytrace.ids=a%2Cb"}, "a,b"),
    ],
)
def test_the_resource_says_which_attributes_are_business_ids(
    environment: dict[str, str], told: str
) -> None:
    done = script(
        "BodyTrace(app, ids={'order.number': 'orderNumber', 'user': 'userId'})\n"
        "print(trace.get_tracer_provider().resource.attributes['bodytrace.ids'])\n",
        **environment,
    )
    assert done.stdout == f"{told}\n", done.stderr


def test_a_span_that_ends_after_shutdown_starts_nothing() -> None:
    made: list[SpanProcessor] = []

    def make() -> SpanProcessor:
        made.append(SpanProcessor())
        return made[-1]

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sdk.DeferredProcessor(make))
    span = provider.get_tracer("test").start_span("late")
    provider.shutdown()
    span.end()
    assert made == []
